//! What bad hosts and bad lines do: each costs its deadline at most, has a kind, leaves the mirror sound, and the next fetch
//! from a good host succeeds. Over `git http-backend` (plain with an answering front, TLS with a proxy), `sshd` and
//! `git daemon`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fleet_git::GitErrorKind::{AuthFailed, DeadlineExceeded, HostUnreachable, RateLimited};
use fleet_git::{GitErrorKind, Remote, RemoteAuth, Secret, WorkerPool};
use fleet_model::CommitId;
use fleet_test::git_server::GitServer;
use fleet_test::ssh_server::{GitDaemon, SshServer};
use fleet_test::{Fault, GitRepo, TcpFaultProxy};

use crate::front::{Front, Spoil, Stage};
use crate::support::{Place, id, impatient_pool};

const SILENCE: Duration = Duration::from_secs(4);
const TOTAL: Duration = Duration::from_secs(8);
/// Where nothing is to be late, nothing is, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(15);

/// A repository that grows, on a host, and a mirror of it.
struct Stand {
    repo: GitRepo,
    bare: GitRepo,
    pool: WorkerPool,
    /// For what has to end at a deadline.
    impatient: WorkerPool,
    place: Place,
    round: usize,
    last: CommitId,
}

impl Stand {
    fn new() -> Self {
        let repo = GitRepo::init();
        let last = id(&repo.write("a.yaml", "a: 1\n").commit("one"));
        let bare = repo.bare_clone();
        let (pool, impatient) = (impatient_pool(PATIENCE, PATIENCE), impatient_pool(SILENCE, TOTAL));
        Self { repo, bare, pool, impatient, place: Place::new(), round: 0, last }
    }

    /// A new commit at the host, large enough to be cut in the middle.
    fn grow(&mut self) -> CommitId {
        self.round += 1;
        let mut state = u32::try_from(self.round).unwrap();
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(60_000)
        .collect();
        let commit = id(&self.repo.write("noise", noise).commit("more"));
        self.repo.push(&self.bare, "main", false);
        commit
    }

    /// Fetches while something is wrong, and then while nothing is.
    async fn suffer(&mut self, what: &str, remote: &Remote, kinds: &[GitErrorKind], set: impl Fn(bool)) {
        let commit = self.grow();
        let mirror = self.place.mirror();
        set(true);
        let is_late = kinds.contains(&DeadlineExceeded);
        let pool = if is_late { &self.impatient } else { &self.pool };
        let started = Instant::now();
        let error = pool.fetch(&mirror, remote, "main", Some(&self.last)).await.expect_err(what);
        assert!(kinds.contains(&error.kind), "{what}: {:?}: {error}", error.kind);
        assert!(started.elapsed() < TOTAL + SLACK, "{what}: {:?}", started.elapsed());
        set(false);
        assert_eq!(self.pool.list_tree(&mirror, &self.last, "a.yaml").await.unwrap().len(), 1, "{what}");
        let outcome = match pool.fetch(&mirror, remote, "main", Some(&self.last)).await {
            // On a busy machine even a good host is too late for the impatient one.
            Err(error) if is_late && error.kind == DeadlineExceeded => {
                self.pool.fetch(&mirror, remote, "main", Some(&self.last)).await
            }
            outcome => outcome,
        };
        let outcome = outcome.unwrap_or_else(|e| panic!("{what}: {e}"));
        // So many fetches bring many packs, which are put together now and then.
        let rebuilt = outcome.rebuilt.filter(|why| !why.contains("too many packs"));
        assert_eq!((&outcome.commit, outcome.forced, rebuilt), (&commit, false, None), "{what}");
        sound(&mirror, what);
        self.last = commit;
    }
}

/// Git finds nothing wrong with the mirror, and nothing is left over beside it.
fn sound(mirror: &Path, what: &str) {
    let output = Command::new("git").arg("-C").arg(mirror).args(["fsck", "--full", "--strict"]).output().unwrap();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let beside: Vec<_> = std::fs::read_dir(mirror.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "{what}: mirror and guard only: {beside:?}");
    for file in std::fs::read_dir(mirror.join("objects/pack")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with("pack-") && !name.ends_with(".keep"), "{what}: {name}");
    }
}

