//! The one comment on a pull request that is kept up to date, found again by a hidden mark. Comments of others are never
//! touched, whatever they hold.

use serde_json::{Value, json};

use crate::api::{Forge, Need};
use crate::place::RepositoryPath;
use crate::{ForgeError, ForgeErrorKind, ForgeKind};

/// The longest comment that is written; GitHub takes 65,536 characters.
pub const MAX_COMMENT_BYTES: usize = 60_000;
/// So many comments are looked through for ours: pages and comments per page.
const MAX_PAGES: usize = 10;
const PER_PAGE: usize = 100;

/// What became of a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commented {
    /// There was none of ours.
    Created,
    /// Ours said something else.
    Updated,
    /// Ours says so already.
    Unchanged,
}

/// The first line of a comment: hidden where comments are shown.
pub fn comment_mark(source: &str) -> String {
    format!("<!-- shorebase:plan:{source} -->")
}

struct Comment {
    id: u64,
    author: Option<u64>,
    body: String,
}

impl Forge {
    /// Makes our comment with this mark say `body`, which begins with the mark.
    ///
    /// # Errors
    /// [`ForgeError`] with what to do.
    pub async fn put_comment(
        &self,
        repository: &RepositoryPath,
        number: u64,
        mark: &str,
        body: &str,
    ) -> Result<Commented, ForgeError> {
        let root = repository.api(self.kind());
        let list = match self.kind() {
            ForgeKind::GitHub | ForgeKind::Gitea => format!("{root}/issues/{number}/comments"),
            ForgeKind::GitLab => format!("{root}/merge_requests/{number}/notes"),
        };
        let ourselves = self.ourselves().await?;
        for comment in self.marked(&list, mark).await? {
            // Anybody can write the mark. Where the token does not tell who we are, what may be changed is ours.
            if ourselves.is_some() && comment.author != ourselves {
                continue;
            }
            if comment.body.replace('\r', "").trim_end() == body.trim_end() {
                return Ok(Commented::Unchanged);
            }
            let edited = match self.kind() {
                ForgeKind::GitHub | ForgeKind::Gitea => {
                    let path = format!("{root}/issues/comments/{}", comment.id);
                    self.patch(&path, &json!({"body": body}), Need::Comment).await
                }
                ForgeKind::GitLab => {
                    self.put(&format!("{list}/{}", comment.id), &json!({"body": body}), Need::Comment).await
                }
            };
            match edited {
                Ok(_) => return Ok(Commented::Updated),
                Err(error) if is_not_ours(&error) => continue,
                Err(error) => return Err(error),
            }
        }
        self.post(&list, &json!({"body": body}), Need::Comment).await?;
        Ok(Commented::Created)
    }

    async fn marked(&self, list: &str, mark: &str) -> Result<Vec<Comment>, ForgeError> {
        let mut found = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = match self.kind() {
                ForgeKind::GitHub => format!("{list}?per_page={PER_PAGE}&page={page}"),
                ForgeKind::GitLab => format!("{list}?order_by=created_at&sort=asc&per_page={PER_PAGE}&page={page}"),
                ForgeKind::Gitea => format!("{list}?limit={PER_PAGE}&page={page}"),
            };
            let answer = self.get(&path, Need::Comment).await?;
            let items = answer.list()?;
            found.extend(items.iter().filter_map(|item| read(self.kind(), item)).filter(|c| c.body.starts_with(mark)));
            if items.is_empty() || !answer.has_next {
                break;
            }
        }
        Ok(found)
    }

    /// The id of the token's user; `None` for a token without one, such as that of a GitHub app.
    async fn ourselves(&self) -> Result<Option<u64>, ForgeError> {
        match self.get("/user", Need::User).await {
            Ok(answer) => Ok(answer.json()?.get("id").and_then(Value::as_u64)),
            Err(error) if is_not_ours(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_not_ours(error: &ForgeError) -> bool {
    matches!(error.kind, ForgeErrorKind::Denied | ForgeErrorKind::NotFound)
}

fn read(kind: ForgeKind, item: &Value) -> Option<Comment> {
    let author = match kind {
        ForgeKind::GitHub | ForgeKind::Gitea => "/user/id",
        ForgeKind::GitLab => "/author/id",
    };
    Some(Comment {
        id: item.get("id")?.as_u64()?,
        author: item.pointer(author).and_then(Value::as_u64),
        body: item.get("body")?.as_str()?.to_owned(),
    })
}
