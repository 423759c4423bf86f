//! What mirrors take of the disk: unused ones go after a day, and the least recently used ones when all together are
//! too large. Nothing that is applied lives in a mirror, so that removing one costs a fetch and no more.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use fleet_runtime::CancellationToken;
use tracing::{info, warn};

use super::{Mirrors, SharedMirror, lock, pulls};

/// Begins the names of mirrors.
pub(super) const PREFIX: &str = "repository-";
/// How mirrors were called before repositories had one for all.
const OLD_PREFIXES: [&str; 2] = ["source-", "dependency-"];
/// How often the disk is looked at though nothing was fetched, and at most after fetches.
const PERIOD: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);
/// How long a mirror stays that nobody asked for.
const UNUSED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A mirror on the disk.
#[derive(Debug, Clone)]
struct Found {
    path: PathBuf,
    bytes: u64,
    /// When a fetch into it began last.
    changed: SystemTime,
}

impl Mirrors {
    /// Keeps the disk tidy until `term` ends; begins once the sources are known.
    pub(crate) async fn tend(&self, term: CancellationToken) {
        tokio::select! {
            () = term.cancelled() => return,
            () = self.chores.notified() => {}
        }
        loop {
            if let Err(error) = self.tidy(UNUSED_FOR).await {
                warn!(directory = %self.config.mirrors.display(), %error, "Cannot look after the mirrors");
            }
            tokio::select! {
                () = term.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
                () = self.chores.notified() => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Removes what nobody asked for in `unused_for`, then what is too much.
    pub(super) async fn tidy(&self, unused_for: Duration) -> io::Result<()> {
        self.forget_unused(unused_for);
        let directory = self.config.mirrors.clone();
        let found = unblocked(move || list(&directory)).await?;
        let known = self.by_path();
        let now = super::now();
        let wanted = self.wanted_pulls();
        let mut kept = Vec::new();
        for mirror in found {
            let age = now.duration_since(mirror.changed).unwrap_or_default();
            let shared = known.get(&mirror.path);
            let has_ended = wanted.as_ref().is_some_and(|wanted| {
                pulls::is_of_pulls(&mirror.path)
                    && !wanted.contains(&mirror.path)
                    && shared.is_none_or(|shared| !shared.is_in_use(Instant::now()))
            });
            if has_ended || (shared.is_none() && age >= unused_for) {
                let path = mirror.path.clone();
                unblocked(move || remove(&path)).await?;
                info!(mirror = %mirror.path.display(), "Removed a mirror that nobody uses");
            } else {
                kept.push(mirror);
            }
        }
        let total = self.evict(kept, &known).await?;
        self.metrics.mirror_bytes.set(i64::try_from(total).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Mirrors that no source holds and nobody asked for lately are unknown from now on.
    fn forget_unused(&self, unused_for: Duration) {
        let now = Instant::now();
        lock(&self.known).retain(|_, mirror| {
            let idle = now.saturating_duration_since(lock(&mirror.usage).wanted);
            Arc::strong_count(mirror) > 1 || mirror.is_in_use(now) || idle < unused_for
        });
    }

    fn by_path(&self) -> HashMap<PathBuf, Arc<SharedMirror>> {
        lock(&self.known).values().map(|mirror| (mirror.path.clone(), Arc::clone(mirror))).collect()
    }

    /// Removes mirrors, the least recently used first, until the rest fits. Those that somebody uses stay.
    async fn evict(&self, mut found: Vec<Found>, known: &HashMap<PathBuf, Arc<SharedMirror>>) -> io::Result<u64> {
        let mut total: u64 = found.iter().map(|mirror| mirror.bytes).sum();
        found.sort_by_key(|one| {
            let used = known.get(&one.path).map_or(one.changed, |mirror| lock(&mirror.usage).used);
            // What nothing in force needs goes first.
            (!pulls::is_of_pulls(&one.path), used)
        });
        for mirror in found {
            if total <= self.config.max_mirror_bytes {
                break;
            }
            let shared = known.get(&mirror.path);
            // No fetch may begin while it goes.
            let turn = match shared.map(|shared| shared.fetching.try_lock()) {
                Some(Err(_)) => continue,
                Some(Ok(turn)) => Some(turn),
                None => None,
            };
            if mirror.bytes == 0 || shared.is_some_and(|shared| shared.is_in_use(Instant::now())) {
                continue;
            }
            let path = mirror.path.clone();
            unblocked(move || remove(&path)).await?;
            drop(turn);
            total = total.saturating_sub(mirror.bytes);
            self.metrics.mirror_evictions.inc();
            info!(
                mirror = %mirror.path.display(),
                bytes = mirror.bytes,
                limit = self.config.max_mirror_bytes,
                "Removed the mirror used least recently; it is fetched again when it is needed"
            );
        }
        Ok(total)
    }
}

async fn unblocked<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// All mirrors in the directory. Those of earlier versions are removed on the way.
fn list(directory: &Path) -> io::Result<Vec<Found>> {
    let mut found: HashMap<PathBuf, Found> = HashMap::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if OLD_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            remove_any(&entry.path())?;
            continue;
        }
        // `NAME`, `NAME.guard`, and `.NAME.new-…` of a fetch that is under way or was killed.
        let base = name.strip_prefix('.').unwrap_or(&name).split('.').next().unwrap_or_default();
        if !base.starts_with(PREFIX) && !base.starts_with(pulls::PREFIX) {
            continue;
        }
        let path = directory.join(base);
        let mirror = found.entry(path.clone()).or_insert(Found { path, bytes: 0, changed: SystemTime::UNIX_EPOCH });
        let Ok(facts) = entry.metadata() else { continue };
        mirror.changed = mirror.changed.max(facts.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        if facts.is_dir() {
            mirror.bytes = mirror.bytes.saturating_add(bytes_below(&entry.path(), 12));
        }
    }
    Ok(found.into_values().collect())
}

/// What a directory takes on the disk. Files that go meanwhile count as nothing.
fn bytes_below(directory: &Path, depth: usize) -> u64 {
    let (Some(depth), Ok(entries)) = (depth.checked_sub(1), fs::read_dir(directory)) else { return 0 };
    let mut bytes = 0_u64;
    for entry in entries.flatten() {
        let Ok(facts) = entry.metadata() else { continue };
        let below = if facts.is_dir() { bytes_below(&entry.path(), depth) } else { 0 };
        bytes = bytes.saturating_add(facts.blocks().saturating_mul(512)).saturating_add(below);
    }
    bytes
}

/// Removes a mirror with all that lies around it. First it gets another name, so that nobody opens half of it.
fn remove(mirror: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (mirror.parent(), mirror.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    match fs::rename(mirror, directory.join(format!(".{name}.old-evicted"))) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // One that was begun before is still there; then this one goes as it is.
        Err(_) => remove_any(mirror)?,
    }
    for entry in fs::read_dir(directory)?.flatten() {
        let Ok(found) = entry.file_name().into_string() else { continue };
        if found == format!("{name}.guard") || found.starts_with(&format!(".{name}.")) {
            remove_any(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_any(path: &Path) -> io::Result<()> {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir());
    match if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
