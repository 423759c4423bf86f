//! The token of a forge, read from its file whenever it is used.

use std::path::Path;

use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use crate::{ForgeError, ForgeErrorKind, ForgeKind};

/// No token is longer.
const MAX_BYTES: usize = 4_096;

/// A token. It does not print and is wiped from memory.
pub(crate) struct Token(Zeroizing<String>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Token {
    /// Reads the first line of a file.
    pub(crate) async fn read(file: &Path) -> Result<Self, ForgeError> {
        let denied = |problem: String| ForgeError::new(ForgeErrorKind::Denied, problem);
        let bytes = tokio::fs::read(file).await.map(Zeroizing::new);
        let bytes = bytes.map_err(|error| denied(format!("cannot read the token file {}: {error}", file.display())))?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.len() > MAX_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(denied(format!("the token file {} does not hold one line with a token", file.display())));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The header that carries it.
    pub(crate) fn header(&self, kind: ForgeKind) -> (&'static str, HeaderValue) {
        let (name, text) = match kind {
            ForgeKind::GitHub => ("authorization", Zeroizing::new(format!("Bearer {}", *self.0))),
            ForgeKind::GitLab => ("private-token", self.0.clone()),
            ForgeKind::Gitea => ("authorization", Zeroizing::new(format!("token {}", *self.0))),
        };
        let mut value = HeaderValue::from_str(&text).expect("only graphic ASCII is taken as a token");
        value.set_sensitive(true);
        (name, value)
    }

    /// A text of the host without the token, should it repeat it.
    pub(crate) fn out_of(&self, text: &str) -> String {
        text.replace(self.0.as_str(), "***")
    }
}
