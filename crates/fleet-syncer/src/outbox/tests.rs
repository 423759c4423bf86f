//! The outbox and its sender against a real database and the documented contract of a forge.

use std::sync::Arc;
use std::time::Duration;

use fleet_forge::{Forge, ForgeKind, ForgeSettings, StatusState};
use fleet_git::{Limits, WorkerCommand, WorkerPool};
use fleet_model::{CommitId, Diagnostic, OrgId, Severity};
use fleet_runtime::{Clock as _, SystemClock};
use fleet_store::{
    ConnectOptions, Lease, LeaseName, LeaseSession, MAX_WAITING, Message, NewMessage, RolloutProgress,
    SourceDefinition, Store, Ts, due_messages, message_done, open_rollouts, outbox_backlog, put_message, put_source,
    record_applied, tidy_outbox,
};
use fleet_test::TestDatabase;
use fleet_test::forge_host::{Failure, Flavor, ForgeHost};

use super::messages::{APPLY, LINT, PLAN, ROLLOUT, Topic, linted, put};
use super::rollout::words;
use super::send::{Next, Sender, tidy_once};
use super::*;
use crate::config::SyncerConfig;
use crate::dependencies::Dependencies;
use crate::metrics::SyncerMetrics;
use crate::mirrors::Mirrors;
use crate::revisions::RevisionCache;

const ORG: OrgId = OrgId::DEFAULT;
const URL: &str = "https://git.test/acme/fleet.git";
const TOKEN: &str = "unsaid";

struct World {
    shared: Arc<Shared>,
    lease: Lease,
    host: ForgeHost,
    _directory: tempfile::TempDir,
    _database: TestDatabase,
}

impl World {
    async fn new() -> Self {
        let database = TestDatabase::create();
        let store = Store::connect(&ConnectOptions { url: database.url(), max_connections: 3 }).await.unwrap();
        store.migrate().await.unwrap();
        let ttl = Duration::from_secs(600);
        let mut session = LeaseSession::connect(&store, LeaseName::Syncer, "test").await.unwrap();
        let lease = session.acquire(ttl).await.unwrap().unwrap();
        let host = tokio::task::spawn_blocking(|| ForgeHost::start(Flavor::GitHub, TOKEN)).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, TOKEN).unwrap();
        let settings = ForgeSettings {
            kind: ForgeKind::GitHub,
            url_prefix: "https://git.test/acme/".to_owned(),
            api_url: host.api_url(),
            token_file,
            ca_pem: None,
        };
        let forge = Arc::new(Forge::new(settings.clone()).unwrap());
        let silent = ForgeSettings { url_prefix: "https://git.test/acme/silent".to_owned(), ..settings };
        let silent = Arc::new(Forge::new(silent).unwrap());
        let config = Arc::new(SyncerConfig {
            forges: vec![
                ForgeConfig {
                    forge,
                    commit_statuses: true,
                    plan_comments: false,
                    target_url: Some("https://x/{source}/{context}".to_owned()),
                },
                ForgeConfig { forge: silent, commit_statuses: false, plan_comments: false, target_url: None },
            ],
            ..SyncerConfig::for_tests()
        });
        let arguments: [&str; 0] = [];
        let clock = Arc::new(SystemClock);
        let mirrors = Arc::new(Mirrors::new(Arc::clone(&config), SyncerMetrics::default()));
        let shared = Shared {
            store: store.clone(),
            git: WorkerPool::new(WorkerCommand::new("/nonexistent", arguments), Limits::default()),
            clock: clock.clone(),
            cache: RevisionCache::default(),
            dependencies: Dependencies::new(Arc::clone(&config), store.clone(), clock.clone(), Arc::clone(&mirrors)),
            secrets: crate::secrets::Secrets::new(None, store.clone()),
            web: crate::web::WebFiles::new(Arc::clone(&config), store, clock),
            mirrors,
            polls: crate::poll_notes::PollNotes::default(),
            metrics: SyncerMetrics::default(),
            turn: tokio::sync::Mutex::default(),
            outbox: Outbox::new(&config.forges),
            config,
        };
        Self { shared: Arc::new(shared), lease, host, _directory: directory, _database: database }
    }

    fn sender(&self) -> Sender {
        Sender::new(Arc::clone(&self.shared), self.lease.clone(), self.shared.config.forges[0].clone())
    }

    async fn put_at(&self, url: &str, commit: &CommitId, context: &str, state: StatusState, text: &str) -> bool {
        let mut transaction = self.shared.store.begin().await.unwrap();
        let topic = Topic { org: ORG, source: "main", url, commit, at: now() };
        let news = put(&mut transaction, &self.shared.outbox, topic, context, state, text).await.unwrap();
        transaction.commit().await.unwrap();
        news
    }

    async fn put(&self, commit: &CommitId, context: &str, state: StatusState, text: &str) -> bool {
        self.put_at(URL, commit, context, state, text).await
    }

    async fn due(&self) -> Vec<Message> {
        let later = Ts::from(SystemClock.now() + Duration::from_secs(86_400));
        due_messages(self.shared.store.pool(), ORG, "https://git.test/acme/", &[], later, 1_000).await.unwrap()
    }

    async fn waiting(&self) -> i64 {
        outbox_backlog(self.shared.store.pool(), ORG, now()).await.unwrap().0
    }

    fn set(&self) -> Vec<(String, String)> {
        self.host.statuses().into_iter().map(|status| (status.context, status.description)).collect()
    }
}

