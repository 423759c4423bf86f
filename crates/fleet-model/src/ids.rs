//! Identifiers that cannot be wrong: each has private contents and one checked way in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Why a text is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {problem}")]
pub struct IdError {
    what: &'static str,
    value: String,
    problem: &'static str,
}

impl IdError {
    fn new(what: &'static str, value: &str, problem: &'static str) -> Self {
        let mut value: String = value.chars().take(80).collect();
        value.shrink_to_fit();
        Self { what, value, problem }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> Result<(), IdError> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

text_id!(
    /// A device's name: the lower-case base32hex fingerprint of its public key, 52 characters for SHA-256.
    /// At least 16 characters of `0-9a-v`, as the agent protocol demands.
    DeviceName,
    |text| {
        let ok = (16..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'v'));
        if ok { Ok(()) } else { Err(IdError::new("device name", text, "is not a key fingerprint (16 to 64 characters of 0-9 and a-v)")) }
    }
);

text_id!(
    /// The name of a resource: a DNS-1123 subdomain of at most 253 characters.
    ResourceName,
    |text| {
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !text.is_empty() && text.len() <= 253 && text.split('.').all(label_ok) {
            Ok(())
        } else {
            Err(IdError::new("name", text, "is not a DNS-1123 subdomain (lower-case letters, digits, '-' and '.', at most 253 characters)"))
        }
    }
);

text_id!(
    /// A Git commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits.
    CommitId,
    |text| {
        let ok = matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if ok { Ok(()) } else { Err(IdError::new("commit id", text, "is not 40 or 64 lower-case hex digits")) }
    }
);

impl CommitId {
    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// An organisation. There is one, the default, until organisations are managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrgId(uuid::Uuid);

impl OrgId {
    /// The organisation that always exists; its id is part of the agent protocol.
    pub const DEFAULT: Self = Self(uuid::Uuid::nil());

    /// The id as a UUID.
    pub fn as_uuid(&self) -> uuid::Uuid {
        self.0
    }
}

impl From<uuid::Uuid> for OrgId {
    fn from(id: uuid::Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A SHA-256 content address. Text form: `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hex digits, without the algorithm's name.
    pub fn hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// The first 12 hex digits, for people and for names of revisions.
    pub fn short(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..6])
    }
}

impl From<[u8; 32]> for Digest {
    fn from(raw: [u8; 32]) -> Self {
        Self(raw)
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = IdError;
    fn try_from(raw: &[u8]) -> Result<Self, IdError> {
        raw.try_into().map(Self).map_err(|_| IdError::new("digest", "", "is not 32 bytes long"))
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::new("digest", text, "is not sha256: and 64 lower-case hex digits");
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let raw = data_encoding::HEXLOWER.decode(hex.as_bytes()).map_err(|_| bad())?;
        raw.as_slice().try_into().map(Self).map_err(|_| bad())
    }
}

impl TryFrom<String> for Digest {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.short())
    }
}

/// The counter of rendered documents of one device. It never goes backwards. Decimal text on the wire; 0 means
/// "nothing yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RenderedVersion(i64);

impl RenderedVersion {
    /// No document yet.
    pub const ZERO: Self = Self(0);

    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for RenderedVersion {
    type Error = IdError;
    fn try_from(number: i64) -> Result<Self, IdError> {
        if number >= 0 {
            Ok(Self(number))
        } else {
            Err(IdError::new("rendered version", &number.to_string(), "is negative"))
        }
    }
}

impl FromStr for RenderedVersion {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::new("rendered version", text, "is not a whole number from 0 to 9223372036854775807");
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        text.parse().map(Self).map_err(|_| bad())
    }
}

impl TryFrom<String> for RenderedVersion {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<RenderedVersion> for String {
    fn from(version: RenderedVersion) -> String {
        version.0.to_string()
    }
}

impl fmt::Display for RenderedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_their_alphabet_are_refused() {
        for bad in ["", "Berlin", "-a", "a-", "a..b", "a_b", &"a".repeat(254)] {
            assert!(bad.parse::<ResourceName>().is_err(), "{bad:?}");
        }
        for good in ["a", "berlin-1", "a.b.c"] {
            assert!(good.parse::<ResourceName>().is_ok(), "{good:?}");
        }
        assert!("r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg".parse::<DeviceName>().is_ok());
        assert!("../../etc/passwd".parse::<DeviceName>().is_err());
    }

    #[test]
    fn digests_survive_their_text_form() {
        let digest = Digest::of(b"shorebase");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert!("sha256:zz".parse::<Digest>().is_err());
    }

    #[test]
    fn a_version_is_a_plain_decimal_number() {
        for bad in ["", "-1", "+1", "1.0", "9223372036854775808", " 1"] {
            assert!(bad.parse::<RenderedVersion>().is_err(), "{bad:?}");
        }
        assert_eq!("7".parse::<RenderedVersion>().map(RenderedVersion::get), Ok(7));
    }
}
