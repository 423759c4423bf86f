//! Absolute paths on the device, checked once.

use std::fmt;

use fleet_model::Digest;
use serde::{Deserialize, Serialize};

/// How names of files that are being written begin; nothing else on a device is called so.
pub(crate) const TEMPORARY_PREFIX: &str = ".fleet-agent.";

/// Why a text is not a path the agent works with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {path:?} {problem}")]
pub struct PathError {
    path: String,
    problem: &'static str,
}

/// An absolute path without `.`, `..`, empty components, NUL bytes or a slash at its end, at most 4096 bytes long.
/// It is meant below the root that a [`Disk`](crate::Disk) was opened at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(String);

impl FilePath {
    /// Checks `path`.
    ///
    /// # Errors
    /// Names the rule that is broken.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        let bad = |problem| Err(PathError { path: path.chars().take(200).collect(), problem });
        if path.len() > 4096 {
            return bad("is longer than 4096 bytes");
        }
        let Some(rest) = path.strip_prefix('/') else { return bad("is not absolute") };
        for component in rest.split('/') {
            match component {
                "" => return bad("has an empty component"),
                "." | ".." => return bad("has a . or .. component"),
                long if long.len() > 255 => return bad("has a component of more than 255 bytes"),
                name if name.contains('\0') => return bad("holds a NUL byte"),
                name if name.starts_with(TEMPORARY_PREFIX) => {
                    return bad("has a component that begins with .fleet-agent., which the agent keeps for itself");
                }
                _ => {}
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// A path of the agent's own, known to be well formed.
    pub(crate) fn own(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// The path as text, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below the root, without the leading slash.
    pub(crate) fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// The directory it lies in; `None` when that is the root itself.
    pub(crate) fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some(("", _)) | None => None,
            Some((parent, _)) => Some(Self(parent.to_owned())),
        }
    }

    /// The last component.
    pub(crate) fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// A path one level deeper.
    pub(crate) fn join(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0))
    }

    /// Where the next contents of this path are written before they take its place. Always the same for one path, so
    /// that whatever an interrupted write left can be found.
    pub(crate) fn temporary(&self) -> Self {
        let name = format!("{TEMPORARY_PREFIX}{}.tmp", Digest::of(self.0.as_bytes()).short());
        Self(match self.0.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{name}"),
            None => format!("/{name}"),
        })
    }

    /// Whether it is `directory` or lies below it.
    pub(crate) fn is_within(&self, directory: &str) -> bool {
        self.0.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FilePath {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

impl From<FilePath> for String {
    fn from(path: FilePath) -> String {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_mean_another_place_are_refused() {
        for bad in
            ["", "etc/motd", "/", "/etc/", "/etc//motd", "/etc/../shadow", "/./a", "/a\0b", "/etc/.fleet-agent.x"]
        {
            assert!(FilePath::parse(bad).is_err(), "{bad:?}");
        }
        let path = FilePath::parse("/etc/app/a.conf").unwrap();
        assert_eq!((path.relative(), path.name()), ("etc/app/a.conf", "a.conf"));
        assert_eq!(path.parent().unwrap().as_str(), "/etc/app");
        assert!(FilePath::parse("/motd").unwrap().parent().is_none());
        assert!(path.temporary().as_str().starts_with("/etc/app/.fleet-agent."));
        assert!(path.is_within("/etc/app") && !path.is_within("/etc/ap"));
    }
}
