//! What one look at a source meets on its way to other hosts.
//!
//! A host that kept it waiting and gave nothing is not waited for again, however many values of placeholders lie behind it.
//! The next look asks the next of them, since the pauses of those that failed go on.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A failure that took less costs next to nothing, and says little about what else lies on the host.
const LONG: Duration = Duration::from_secs(1);

/// What secrets are read from, however many there are.
pub(crate) const SECRETS: &str = "secrets";

/// One look's way.
#[derive(Debug, Default)]
pub(crate) struct Errand {
    /// Why nothing comes from there.
    silent: Mutex<HashMap<String, String>>,
    /// Files of web servers that were asked for.
    files: Mutex<HashSet<String>>,
}

impl Errand {
    /// Why nothing comes from there, if it was asked in vain before.
    pub(crate) fn silent(&self, origin: &str) -> Option<String> {
        lock(&self.silent).get(origin).cloned()
    }

    /// Notes a failure of something that began at `began`.
    pub(crate) fn note(&self, origin: &str, began: Instant, error: &str) {
        self.note_after(origin, began.elapsed(), error);
    }

    pub(crate) fn note_after(&self, origin: &str, waited: Duration, error: &str) {
        if waited >= LONG {
            lock(&self.silent).insert(origin.to_owned(), error.to_owned());
        }
    }

    /// Notes a file of a web server.
    pub(crate) fn asked_for(&self, file: &str) {
        lock(&self.files).insert(file.to_owned());
    }

    /// All files of web servers so far.
    pub(crate) fn files(&self) -> HashSet<String> {
        lock(&self.files).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stands or falls together with a URL: its host, as somebody with this credential. On the service's own disk each path
/// stands alone.
pub(crate) fn origin(url: &str, credential: Option<&str>) -> String {
    let place = match url.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("file") => url.to_owned(),
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}").to_ascii_lowercase()
        }
        None if url.starts_with('/') => url.to_owned(),
        None => {
            let authority = url.split_once(':').map_or(url, |(authority, _)| authority);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("ssh://{host}").to_ascii_lowercase()
        }
    };
    format!("{place} {}", credential.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use fleet_git::{Limits, WorkerCommand, WorkerPool};
    use fleet_model::{Kind, Manifest};
    use proptest::prelude::*;

    use super::*;
    use crate::planning::tests::{Files, World};
    use crate::values::Subjects;

    #[test]
    fn only_a_failure_that_took_long_makes_a_host_silent() {
        let errand = Errand::default();
        errand.note_after("https://a ", Duration::from_millis(900), "refused");
        assert_eq!(errand.silent("https://a "), None);
        errand.note_after("https://a ", Duration::from_secs(15), "no answer");
        assert_eq!(errand.silent("https://a ").as_deref(), Some("no answer"));
        assert_eq!(errand.silent("https://b "), None);
        assert_eq!(Errand::default().silent("https://a "), None, "the next look asks again");
    }

    #[tokio::test]
    async fn forty_values_behind_a_host_that_never_answers_cost_one_deadline() {
        let mut world = World::new().await;
        // Git workers that say nothing, as where a host accepts and never answers.
        let deadline = Duration::from_secs(2);
        let limits = Limits { no_progress: deadline, total: deadline, ..Limits::default() };
        world.git = WorkerPool::new(WorkerCommand::new("/bin/sleep", ["60"]), limits);
        let fleet = "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  selector: {matchLabels: {in: 'yes'}}\n  \
                     template:\n    spec:\n      config:\n        - name: base\n          \
                     gitRef: {repository: shared, targetRevision: '{{ .metadata.labels.ring }}', path: /base}\n";
        let files = Files::from([("f.yaml".to_owned(), fleet.to_owned())]);
        let repository = serde_json::json!({
            "apiVersion": "flightctl.io/v1beta1",
            "kind": "Repository",
            "metadata": {"name": "shared"},
            "spec": {"type": "git", "url": "https://git.example/shared"},
        });
        let repository = Manifest::from_document(Kind::Repository, repository).unwrap();
        world.repositories.add(std::iter::once(&repository), false);
        let names: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
        let rings: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        world.subjects = Subjects::in_rings(&rings);

        let began = Instant::now();
        let desired = world.desired("main", &"a".repeat(40).parse().unwrap(), &files).await;
        assert!(began.elapsed() >= deadline && began.elapsed() < 10 * deadline, "{:?}", began.elapsed());
        assert_eq!(desired.missing_values.len(), 40);
        let reasons = desired.missing_values.iter().map(|row| row.reason.clone().unwrap_or_default());
        let mut said: Vec<String> =
            reasons.map(|reason| reason.split_once(": ").map_or("", |(_, said)| said).to_owned()).collect();
        said.dedup();
        assert_eq!(said.len(), 1, "all are told the same: {said:?}");
        assert_eq!(desired.absent.len(), 40);
        assert_eq!(world.sql("select count(*) from desired.dependencies where error is not null").trim(), "40");
    }

    #[test]
    fn a_host_is_one_however_its_urls_are_written() {
        let same = |one: &str, other: &str| origin(one, None) == origin(other, None);
        assert!(same("https://Git.test/a", "https://git.test/b.git?x#y"));
        assert!(same("https://user:pw@git.test/a", "https://git.test"));
        assert!(same("git@git.test:a.git", "ssh://git@git.test/b"));
        assert!(!same("https://git.test/a", "http://git.test/a"));
        assert!(!same("https://git.test/a", "https://git.test:8443/a"));
        assert!(!same("/srv/a", "/srv/b") && !same("file:///srv/a", "file:///srv/b"));
        assert_ne!(origin("https://git.test/a", None), origin("https://git.test/a", Some("team")));
        assert!(!origin("https://user:secret@git.test/a", None).contains("secret"));
    }

    proptest! {
        #[test]
        fn no_url_makes_it_panic(url in any::<String>()) {
            prop_assert!(!origin(&url, Some("x")).is_empty());
        }
    }
}
