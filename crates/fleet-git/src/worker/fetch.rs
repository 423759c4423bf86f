//! Bringing a revision into the mirror.

mod repack;

use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet_model::CommitId;
use gix::Repository;
use gix::negotiate::{Algorithm, Graph, Negotiator};
use gix::protocol::fetch::{
    Arguments, Context, Negotiate, Options, RefMap, Response, Shallow, Tags, negotiate, refmap,
};
use gix::refs::transaction::PreviousValue;
use rustix::process::Pid;
use sha2::Digest as _;

use super::activity::Activity;
use super::ancestry::{gix_id, is_forced};
use super::mirror::{self, Found, Fresh, Guard};
use super::session::{Session, agent};
use super::{Timeouts, classify};
use crate::error::{GitError, GitErrorKind};
use crate::remote::Remote;
use crate::revision::Revision;
use crate::wire::{FetchOutcome, Known};

/// The largest single object that may be decompressed while a pack is indexed.
const MAX_OBJECT_BYTES: usize = 512 << 20;
const INDEX_THREADS: usize = 2;
/// A pack that is larger is received and indexed behind all other work of the machine.
const SMALL_PACK_BYTES: u64 = 16 << 20;
/// As large as that of a main thread.
const STACK_BYTES: usize = 8 << 20;
/// How far behind, as `nice` counts.
const NICENESS: i32 = 5;

/// What to fetch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) remote: &'a Remote,
    pub(super) revision: &'a str,
    pub(super) known: Known<'a>,
    pub(super) timeouts: Timeouts,
    pub(super) max_pack_bytes: u64,
}

/// Who is to blame for a failed fetch, and so whether a fresh mirror may help.
enum Failure {
    Remote(GitError),
    Mirror(GitError),
}

