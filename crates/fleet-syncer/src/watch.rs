//! Wakes a source when its repository on the local disk changes. Only a hint: the source is polled all the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::{debug, info};

/// A running watch; dropping it ends it.
#[derive(Debug)]
pub(crate) struct LocalWatch {
    _watcher: RecommendedWatcher,
}

/// The repository's directory, when `url` names one on this disk.
pub(crate) fn local_path(url: &str) -> Option<PathBuf> {
    let path = match url.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("file://") => {
            url[7..].strip_prefix("localhost").unwrap_or(&url[7..])
        }
        _ => url,
    };
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// Where a repository keeps its references: `.git` below a working tree, or the directory itself when it is bare.
fn git_directory(repository: &Path) -> PathBuf {
    let inner = repository.join(".git");
    if inner.is_dir() { inner } else { repository.to_owned() }
}

/// Watches a local repository; every change of a reference notifies `wake`. `None` when it cannot be watched.
pub(crate) fn watch(repository: &Path, wake: Arc<Notify>) -> Option<LocalWatch> {
    let directory = git_directory(repository);
    let handler = move |event: notify::Result<Event>| {
        // An error may hide a change, so it wakes too.
        if event.as_ref().map_or(true, is_change) {
            wake.notify_one();
        }
    };
    let mut watcher = match notify::recommended_watcher(handler) {
        Ok(watcher) => watcher,
        Err(error) => {
            info!(repository = %repository.display(), %error, "Cannot watch the repository; it is polled");
            return None;
        }
    };
    // The directory holds HEAD and packed-refs, which are replaced by renames: watch directories, never files.
    let watched = watcher
        .watch(&directory, RecursiveMode::NonRecursive)
        .and_then(|()| watcher.watch(&directory.join("refs"), RecursiveMode::Recursive));
    match watched {
        Ok(()) => {
            debug!(repository = %repository.display(), "Watching the repository");
            Some(LocalWatch { _watcher: watcher })
        }
        Err(error) => {
            info!(repository = %repository.display(), %error, "Cannot watch the repository; it is polled");
            None
        }
    }
}

/// Reads of the repository, also our own, change nothing.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_repositories_are_known_by_their_url() {
        assert_eq!(local_path("/srv/fleet.git"), Some(PathBuf::from("/srv/fleet.git")));
        assert_eq!(local_path("file:///srv/fleet"), Some(PathBuf::from("/srv/fleet")));
        assert_eq!(local_path("FILE://localhost/srv"), Some(PathBuf::from("/srv")));
        assert_eq!(local_path("https://host/x"), None);
        assert_eq!(local_path("file"), None);
    }

    #[tokio::test]
    async fn a_new_reference_wakes() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("refs/heads")).unwrap();
        let wake = Arc::new(Notify::new());
        let _watch = watch(directory.path(), Arc::clone(&wake)).expect("a plain directory can be watched");
        std::fs::write(directory.path().join("refs/heads/main.lock"), "x").unwrap();
        std::fs::rename(directory.path().join("refs/heads/main.lock"), directory.path().join("refs/heads/main"))
            .unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(10), wake.notified()).await.unwrap();
    }
}
