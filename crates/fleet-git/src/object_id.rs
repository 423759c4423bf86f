//! The id of a Git object.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an object id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an object id: 40 lower-case hex digits are expected")]
pub struct ObjectIdError(String);

/// The id of a blob, tree or submodule commit: a SHA-1 name, 40 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId([u8; 20]);

impl ObjectId {
    /// The 20 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    pub(crate) fn to_gix(self) -> gix::ObjectId {
        gix::ObjectId::from(self.0)
    }

    pub(crate) fn from_gix(id: &gix::oid) -> Self {
        let mut raw = [0; 20];
        let bytes = id.as_bytes();
        let length = bytes.len().min(20);
        raw[..length].copy_from_slice(&bytes[..length]);
        Self(raw)
    }
}

impl FromStr for ObjectId {
    type Err = ObjectIdError;

    fn from_str(text: &str) -> Result<Self, ObjectIdError> {
        let bad = || ObjectIdError(text.chars().take(80).collect());
        if text.len() != 40 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad());
        }
        gix::ObjectId::from_hex(text.as_bytes()).map(|id| Self::from_gix(&id)).map_err(|_| bad())
    }
}

impl TryFrom<String> for ObjectId {
    type Error = ObjectIdError;

    fn try_from(text: String) -> Result<Self, ObjectIdError> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> String {
        id.to_string()
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form_and_nothing_else_is_an_id() {
        let text = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        assert_eq!(text.parse::<ObjectId>().unwrap().to_string(), text);
        for bad in ["", "e69de29", "E69DE29BB2D1D6434B8B29AE775AD8C2E48C5391", "--upload-pack=x"] {
            assert!(bad.parse::<ObjectId>().is_err(), "{bad:?}");
        }
    }
}