#[tokio::test]
async fn whatever_a_host_answers_the_mirror_stays_sound_and_the_next_fetch_works() {
    let mut stand = Stand::new();
    let server = GitServer::start(stand.bare.scratch(), None).unwrap();
    let front = Front::start(server.http_port());
    let remote = Remote::anonymous(front.url("bare.git"));
    stand.last = stand.pool.fetch(&stand.place.mirror(), &remote, "main", None).await.unwrap().commit;
    let broken: &[GitErrorKind] = &[HostUnreachable];
    let late: &[GitErrorKind] = &[DeadlineExceeded];
    for stage in [Stage::Listing, Stage::Pack] {
        for (spoil, kinds) in [
            (Spoil::CutAt(0), broken),
            (Spoil::CutAt(1), broken),
            (Spoil::CutAt(90), broken),
            (Spoil::CutAt(200), broken),
            (Spoil::Shorten(0), broken),
            (Spoil::Shorten(500), broken),
            (Spoil::Shorten(990), broken),
            (Spoil::Stall, late),
            (Spoil::Drip, late),
            (Spoil::WrongType, broken),
            (Spoil::Status(401), &[AuthFailed]),
            (Spoil::Status(503), broken),
            (Spoil::TooMany(7), &[RateLimited]),
            (Spoil::RedirectLoop, broken),
        ] {
            let what = format!("{spoil:?} of {stage:?}");
            stand.suffer(&what, &remote, kinds, |on| front.set(stage, if on { spoil } else { Spoil::Nothing })).await;
        }
    }
    for spoil in [Spoil::FlipInPack, Spoil::CutAt(40_000), Spoil::CutAt(59_990)] {
        let what = format!("{spoil:?}");
        stand
            .suffer(&what, &remote, broken, |on| front.set(Stage::Pack, if on { spoil } else { Spoil::Nothing }))
            .await;
    }
}

#[tokio::test]
async fn a_host_that_says_when_to_come_back_is_understood() {
    let stand = Stand::new();
    let server = GitServer::start(stand.bare.scratch(), None).unwrap();
    let front = Front::start(server.http_port());
    let remote = Remote::anonymous(front.url("bare.git"));
    front.set(Stage::Listing, Spoil::TooMany(7));
    let error = stand.pool.observe(&remote, "main").await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (RateLimited, Some(Duration::from_secs(7))), "{error}");
    front.set(Stage::Listing, Spoil::Nothing);
    assert_eq!(stand.pool.observe(&remote, "main").await.unwrap(), stand.last);
}

async fn bad_line(stand: &mut Stand, remote: &Remote, proxy: &TcpFaultProxy, cuts: &[u64], refused: &[GitErrorKind]) {
    stand.last = stand.pool.fetch(&stand.place.mirror(), remote, "main", None).await.unwrap().commit;
    let mut faults: Vec<(Fault, &[GitErrorKind])> = cuts.iter().map(|cut| (Fault::CutAfter(*cut), refused)).collect();
    faults.push((Fault::Reset, refused));
    faults.push((Fault::Stall, &[DeadlineExceeded, HostUnreachable]));
    faults.push((Fault::Drip(Duration::from_secs(1)), &[DeadlineExceeded, HostUnreachable]));
    for (fault, kinds) in faults {
        let set = |on: bool| proxy.set(if on { fault } else { Fault::None });
        stand.suffer(&format!("{fault:?} on the way to {}", remote.url), remote, kinds, set).await;
    }
}