/// Fetches into the mirror at `path`, creating it when it is absent and building it anew, once, when it is damaged. One
/// with many packs is put together afterwards.
///
/// This happens on a thread of its own: one that has stepped behind others cannot come back.
pub(super) fn fetch(path: &Path, wanted: &Wanted<'_>, activity: &Activity) -> Result<FetchOutcome, GitError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("fetch".to_owned()).stack_size(STACK_BYTES);
        let thread = thread
            .spawn_scoped(scope, || fetch_here(path, wanted, activity))
            .map_err(|error| GitError::other(format!("cannot start a thread: {error}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn fetch_here(path: &Path, wanted: &Wanted<'_>, activity: &Activity) -> Result<FetchOutcome, GitError> {
    let revision = Revision::parse(wanted.revision)?;
    wanted.remote.location()?;
    let _guard = Guard::take(path, wanted.timeouts.no_progress, activity)?;
    let (found, is_crowded) = match mirror::find(path)? {
        Found::Absent => (Err(None), false),
        Found::Worn(why) => (Err(Some(why)), false),
        Found::Usable(repo) => (Ok(repo), false),
        Found::Crowded(repo) => (Ok(repo), true),
    };
    let rebuilt = match found {
        Ok(repo) => match fetch_into(&repo, &revision, wanted, activity) {
            Ok(outcome) if is_crowded => return Ok(repack::repack(path, &repo, &revision, wanted, outcome, activity)),
            Ok(outcome) => return Ok(outcome),
            Err(Failure::Remote(error)) => return Err(error),
            Err(Failure::Mirror(error)) => Some(error.message),
        },
        Err(why) => why,
    };
    let fresh = Fresh::create(path)?;
    let mut outcome = fetch_into(&fresh.repo, &revision, wanted, activity)
        .map_err(|failure| failure.in_fresh_mirror(wanted.remote))?;
    if let Some(base) = wanted.known.base
        && outcome.forced
        && repack::bring_back(&fresh.repo, base, wanted, activity)
    {
        let id = gix_id(&outcome.commit)?;
        outcome.forced = is_forced(&fresh.repo, Some(base), id, activity)?;
    }
    fresh.install(path)?;
    // Afterwards: a host that is slow to refuse them must not keep the mirror away.
    if let (Ok(Found::Usable(repo)), false) = (mirror::find(path), wanted.known.others.is_empty()) {
        let id = gix_id(&outcome.commit)?;
        for other in repack::apart(&repo, id, wanted, activity) {
            repack::bring_back(&repo, other, wanted, activity);
        }
    }
    Ok(FetchOutcome { rebuilt, ..outcome })
}

impl Failure {
    /// A new mirror is not to blame for what cannot be read out of a pack.
    fn in_fresh_mirror(self, remote: &Remote) -> GitError {
        match self {
            Self::Mirror(error) if error.kind == GitErrorKind::Other => GitError::new(
                GitErrorKind::HostUnreachable,
                format!("{} sent a pack that is damaged: {}", remote.display_url(), error.message),
            ),
            Self::Remote(error) | Self::Mirror(error) => error,
        }
    }

    fn into_error(self) -> GitError {
        match self {
            Self::Remote(error) | Self::Mirror(error) => error,
        }
    }
}

fn fetch_into(
    repo: &Repository,
    revision: &Revision,
    wanted: &Wanted<'_>,
    activity: &Activity,
) -> Result<FetchOutcome, Failure> {
    let id = match revision {
        // A commit never changes, so the host need not be asked again.
        Revision::Commit(commit) if repo.has_object(gix_id(commit).map_err(Failure::Remote)?) => {
            gix_id(commit).map_err(Failure::Remote)?
        }
        Revision::Refs(_) if let Some(id) = seen_before(repo, wanted.known.seen) => id,
        Revision::Commit(_) | Revision::Refs(_) => {
            let mut session = Session::open(wanted.remote, wanted.timeouts, activity).map_err(Failure::Remote)?;
            let id = match revision {
                Revision::Commit(commit) => gix_id(commit).map_err(Failure::Remote)?,
                Revision::Refs(names) => {
                    session.resolve(names, activity).map_err(|unanswered| Failure::Remote(unanswered.into_error()))?
                }
            };
            if !repo.has_object(id) {
                receive(repo, &mut session, id, revision, wanted.max_pack_bytes, activity)?;
            }
            session.close();
            id
        }
    };
    let url = wanted.remote.display_url();
    check_commit(repo, id, wanted.revision, &url)?;
    repo.reference(keep_name(wanted.revision), id, PreviousValue::Any, "fetch")
        .map_err(|error| Failure::Mirror(classify::local(&error, "write a reference of the mirror")))?;
    let forced = is_forced(repo, wanted.known.base, id, activity).map_err(Failure::Mirror)?;
    if let Some(base) = wanted.known.base.filter(|_| forced) {
        repack::keep(repo, base).map_err(Failure::Mirror)?;
        for other in repack::apart(repo, id, wanted, activity) {
            repack::keep(repo, other).map_err(Failure::Mirror)?;
        }
    }
    let commit = id.to_string().parse().map_err(|error| Failure::Remote(GitError::other(format!("{error}"))))?;
    Ok(FetchOutcome { commit, forced, rebuilt: None, not_repacked: None })
}

/// The commit that the revision was seen at, when the mirror holds it.
fn seen_before(repo: &Repository, seen: Option<&CommitId>) -> Option<gix::ObjectId> {
    gix_id(seen?).ok().filter(|id| repo.has_object(*id))
}

/// The reference of ours that keeps what `revision` pointed at.
fn keep_name(revision: &str) -> String {
    let digest = sha2::Sha256::digest(revision.trim().as_bytes());
    let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("refs/shorebase/{name}")
}

fn check_commit(repo: &Repository, id: gix::ObjectId, revision: &str, url: &str) -> Result<(), Failure> {
    let broken =
        |error: gix::Error| Failure::Mirror(classify::local(&error, &format!("read commit {id} in the mirror")));
    let object = repo.find_object(id).map_err(broken)?;
    let kind = object.kind;
    if kind != gix::objs::Kind::Commit {
        let message = format!("the revision {revision:?} of {url} is a {kind}, not a commit");
        return Err(Failure::Remote(GitError::new(GitErrorKind::RefMissing, message)));
    }
    object.into_commit().tree().map_err(broken).map(|_| ())
}

fn receive(
    repo: &Repository,
    session: &mut Session,
    id: gix::ObjectId,
    revision: &Revision,
    max_pack_bytes: u64,
    activity: &Activity,
) -> Result<(), Failure> {
    let mut graph_repo = repo.clone();
    // Looking for commits that only the host has must not make the object database re-read its directory each time.
    graph_repo.objects.refresh_never();
    graph_repo.objects.unset_object_cache();
    let mut graph = graph_repo.revision_graph(None);
    let map = RefMap {
        mappings: vec![refmap::Mapping {
            remote: refmap::Source::ObjectId(id),
            local: None,
            spec_index: refmap::SpecIndex::ExplicitInRemote(0),
        }],
        object_hash: repo.object_hash(),
        ..RefMap::default()
    };
    let mut negotiation =
        Negotiation { repo: &graph_repo, graph: &mut graph, map, negotiator: Algorithm::Consecutive.into_negotiator() };
    let pack_directory = repo.objects.store_ref().path().join("pack");
    let mut keep_path = None;
    let too_large = Arc::new(AtomicBool::new(false));
    let interrupt = AtomicBool::new(false);
    let thread = this_thread();
    let result = gix::protocol::fetch(
        &mut negotiation,
        |pack, progress, interrupt| {
            let mut bounded = BufReader::new(Bounded {
                inner: pack,
                taken: 0,
                most: max_pack_bytes,
                exceeded: Arc::clone(&too_large),
                thread,
            });
            let written = gix::odb::pack::Bundle::write_to_directory(
                &mut bounded,
                Some(&pack_directory),
                progress,
                interrupt,
                Some(Box::new(repo.clone().objects)),
                repo.object_hash(),
                gix::odb::pack::bundle::write::Options {
                    thread_limit: Some(INDEX_THREADS),
                    alloc_limit_bytes: Some(MAX_OBJECT_BYTES),
                    ..Default::default()
                },
            )?;
            keep_path = written.keep_path;
            Ok(true)
        },
        activity.clone(),
        &interrupt,
        Context {
            handshake: &mut session.handshake,
            transport: &mut session.transport,
            user_agent: agent(),
            trace_packetlines: false,
        },
        Options {
            shallow_file: repo.git_dir().join("shallow"),
            shallow: &Shallow::NoChange,
            tags: Tags::None,
            reject_shallow_remote: true,
        },
    );
    if too_large.load(Ordering::Relaxed) {
        let message = format!(
            "the host sends more than {max_pack_bytes} bytes at once for this repository, more than git.maxPackBytes allows; raise it, or make the repository smaller"
        );
        return Err(Failure::Remote(GitError::new(GitErrorKind::TooLarge, message)));
    }
    if let Err(error) = result {
        return Err(blame(session, &error, id, revision));
    }
    if let Some(path) = keep_path {
        // It would keep a garbage collection away that never runs here.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn blame(session: &mut Session, error: &gix::Error, id: gix::ObjectId, revision: &Revision) -> Failure {
    let failure = session.receive_error(error);
    if failure.message.contains("not our ref") {
        let advice = match revision {
            Revision::Commit(_) => "it does not exist there, or the host hands out branches and tags only",
            Revision::Refs(_) => "the reference moved in between; the next poll will see it",
        };
        return Failure::Remote(GitError::new(
            GitErrorKind::RefMissing,
            format!("the host does not hand out commit {id}: {advice}"),
        ));
    }
    if failure.kind == GitErrorKind::Other && !classify::is_disk_trouble(error) {
        Failure::Mirror(failure)
    } else {
        Failure::Remote(failure)
    }
}

/// The number that the kernel knows this thread by.
fn this_thread() -> Option<Pid> {
    let link = std::fs::read_link("/proc/thread-self").ok()?;
    Pid::from_raw(link.file_name()?.to_str()?.parse().ok()?)
}

/// Reads at most so many bytes; more is an error. Large ones are read behind other work.
struct Bounded<R> {
    inner: R,
    taken: u64,
    most: u64,
    exceeded: Arc<AtomicBool>,
    /// The one that asked for the pack; gix may read on another.
    thread: Option<Pid>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let was_small = self.taken <= SMALL_PACK_BYTES;
        self.taken = self.taken.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.taken > self.most {
            self.exceeded.store(true, Ordering::Relaxed);
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "the pack is too large"));
        }
        if was_small && self.taken > SMALL_PACK_BYTES {
            // Of these threads and of those that they start to index. Where it is not allowed, nothing is lost but patience.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let _ = self.thread.map(|thread| rustix::process::setpriority_process(Some(thread), NICENESS));
        }
        Ok(count)
    }
}

/// What we have and what we want, for gix.
struct Negotiation<'a, 'b, 'c> {
    repo: &'a Repository,
    graph: &'a mut Graph<'b, 'c>,
    map: RefMap,
    negotiator: Box<dyn Negotiator>,
}

impl Negotiate for Negotiation<'_, '_, '_> {
    fn mark_complete_and_common_ref(&mut self) -> gix::Result<negotiate::Action> {
        negotiate::mark_complete_and_common_ref(
            &self.repo.objects,
            &self.repo.refs,
            || Ok(std::iter::empty::<(gix::refs::file::Store, gix::OdbHandle)>()),
            self.negotiator.as_mut(),
            self.graph,
            &self.map,
            &Shallow::NoChange,
            |_| false,
        )
    }

    fn add_wants(&mut self, arguments: &mut Arguments, known: &[bool]) -> bool {
        negotiate::add_wants(&self.repo.objects, arguments, &self.map, known, &Shallow::NoChange, |_| false)
    }

    fn one_round(
        &mut self,
        state: &mut negotiate::one_round::State,
        arguments: &mut Arguments,
        previous: Option<&Response>,
    ) -> gix::Result<(negotiate::Round, bool)> {
        negotiate::one_round(self.negotiator.as_mut(), self.graph, state, arguments, previous)
    }
}
