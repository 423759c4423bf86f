//! Open pull requests (merge requests) of a repository.

use fleet_model::CommitId;
use serde_json::Value;

use crate::api::{Forge, Need};
use crate::place::{RepositoryPath, query_value};
use crate::{ForgeError, ForgeErrorKind, ForgeKind};

/// The most pull requests that are listed.
pub const MAX_PULLS: usize = 300;
/// So many are asked for at once; Gitea gives no more than 50.
const PER_PAGE: usize = 50;

/// An open pull request. All of it comes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Its newest commit, which may lie in a fork.
    pub head: CommitId,
    /// The branch that it is for.
    pub base: String,
}

impl Forge {
    /// The open pull requests for a branch, newest first, at most [`MAX_PULLS`].
    ///
    /// # Errors
    /// [`ForgeError`] with what to do.
    pub async fn open_pulls(&self, repository: &RepositoryPath, base: &str) -> Result<Vec<Pull>, ForgeError> {
        let (kind, root) = (self.kind(), repository.api(self.kind()));
        let branch = query_value(base);
        let mut pulls = Vec::new();
        for page in 1..=MAX_PULLS / PER_PAGE {
            let path = match kind {
                ForgeKind::GitHub => {
                    format!(
                        "{root}/pulls?state=open&base={branch}&sort=created&direction=desc&per_page={PER_PAGE}&page={page}"
                    )
                }
                ForgeKind::GitLab => format!(
                    "{root}/merge_requests?state=opened&target_branch={branch}&order_by=created_at&sort=desc&per_page={PER_PAGE}&page={page}"
                ),
                ForgeKind::Gitea => format!("{root}/pulls?state=open&limit={PER_PAGE}&page={page}"),
            };
            let answer = self.get(&path, Need::Pulls).await?;
            let list = answer.list()?;
            for item in &list {
                // One that is not as it should be is no reason to pass over the others.
                pulls.extend(read(kind, item).filter(|pull| pull.base == base));
            }
            if list.is_empty() || !answer.has_next {
                break;
            }
        }
        Ok(pulls)
    }
}

fn read(kind: ForgeKind, item: &Value) -> Option<Pull> {
    let [number, head, base] = match kind {
        ForgeKind::GitHub | ForgeKind::Gitea => ["/number", "/head/sha", "/base/ref"],
        ForgeKind::GitLab => ["/iid", "/sha", "/target_branch"],
    };
    Some(Pull {
        number: item.pointer(number)?.as_u64()?,
        head: item.pointer(head)?.as_str()?.parse().ok()?,
        base: item.pointer(base)?.as_str()?.to_owned(),
    })
}

/// A list that is none.
pub(crate) fn no_list(path: &str) -> ForgeError {
    ForgeError::new(ForgeErrorKind::Server, format!("{path}: the answer is not a list; is apiUrl the forge's API?"))
}