#[tokio::test]
async fn a_bad_line_below_tls_costs_a_deadline_and_harms_nothing() {
    let mut stand = Stand::new();
    let server = GitServer::start(stand.bare.scratch(), Some(("syncer", "s3cret"))).unwrap();
    let proxy = TcpFaultProxy::start(([127, 0, 0, 1], server.https_port()).into()).await.unwrap();
    let mut remote = Remote::anonymous(format!("https://localhost:{}/bare.git", proxy.address().port()));
    remote.https.ca_pem = Some(server.ca_pem().to_owned());
    remote.https.auth = RemoteAuth::Basic { username: "syncer".to_owned(), password: Secret::new("s3cret") };
    // Within TLS's handshake, the listing, and the pack.
    bad_line(&mut stand, &remote, &proxy, &[0, 200, 1_500, 4_000, 20_000, 50_000], &[HostUnreachable]).await;
}

#[tokio::test]
async fn a_bad_line_to_a_git_daemon_costs_a_deadline_and_harms_nothing() {
    let mut stand = Stand::new();
    let daemon = GitDaemon::start(stand.bare.scratch()).unwrap();
    let proxy = TcpFaultProxy::start(([127, 0, 0, 1], daemon.port()).into()).await.unwrap();
    let remote = Remote::anonymous(format!("git://127.0.0.1:{}/bare.git", proxy.address().port()));
    bad_line(&mut stand, &remote, &proxy, &[0, 60, 300, 700, 30_000], &[HostUnreachable]).await;
}

#[tokio::test]
async fn a_bad_line_to_an_ssh_server_costs_a_deadline_and_harms_nothing() {
    let mut stand = Stand::new();
    let server = SshServer::start().unwrap();
    let proxy = TcpFaultProxy::start(([127, 0, 0, 1], server.port()).into()).await.unwrap();
    let (real, ours) = (server.port().to_string(), proxy.address().port().to_string());
    let mut remote = Remote::anonymous(server.url(stand.bare.path()).replacen(&real, &ours, 1));
    remote.ssh.private_key = Some(Secret::new(server.private_key()));
    remote.ssh.known_hosts = Some(server.known_hosts().replace(&real, &ours));
    bad_line(&mut stand, &remote, &proxy, &[0, 10, 1_000, 5_000, 40_000], &[HostUnreachable]).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_local_path_has_a_kind() {
    let mut stand = Stand::new();
    let remote = Remote::anonymous(stand.bare.path().to_str().unwrap());
    stand.last = stand.pool.fetch(&stand.place.mirror(), &remote, "main", None).await.unwrap().commit;
    let (bare, away) = (stand.bare.path().to_owned(), stand.bare.scratch().join("away"));
    stand
        .suffer("the repository is away", &remote, &[HostUnreachable], |on| {
            if on { std::fs::rename(&bare, &away).unwrap() } else { std::fs::rename(&away, &bare).unwrap() }
        })
        .await;
    let (head, saved) = (bare.join("HEAD"), bare.join("HEAD.saved"));
    stand
        .suffer("the repository is no repository", &remote, &[HostUnreachable], |on| {
            if on { std::fs::rename(&head, &saved).unwrap() } else { std::fs::rename(&saved, &head).unwrap() }
        })
        .await;
}

#[tokio::test]
async fn a_host_that_fails_at_the_quick_question_is_asked_in_the_long_way() {
    let stand = Stand::new();
    let server = GitServer::start(stand.bare.scratch(), None).unwrap();
    let front = Front::start(server.http_port());
    let remote = Remote::anonymous(front.url("bare.git"));
    front.set(Stage::Quick, Spoil::Status(502));
    let mut answers = Vec::new();
    for _ in 0..8 {
        match stand.pool.observe(&remote, "main").await {
            Ok(commit) => answers.push(commit == stand.last),
            Err(error) => {
                assert!(error.kind == HostUnreachable && error.message.contains("502"), "{error}");
                answers.push(false);
            }
        }
    }
    assert_eq!(answers, [false, true, false, true, true, true, true, true]);
    // One that asks to be left alone is asked the same way afterwards.
    let other = Front::start(server.http_port());
    let remote = Remote::anonymous(other.url("bare.git"));
    other.set(Stage::Quick, Spoil::TooMany(7));
    for _ in 0..3 {
        assert_eq!(stand.pool.observe(&remote, "main").await.unwrap_err().kind, RateLimited);
    }
}
