//! Values of placeholders that stand for nothing: what would have to change for them to stand for something. While nothing
//! of that does, their source is not planned again, except at a slow pace.

use fleet_model::{ConfigSource, SECRET_REPOSITORY};
use fleet_store::InputKind;
use jiff::Timestamp;

use crate::errand::Errand;
use crate::repositories::Repositories;
use crate::source::Shared;
use crate::web::file_url;

/// How often they are looked at though nothing changed that is watched: a mirror may have been mended.
const SECONDS: i64 = 300;

/// Where a value was looked for in vain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    kind: InputKind,
    repository: String,
    /// Revision, suffix or secret.
    revision: String,
    /// The commit that does not hold it; `None` where there was none.
    commit: Option<String>,
}

impl Place {
    /// The place that a provider names, once its placeholders have their value. `commit` is what the revision stands for.
    pub(crate) fn of(source: &ConfigSource, commit: Option<String>) -> Option<Self> {
        match source {
            ConfigSource::Inline(_) => None,
            ConfigSource::GitRef(git_ref) => Some(Self {
                kind: InputKind::Git,
                repository: git_ref.repository.clone(),
                revision: git_ref.target_revision.clone().unwrap_or_default(),
                commit,
            }),
            ConfigSource::HttpRef(http) => Some(Self {
                kind: InputKind::Http,
                repository: http.repository.clone(),
                revision: http.suffix.clone().unwrap_or_default(),
                commit: None,
            }),
            ConfigSource::SecretRef(secret) => Some(Self {
                kind: InputKind::Secret,
                repository: SECRET_REPOSITORY.to_owned(),
                revision: format!("{}/{}", secret.namespace, secret.name),
                commit: None,
            }),
        }
    }
}

/// The places of a source's values that stood for nothing when it was planned last.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    looked: Option<Timestamp>,
    places: Vec<Place>,
}

impl Absent {
    /// What a plan found.
    pub(crate) fn found(places: &[Place], now: Timestamp) -> Self {
        let mut places = places.to_vec();
        places.sort_unstable();
        places.dedup();
        Self { looked: Some(now), places }
    }

    /// Whether it is time to look again whatever is watched; also when nobody looked since the service started.
    pub(crate) fn is_old(&self, now: Timestamp) -> bool {
        let age = self.looked.map(|at| now.as_second() - at.as_second());
        age.is_none_or(|age| !(0..SECONDS).contains(&age))
    }

    /// Whether something may be there by now. A host that is away changed nothing.
    pub(crate) async fn may_be_there(&self, shared: &Shared, errand: &Errand, repositories: &Repositories) -> bool {
        for place in &self.places {
            if is_there(place, shared, errand, repositories).await {
                return true;
            }
        }
        false
    }
}

async fn is_there(place: &Place, shared: &Shared, errand: &Errand, repositories: &Repositories) -> bool {
    let Place { kind, repository, revision, commit } = place;
    let url = || repositories.url(repository, *kind).ok();
    let credential = repositories.credential(repository);
    match kind {
        InputKind::Git => match url() {
            Some(url) => {
                let now = shared.dependencies.stands_for(&shared.git, (url, credential), revision, errand).await;
                now.is_some_and(|now| now != *commit)
            }
            None => false,
        },
        InputKind::Http => match url().map(|url| file_url(url, revision)) {
            Some(Ok(url)) => shared.web.get(&url, credential, errand).await.is_ok(),
            Some(Err(_)) | None => false,
        },
        InputKind::Secret => shared.secrets.mark(revision, errand).await.is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_nothing_is_looked_at_again_after_a_while() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(Absent::default().is_old(at(0)), "nobody looked since the service started");
        let source: ConfigSource =
            serde_json::from_str(r#"{"gitRef": {"repository": "r", "targetRevision": "x", "path": "/"}}"#).unwrap();
        let place = Place::of(&source, None).unwrap();
        let absent = Absent::found(&[place.clone(), place.clone()], at(1_000));
        assert_eq!(absent.places, [place]);
        assert!(!absent.is_old(at(1_000)) && !absent.is_old(at(1_299)));
        assert!(absent.is_old(at(1_300)) && absent.is_old(at(999)), "also when the clock was set back");
    }
}
