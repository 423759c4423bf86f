//! What a request of a Git host hints at: repositories and refs, from whichever of the known places in its body has them.
//! Nothing else is read, and nothing that is read is more than a reason to look at a source.

use std::borrow::Cow;
use std::collections::BTreeSet;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use fleet_store::SourcePlace;
use serde_json::Value;

use super::place::Repository;

/// More refs than this are taken as any ref.
const MAX_REFS: usize = 1_000;

/// Headers that name an event, with the values that tell of refs. Others are of no interest.
const EVENTS: [(&str, &[&str]); 7] = [
    ("x-github-event", &["push", "create", "delete", "pull_request", "pull_request_sync"]),
    ("x-forgejo-event", &["push", "create", "delete", "pull_request", "pull_request_sync"]),
    ("x-gitea-event", &["push", "create", "delete", "pull_request", "pull_request_sync"]),
    ("x-gogs-event", &["push", "create", "delete"]),
    ("x-gitlab-event", &["Push Hook", "Tag Push Hook", "Merge Request Hook", "System Hook"]),
    ("x-event-key", &["repo:push", "repo:refs_changed", "mirror:repo_synchronized"]),
    ("x-shorebase-event", &["push"]),
];
/// The values that mean that somebody tries the hook.
const PINGS: [&str; 2] = ["ping", "diagnostics:ping"];

const NO_PUSH: &str = "only pushes and pull requests are of interest here";

/// Places of a repository's URLs.
const URLS: [&str; 20] = [
    "/url",
    "/repository",
    "/repository/clone_url",
    "/repository/ssh_url",
    "/repository/git_url",
    "/repository/html_url",
    "/repository/git_http_url",
    "/repository/git_ssh_url",
    "/repository/homepage",
    "/repository/url",
    "/project/git_http_url",
    "/project/git_ssh_url",
    "/project/http_url",
    "/project/ssh_url",
    "/project/web_url",
    "/repository/links/html/href",
    "/repository/links/self/0/href",
    "/resource/repository/remoteUrl",
    "/resource/repository/sshUrl",
    "/resource/repository/webUrl",
];

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Somebody tries the hook.
    Ping,
    /// Something else than a change of refs, and why it is taken to be that. No error: hosts give hooks up that fail.
    Other(&'static str),
    /// Refs changed, or were made, or are gone.
    Change(Change),
}

/// Refs of a repository changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    repositories: BTreeSet<Repository>,
    /// Project and name, of a host that does not tell URLs.
    project: Option<(String, String)>,
    /// Full or short names; empty when any may have changed.
    refs: BTreeSet<String>,
}

impl Hint {
    /// Reads a body: JSON, or a form whose field `payload` is JSON.
    ///
    /// # Errors
    /// One sentence about what it lacks.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, String> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let event = EVENTS.iter().find_map(|(name, changes)| Some((header(name)?, changes)));
        if event.is_some_and(|(event, _)| PINGS.contains(&event)) {
            return Ok(Self::Ping);
        }
        if event.is_some_and(|(event, changes)| !changes.contains(&event)) {
            return Ok(Self::Other(NO_PUSH));
        }
        let is_form = header(CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.trim().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"));
        let json = if is_form { payload(body)? } else { Cow::Borrowed(body) };
        let body: Value =
            serde_json::from_slice(&json).map_err(|error| format!("the request's body is not JSON: {error}"))?;
        // Azure DevOps names its event in the body.
        let kind = body.get("eventType").and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "git.push") {
            return Ok(Self::Other(NO_PUSH));
        }
        Ok(Change::read(&body).map_or(Self::Other("the request names no repository"), Self::Change))
    }
}

fn payload(body: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let field = form_urlencoded::parse(body).find(|(name, _)| name == "payload");
    let (_, value) = field.ok_or("the form in the request's body has no field `payload`")?;
    Ok(match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

impl Change {
    fn read(body: &Value) -> Option<Self> {
        let text = |at: &str| body.pointer(at).and_then(Value::as_str);
        let clones = body.pointer("/repository/links/clone").and_then(Value::as_array);
        let clones = clones.into_iter().flatten().take(8).filter_map(|link| link.get("href")?.as_str());
        let repositories: BTreeSet<Repository> =
            URLS.iter().filter_map(|at| text(at)).chain(clones).filter_map(Repository::at).collect();
        let project = match (text("/repository/project/key"), text("/repository/slug")) {
            // Only where there is nothing better: Bitbucket Data Center.
            (Some(key), Some(slug)) if repositories.is_empty() => Some((key.to_owned(), slug.to_owned())),
            (_, _) => None,
        };
        if repositories.is_empty() && project.is_none() {
            return None;
        }
        Some(Self { repositories, project, refs: refs(body) })
    }

    /// Whether a source may have changed.
    pub(crate) fn concerns(&self, source: &SourcePlace) -> bool {
        let Some(place) = Repository::at(&source.url) else { return false };
        let is_there = self.repositories.contains(&place)
            || self.project.as_ref().is_some_and(|(project, name)| place.ends_with(project, name));
        is_there && (self.refs.is_empty() || self.refs.iter().any(|name| is_followed(name, &source.revision)))
    }
}

/// Names of refs that the body tells of. A ref that is gone is one of them: its sources must show that.
fn refs(body: &Value) -> BTreeSet<String> {
    let list = |at: &str| body.pointer(at).and_then(Value::as_array).into_iter().flatten();
    let mut found: BTreeSet<String> = BTreeSet::new();
    found.extend(body.get("ref").and_then(Value::as_str).map(str::to_owned));
    // The branch that a pull request is for: sources that follow it plan what it would change.
    for at in ["/pull_request/base/ref", "/object_attributes/target_branch"] {
        found.extend(body.pointer(at).and_then(Value::as_str).map(str::to_owned));
    }
    // Bitbucket Cloud has short names, before and after; Data Center has full ones, as GitLab's system hooks.
    for change in list("/push/changes").chain(list("/changes")).take(MAX_REFS) {
        for at in ["/new/name", "/old/name", "/ref/id", "/ref"] {
            found.extend(change.pointer(at).and_then(Value::as_str).map(str::to_owned));
        }
    }
    for update in list("/resource/refUpdates").take(MAX_REFS) {
        found.extend(update.get("name").and_then(Value::as_str).map(str::to_owned));
    }
    if found.len() >= MAX_REFS { BTreeSet::new() } else { found }
}

/// Whether a source at `revision` follows the ref, which may be a short name.
fn is_followed(name: &str, revision: &str) -> bool {
    let short = |text: &str| {
        let rest = text.strip_prefix("refs/heads/").or_else(|| text.strip_prefix("refs/tags/"));
        rest.map(str::to_owned)
    };
    match (short(name), short(revision)) {
        // Which branch it stands for is known to the host alone.
        _ if revision == "HEAD" => true,
        (Some(_), Some(_)) => name == revision,
        (Some(changed), None) => changed == revision || name == revision,
        (None, Some(followed)) => name == followed || name == revision,
        (None, None) => name == revision,
    }
}

#[cfg(test)]
#[path = "hint_tests.rs"]
mod tests;
