//! What a revision may be: a branch, a tag, `HEAD`, a full ref name or a full commit id.

use fleet_model::CommitId;

use crate::error::{GitError, GitErrorKind};

/// A parsed revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revision {
    /// A commit named by its full id.
    Commit(CommitId),
    /// Full names of references; the first that exists counts.
    Refs(Vec<String>),
}

impl Revision {
    /// Parses `text`; empty means `HEAD`.
    ///
    /// # Errors
    /// `RefMissing` when Git would not allow such a name.
    pub(crate) fn parse(text: &str) -> Result<Self, GitError> {
        let text = text.trim();
        if text.is_empty() || text == "HEAD" {
            return Ok(Self::Refs(vec!["HEAD".to_owned()]));
        }
        if matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let id = text.to_ascii_lowercase();
            if id.len() == 64 {
                return Err(GitError::other(format!(
                    "the revision {id} is a SHA-256 commit id; only SHA-1 repositories are supported"
                )));
            }
            return id.parse().map(Self::Commit).map_err(|error| GitError::other(error.to_string()));
        }
        let names = if text.starts_with("refs/") {
            vec![text.to_owned()]
        } else {
            vec![format!("refs/heads/{text}"), format!("refs/tags/{text}")]
        };
        for name in &names {
            if name.len() > 512 || gix::validate::reference::name(name.as_str().into()).is_err() {
                let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
                return Err(GitError::new(
                    GitErrorKind::RefMissing,
                    format!(
                        "the revision {shown:?} is not a name that a branch or tag can have; use a branch, a tag, HEAD or a full commit id"
                    ),
                ));
            }
        }
        Ok(Self::Refs(names))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_that_pass_are_full_and_hold_nothing_but_a_name(text in "\\PC{0,40}") {
            if let Ok(Revision::Refs(names)) = Revision::parse(&text) {
                for name in names {
                    prop_assert!(name == "HEAD" || name.starts_with("refs/"));
                    prop_assert!(!name.contains([' ', '\n', ':', '*', '?', '[', '^', '~', '\\']));
                }
            }
        }
    }

    #[test]
    fn short_names_mean_a_branch_first_and_a_tag_second() {
        assert_eq!(
            Revision::parse("v1.0"),
            Ok(Revision::Refs(vec!["refs/heads/v1.0".to_owned(), "refs/tags/v1.0".to_owned()]))
        );
        assert_eq!(Revision::parse(""), Ok(Revision::Refs(vec!["HEAD".to_owned()])));
        assert_eq!(Revision::parse("refs/heads/a/b"), Ok(Revision::Refs(vec!["refs/heads/a/b".to_owned()])));
    }

    #[test]
    fn names_that_git_forbids_are_missing_refs() {
        for bad in ["a..b", "a b", "a~1", "main^", "a\nb", "x.lock", "a:b", "*"] {
            assert_eq!(Revision::parse(bad).map_err(|e| e.kind), Err(GitErrorKind::RefMissing), "{bad:?}");
        }
    }

    #[test]
    fn a_full_commit_id_is_a_commit_in_either_case() {
        let id = "E69DE29BB2D1D6434B8B29AE775AD8C2E48C5391";
        assert_eq!(Revision::parse(id), Ok(Revision::Commit(id.to_ascii_lowercase().parse().unwrap())));
    }
}