fn now() -> Ts {
    Ts::from(SystemClock.now())
}

fn commit(n: u32) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn answer(code: u16, headers: &[(&'static str, &str)]) -> Failure {
    Failure::Answer(code, headers.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(), "no".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_state_takes_the_place_of_one_that_waits_and_nothing_is_told_twice() {
    let world = World::new().await;
    let first = commit(1);
    assert!(world.put(&first, PLAN, StatusState::Pending, "held").await);
    assert!(world.put(&first, PLAN, StatusState::Success, "approved").await);
    assert!(!world.put(&first, PLAN, StatusState::Success, "approved").await);
    assert_eq!(world.sender().pass().await.unwrap(), Next::Now);
    assert_eq!(world.set(), pairs(&[(PLAN, "approved")]));
    assert!(!world.put(&first, PLAN, StatusState::Success, "approved").await, "it was told");
    assert_eq!(world.sender().pass().await.unwrap(), Next::Wake);
    assert_eq!(world.host.statuses()[0].target_url.as_deref(), Some("https://x/main/shorebase/plan"));
    assert!(world.put(&first, PLAN, StatusState::Pending, "held again").await);
    assert_eq!(world.waiting().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_it_is_sent_is_sent_again() {
    let world = World::new().await;
    world.put(&commit(1), ROLLOUT, StatusState::Pending, "1/2 devices").await;
    let sent = world.due().await.remove(0);
    world.put(&commit(1), ROLLOUT, StatusState::Success, "2/2 devices").await;
    let mut transaction = world.shared.store.begin().await.unwrap();
    message_done(&mut transaction, ORG, &sent, None, now()).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(world.due().await[0].description, "2/2 devices");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_keeps_the_order_of_its_context_and_does_not_hold_up_others() {
    let world = World::new().await;
    for n in 1..=3 {
        world.put(&commit(n), APPLY, StatusState::Success, &format!("{n}")).await;
    }
    world.put(&commit(1), LINT, StatusState::Success, "no findings").await;
    world.host.fail([answer(403, &[])]);
    let mut sender = world.sender();
    assert_eq!(sender.pass().await.unwrap(), Next::Now);
    assert_eq!(
        world.set(),
        pairs(&[(LINT, "no findings")]),
        "the first of its context is to be tried again before others"
    );
    tokio::time::timeout(Duration::from_secs(30), async {
        while world.waiting().await > 0 {
            sender.pass().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(world.set(), pairs(&[(LINT, "no findings"), (APPLY, "1"), (APPLY, "2"), (APPLY, "3")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_asks_for_patience_gets_it() {
    let world = World::new().await;
    world.put(&commit(1), LINT, StatusState::Success, "x").await;
    world.put(&commit(1), PLAN, StatusState::Success, "y").await;
    world.host.fail([answer(429, &[("retry-after", "77")])]);
    assert_eq!(world.sender().pass().await.unwrap(), Next::After(Duration::from_secs(77)));
    assert_eq!(world.host.requests().len(), 1, "nothing else is asked meanwhile");
    let mut other = world.sender();
    world.host.fail([answer(500, &[])]);
    let Next::After(pause) = other.pass().await.unwrap() else { panic!("the host is to be left alone") };
    assert!(pause <= Duration::from_secs(1), "{pause:?}");
    // A newer state of what failed waits as long.
    world.put(&commit(1), LINT, StatusState::Success, "newer").await;
    let soon = Ts::from(SystemClock.now() + Duration::from_secs(20));
    let due = due_messages(world.shared.store.pool(), ORG, "https://git.test/", &[], soon, 10).await.unwrap();
    assert_eq!(due.iter().map(|one| one.context.as_str()).collect::<Vec<_>>(), [PLAN]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_forge_does_not_have_is_given_up_and_the_next_is_told() {
    let world = World::new().await;
    world.host.forget_commit(commit(1).as_str());
    world.put(&commit(1), APPLY, StatusState::Success, "gone").await;
    world.put(&commit(2), APPLY, StatusState::Success, "here").await;
    let mut sender = world.sender();
    tokio::time::timeout(Duration::from_secs(60), async {
        while world.waiting().await > 0 {
            sender.pass().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(world.set(), pairs(&[(APPLY, "here")]));
    assert_eq!(world.shared.metrics.outbox.given_up.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_is_tried_again_for_as_long_as_it_takes() {
    let world = World::new().await;
    world.put(&commit(1), APPLY, StatusState::Success, "x").await;
    world.host.rotate("another");
    let mut sender = world.sender();
    sender.pass().await.unwrap();
    assert_eq!((world.waiting().await, world.set()), (1, pairs(&[])));
    world.host.rotate(TOKEN);
    tokio::time::timeout(Duration::from_secs(30), async {
        while world.waiting().await > 0 {
            sender.pass().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(world.set(), pairs(&[(APPLY, "x")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_lease_notes_nothing() {
    let world = World::new().await;
    world.put(&commit(1), APPLY, StatusState::Success, "x").await;
    let mut sender = world.sender();
    let mut next = LeaseSession::connect(&world.shared.store, LeaseName::Syncer, "next").await.unwrap();
    next.acquire(Duration::from_secs(60)).await.unwrap().expect("the first session has ended");
    assert!(sender.pass().await.is_err());
    assert_eq!(world.waiting().await, 1, "the new holder tells it, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_forges_that_are_told_have_messages_and_their_number_is_bounded() {
    let world = World::new().await;
    for url in ["https://git.test/acme/silent.git", "https://other.test/acme/fleet.git", "/srv/git/fleet"] {
        assert!(!world.put_at(url, &commit(1), LINT, StatusState::Success, "x").await, "{url}");
    }
    let most = u32::try_from(MAX_WAITING).unwrap();
    let mut transaction = world.shared.store.begin().await.unwrap();
    for n in 0..most + 20 {
        let commit = commit(n);
        let topic = Topic { org: ORG, source: "main", url: URL, commit: &commit, at: now() };
        let state = StatusState::Success;
        put(&mut transaction, &world.shared.outbox, topic, LINT, state, &"ß".repeat(300)).await.unwrap();
    }
    transaction.commit().await.unwrap();
    assert_eq!(world.waiting().await, MAX_WAITING);
    assert_eq!(world.due().await[0].commit, commit(20), "the oldest made room");
    let mut sender = world.sender();
    sender.pass().await.unwrap();
    assert_eq!(world.host.statuses()[0].description.chars().count(), 140);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_and_that_of_a_rollout_that_goes_on_stays() {
    let world = World::new().await;
    let source = SourceDefinition {
        name: "main".to_owned(),
        origin: "config".to_owned(),
        credential: None,
        url: URL.to_owned(),
        revision: "main".to_owned(),
        path: "/".to_owned(),
    };
    let mut transaction = world.shared.store.begin().await.unwrap();
    put_source(&mut transaction, ORG, &source).await.unwrap();
    record_applied(&mut transaction, ORG, &source, &commit(2), None, now(), 1, &[], &[]).await.unwrap();
    transaction.commit().await.unwrap();
    for n in 1..=2 {
        world.put(&commit(n), LINT, StatusState::Success, "x").await;
        world.put(&commit(n), ROLLOUT, StatusState::Failure, "1/2 devices; 1 in error").await;
    }
    let mut sender = world.sender();
    while sender.pass().await.unwrap() == Next::Now {}
    assert_eq!(open_rollouts(world.shared.store.pool(), ORG).await.unwrap().len(), 1);
    let later = Ts::from(SystemClock.now() + Duration::from_secs(5));
    let long_ago = Ts::from(SystemClock.now() - Duration::from_secs(5_000));
    let mut transaction = world.shared.store.begin().await.unwrap();
    assert_eq!(tidy_outbox(&mut transaction, ORG, long_ago, long_ago).await.unwrap(), 0);
    assert_eq!(tidy_outbox(&mut transaction, ORG, later, long_ago).await.unwrap(), 3);
    transaction.commit().await.unwrap();
    let open = open_rollouts(world.shared.store.pool(), ORG).await.unwrap();
    assert_eq!((open.len(), &open[0].commit), (1, &commit(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_forge_that_is_gone_holds_up_nobody_and_goes_after_a_day() {
    let world = World::new().await;
    let strand = async |n: u32, url: &str, age: Duration| {
        let (commit, at) = (commit(n), Ts::from(SystemClock.now() - age));
        let message = NewMessage {
            source: "main",
            url,
            commit: &commit,
            context: APPLY,
            state: "success",
            description: "stranded",
            target_url: None,
        };
        let mut transaction = world.shared.store.begin().await.unwrap();
        assert!(put_message(&mut transaction, ORG, &message, at).await.unwrap());
        transaction.commit().await.unwrap();
    };
    let hour = Duration::from_secs(3_600);
    strand(1, "https://old.test/acme/fleet.git", 25 * hour).await;
    strand(2, "https://old.test/acme/fleet.git", 23 * hour).await;
    strand(3, "https://git.test/acme/silent/fleet.git", 25 * hour).await;
    strand(4, URL, 25 * hour).await;
    world.put(&commit(5), APPLY, StatusState::Success, "here").await;
    let mut sender = world.sender();
    while sender.pass().await.unwrap() == Next::Now {}
    assert_eq!(world.set(), pairs(&[(APPLY, "stranded"), (APPLY, "here")]), "in order, past those for other forges");
    assert_eq!(world.waiting().await, 3);
    strand(6, URL, 25 * hour).await;
    tidy_once(&world.shared, &world.lease).await.unwrap();
    assert_eq!(world.waiting().await, 2, "the young one, and the one that can be told");
}

#[test]
fn words_say_how_far_devices_are_and_what_lint_found_first() {
    let told = |devices, updated, failed| words(RolloutProgress { devices, updated, failed });
    assert_eq!(told(0, 0, 0), (StatusState::Success, "no devices".to_owned()));
    assert_eq!(told(40, 12, 0), (StatusState::Pending, "12/40 devices".to_owned()));
    assert_eq!(told(40, 12, 2), (StatusState::Failure, "12/40 devices; 2 in error".to_owned()));
    assert_eq!(told(1, 1, 0), (StatusState::Success, "1/1 device".to_owned()));
    let finding = |severity, line| Diagnostic {
        code: "SB0102".to_owned(),
        severity,
        message: "no such field".to_owned(),
        file: "fleets/a.yaml".to_owned(),
        line,
        column: 1,
        end_line: line,
        end_column: 2,
        pointer: String::new(),
        hint: None,
    };
    assert_eq!(linted(&[]), "no findings");
    assert_eq!(linted(&[finding(Severity::Warning, 1)]), "1 warning");
    let both = [finding(Severity::Warning, 1), finding(Severity::Error, 7), finding(Severity::Error, 9)];
    assert_eq!(linted(&both), "2 errors: fleets/a.yaml:7: no such field (SB0102)");
}
