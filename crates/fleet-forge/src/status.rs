//! The status of a commit, as forges show it beside the commit.

use std::fmt;

use fleet_model::CommitId;
use serde_json::{Value, json};

use crate::api::{Forge, Need};
use crate::place::RepositoryPath;
use crate::{ForgeError, ForgeErrorKind, ForgeKind};

/// The longest description that all forges take, in characters.
pub const MAX_DESCRIPTION: usize = 140;

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusState {
    /// It is not decided.
    Pending,
    /// It is well.
    Success,
    /// It is not well, because of what the commit says.
    Failure,
    /// It is not well, for another reason.
    Error,
}

impl StatusState {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn stored(text: &str) -> Option<Self> {
        let all = [Self::Pending, Self::Success, Self::Failure, Self::Error];
        all.into_iter().find(|state| state.as_str() == text)
    }

    fn word(self, kind: ForgeKind) -> &'static str {
        match kind {
            ForgeKind::GitHub | ForgeKind::Gitea => self.as_str(),
            ForgeKind::GitLab => match self {
                Self::Pending => "pending",
                Self::Success => "success",
                Self::Failure | Self::Error => "failed",
            },
        }
    }
}

impl fmt::Display for StatusState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is said of a commit.
#[derive(Debug, Clone, Copy)]
pub struct Status<'a> {
    /// The commit.
    pub commit: &'a CommitId,
    /// What it is about; a later status with the same context takes its place.
    pub context: &'a str,
    /// How it stands.
    pub state: StatusState,
    /// One line; what is beyond [`MAX_DESCRIPTION`] characters is cut.
    pub description: &'a str,
    /// Where people read more.
    pub target_url: Option<&'a str>,
}

/// Text on one line of at most [`MAX_DESCRIPTION`] characters. What was cut shows.
pub fn brief(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let line = plain.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_DESCRIPTION {
        return line;
    }
    let mut cut: String = line.chars().take(MAX_DESCRIPTION - 1).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

impl Forge {
    /// Sets a status. Setting the same again does no harm.
    ///
    /// # Errors
    /// [`ForgeError`] with what to do.
    pub async fn set_status(&self, repository: &RepositoryPath, status: &Status<'_>) -> Result<(), ForgeError> {
        let kind = self.kind();
        let path = format!("{}/statuses/{}", repository.api(kind), status.commit);
        let mut body = json!({
            "state": status.state.word(kind),
            "context": status.context,
            "description": brief(status.description),
        });
        if let Some(url) = status.target_url {
            body["target_url"] = Value::from(url);
        }
        match self.post(&path, &body, Need::Status).await {
            Ok(_) => Ok(()),
            // GitLab takes no state again that the commit has already: what was to be said is there.
            Err(error) if kind == ForgeKind::GitLab && is_repeated(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_repeated(error: &ForgeError) -> bool {
    error.kind == ForgeErrorKind::Invalid && error.message.contains("Cannot transition status")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn descriptions_are_cut_by_characters_and_hold_one_line() {
        assert_eq!(brief("  two\nlines\tand\u{7} a bell "), "two lines and a bell");
        let long = "ü".repeat(141);
        assert_eq!((brief(&long).chars().count(), brief(&long).ends_with("ü…")), (140, true));
        assert_eq!(brief(&"é".repeat(140)), "é".repeat(140));
    }

    proptest! {
        #[test]
        fn no_text_is_too_long(text in "\\PC{0,300}") {
            prop_assert!(brief(&text).chars().count() <= MAX_DESCRIPTION);
        }
    }
}
