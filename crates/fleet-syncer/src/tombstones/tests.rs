//! What leaves Git, against a real database: undone, replaced, moved, over, and lost with desired state.

use fleet_model::CommitId;
use fleet_runtime::Clock as _;
use fleet_store::{SourceDefinition, Suspension, end_suspension, lock_device_changes, restore_leaving, suspend_source};

use super::*;
use crate::apply::{ApplyError, Outcome};
use crate::enroll::policies;
use crate::planning::tests::{Files, ORG, World, definition, device_name};

const HOUR: i64 = 3_600;

pub(crate) fn fleet(name: &str, role: &str, content: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: {name}\nspec:\n  selector:\n    matchLabels:\n      role: {role}\n  \
         template:\n    spec:\n      config:\n        - name: i\n          inline:\n            - path: /etc/x\n              content: {content}\n"
    )
}

pub(crate) fn policy(name: &str, spec: &str) -> String {
    format!("apiVersion: shorebase/v1alpha1\nkind: SyncPolicy\nmetadata:\n  name: {name}\nspec:\n  {spec}\n")
}

pub(crate) fn files(all: &[(&str, &str)]) -> Files {
    all.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

pub(crate) fn id(n: u64) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

/// A source whose commits are numbered.
pub(crate) struct Repo<'w> {
    pub(crate) world: &'w World,
    pub(crate) definition: SourceDefinition,
    pub(crate) at: Option<u64>,
}

impl<'w> Repo<'w> {
    pub(crate) async fn new(world: &'w World, name: &str) -> Self {
        Self { world, definition: world.source(name).await, at: None }
    }

    /// Applies commit `n`; gives the new versions of devices.
    pub(crate) async fn commit(&mut self, n: u64, all: &[(&str, &str)]) -> usize {
        self.with_children(n, all, &[]).await
    }

    pub(crate) async fn with_children(&mut self, n: u64, all: &[(&str, &str)], children: &[SourceDefinition]) -> usize {
        let mut desired = self.world.desired(&self.definition.name, &id(n), &files(all)).await;
        desired.child_sources = children.to_vec();
        let base = self.at.map(id);
        let applied = self.world.apply(&self.definition, base.as_ref(), &id(n), &desired).await;
        self.at = Some(n);
        applied.devices.new_versions
    }

    /// What the guard makes of commit `n`.
    pub(crate) async fn guarded(&mut self, n: u64, all: &[(&str, &str)]) -> Outcome {
        let desired = self.world.desired(&self.definition.name, &id(n), &files(all)).await;
        let base = self.at.map(id);
        let outcome = self.world.guarded(&self.definition, base.as_ref(), &id(n), &desired).await.unwrap();
        if matches!(outcome, Outcome::Applied(_)) {
            self.at = Some(n);
        }
        outcome
    }
}

async fn world() -> World {
    let world = World::with_grace(Duration::from_secs(3_600)).await;
    world.enroll(&device_name(1), &[("role", "a")]).await;
    world.enroll(&device_name(2), &[("role", "b")]).await;
    world
}

/// Everything that devices and people can see of devices.
fn devices(world: &World) -> String {
    world.sql(
        "select right(name, 1), owner_fleet, conflicting_fleets, fleet_revision, rendered_version,
                encode(rendered_digest, 'hex'), render_error, change_seq, dirty from devices order by name",
    )
}

pub(crate) fn owners(world: &World) -> String {
    world
        .sql("select coalesce(owner_fleet, '-') || ' ' || rendered_version from devices order by name")
        .replace('\n', ", ")
}

fn left(world: &World) -> String {
    world.sql("select kind || '/' || name from tombstones order by kind, name").replace('\n', ", ")
}

#[tokio::test]
async fn a_revert_within_the_grace_changes_no_device_and_no_history() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b, newer) = (fleet("a", "a", "one"), fleet("b", "b", "two"), fleet("a", "a", "newer"));
    let manifest = format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: {}\n  labels:\n    role: b\n",
        device_name(1)
    );
    assert_eq!(main.commit(1, &[("a.yaml", &a), ("b.yaml", &b)]).await, 2);
    assert_eq!(main.commit(2, &[("a.yaml", &newer), ("b.yaml", &b), ("d.yaml", &manifest)]).await, 1);
    assert_eq!(owners(&world), "b 2, b 1");
    let history = "select kind, name, generation, commit_id, digest from desired.manifests order by kind, name";
    let (seen, known) = (devices(&world), world.sql(history));
    let revisions = world.sql("select fleet, name, created_at from desired.fleet_revisions order by 1, 2");
    assert_eq!(main.commit(3, &[("b.yaml", &b)]).await, 0);
    assert_eq!(left(&world), format!("Device/{}, Fleet/a", device_name(1)));
    assert_eq!(devices(&world), seen, "labels of a removed manifest stay in force");
    world.wait(HOUR - 1);
    assert_eq!(world.pass().await.removed, 0);
    assert_eq!(main.commit(4, &[("a.yaml", &newer), ("b.yaml", &b), ("d.yaml", &manifest)]).await, 0);
    assert_eq!((left(&world), devices(&world)), (String::new(), seen.clone()));
    assert_eq!(world.sql(history), known, "generation and commit are those of before");
    assert_eq!(world.sql("select fleet, name, created_at from desired.fleet_revisions order by 1, 2"), revisions);
    world.wait(2 * HOUR);
    assert_eq!(world.pass().await.removed, 0, "nothing is left to remove");
    assert_eq!(devices(&world), seen);
}

#[tokio::test]
async fn a_grace_ends_on_the_moment_and_devices_keep_their_documents() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b) = (fleet("a", "a", "one"), fleet("b", "b", "two"));
    main.commit(1, &[("a.yaml", &a), ("b.yaml", &b)]).await;
    main.commit(2, &[("b.yaml", &b)]).await;
    let end: Timestamp = world.clock.now().checked_add(SignedDuration::from_hours(1)).unwrap();
    world.clock.set(end.checked_sub(SignedDuration::from_micros(1)).unwrap());
    assert_eq!(world.pass().await, Ended { removed: 0, leaving: 1, more: false });
    let before = world.sql("select encode(rendered_digest, 'hex') from devices order by name");
    assert_eq!(owners(&world), "a 1, b 1");
    world.clock.set(end);
    assert_eq!(world.pass().await, Ended { removed: 1, leaving: 0, more: false });
    assert_eq!(owners(&world), "- 1, b 1");
    assert_eq!(world.sql("select encode(rendered_digest, 'hex') from devices order by name"), before);
    assert_eq!(world.sql("select name from desired.fleets") + &world.sql("select name from desired.manifests"), "bb");
    let told = world.sql("select kind, name, message from events where reason = 'ResourceDeleted'");
    assert_eq!(
        told,
        format!("Fleet|a|Fleet a removed: it left source main with commit {}, grace of 1h over", id(2).short())
    );
    let again = main.commit(3, &[("a.yaml", &a), ("b.yaml", &b)]).await;
    assert_eq!((again, owners(&world)), (0, "a 1, b 1".to_owned()), "the same content is no new version");
}

#[tokio::test]
async fn a_fleet_that_takes_the_place_of_another_has_its_devices_at_once() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (b, old, new) = (fleet("b", "b", "two"), fleet("old", "a", "one"), fleet("new", "a", "one"));
    main.commit(1, &[("b.yaml", &b), ("x.yaml", &old)]).await;
    assert_eq!(owners(&world), "old 1, b 1");
    assert_eq!(main.commit(2, &[("b.yaml", &b), ("x.yaml", &new)]).await, 0);
    assert_eq!((owners(&world), left(&world)), ("new 1, b 1".to_owned(), "Fleet/old".to_owned()));
    assert_eq!(world.sql("select count(*) from devices where conflicting_fleets <> '{}'"), "0");
    assert_eq!(main.commit(3, &[("b.yaml", &b), ("x.yaml", &old)]).await, 0);
    assert_eq!((owners(&world), left(&world)), ("old 1, b 1".to_owned(), "Fleet/new".to_owned()), "and back");
    world.wait(HOUR);
    world.pass().await;
    assert_eq!((owners(&world), left(&world)), ("old 1, b 1".to_owned(), String::new()));
}

#[tokio::test]
async fn an_object_moves_to_another_source_without_a_gap() {
    let world = world().await;
    let (mut main, mut team) = (Repo::new(&world, "main").await, Repo::new(&world, "team").await);
    let (a, b, c) = (fleet("a", "a", "one"), fleet("b", "b", "two"), fleet("c", "c", "three"));
    main.commit(1, &[("a.yaml", &a), ("b.yaml", &b)]).await;
    team.commit(10, &[("c.yaml", &c)]).await;
    let seen = devices(&world);
    let desired = world.desired("team", &id(11), &files(&[("a.yaml", &a), ("c.yaml", &c)])).await;
    let early = world.try_apply(&team.definition, Some(&id(10)), &id(11), &desired).await;
    assert!(matches!(early, Err(ApplyError::DefinedElsewhere(_))), "{early:?}");
    main.commit(2, &[("b.yaml", &b)]).await;
    assert_eq!(team.commit(11, &[("a.yaml", &a), ("c.yaml", &c)]).await, 0);
    assert_eq!((devices(&world), left(&world)), (seen.clone(), String::new()));
    let object = world.sql("select source, generation, commit_id from desired.manifests where name = 'a'");
    assert_eq!(object, format!("team|1|{}", id(1)), "the same object");
    assert_eq!(world.sql("select source from desired.fleets where name = 'a'"), "team");
    world.wait(2 * HOUR);
    assert_eq!(world.pass().await.removed, 0);
    main.commit(3, &[("b.yaml", &b), ("README.md", "x")]).await;
    assert_eq!(devices(&world), seen);
}

#[tokio::test]
async fn a_file_that_moves_is_no_removal() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b) = (fleet("a", "a", "one"), fleet("b", "b", "two"));
    main.commit(1, &[("a.yaml", &a), ("b.yaml", &b)]).await;
    let history = "select kind, name, generation, commit_id, digest from desired.manifests order by kind, name";
    let (seen, known) = (devices(&world), world.sql(history));
    assert_eq!(main.commit(2, &[("all/b.yaml", &format!("{b}---\n{a}"))]).await, 0);
    assert_eq!((devices(&world), world.sql(history), left(&world)), (seen, known, String::new()));
    assert_eq!(world.sql("select distinct file from desired.manifests"), "all/b.yaml");
}

#[tokio::test]
async fn the_policies_in_force_before_a_commit_say_how_long_its_removals_stay() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b, c) = (fleet("a", "a", "one"), fleet("b", "b", "two"), fleet("c", "c", "three"));
    let (none, long) = (policy("none", "deletionGracePeriod: 0s"), policy("long", "deletionGracePeriod: 2h"));
    let all = [("a.yaml", a.as_str()), ("b.yaml", &b), ("c.yaml", &c), ("long.yaml", &long), ("none.yaml", &none)];
    main.commit(1, &all).await;
    // Without the policies, and a fleet less: both policies counted, the longest.
    main.commit(2, &all[..2]).await;
    let length = "select name, extract(epoch from expires_at - removed_at)::int from tombstones order by name";
    assert_eq!(world.sql(length), "c|7200\nlong|7200\nnone|7200");
    world.wait(HOUR);
    main.commit(3, &all[1..2]).await;
    assert_eq!(world.sql(length).lines().next(), Some("a|7200"), "a policy that left counts until its grace is over");
    world.wait(2 * HOUR);
    assert_eq!(world.pass().await.removed, 4);
    main.commit(4, &[("b.yaml", &b), ("c.yaml", &c), ("none.yaml", &none)]).await;
    main.commit(5, &[("b.yaml", &b), ("none.yaml", &none)]).await;
    assert_eq!(
        (left(&world), world.sql("select name from desired.fleets")),
        (String::new(), "b".to_owned()),
        "at once"
    );
}

pub(crate) fn child() -> SourceDefinition {
    SourceDefinition { origin: "ResourceSync/team".to_owned(), ..definition("team") }
}

pub(crate) const SYNC: &str = "apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: team\nspec:\n  repository: x\n  targetRevision: main\n  path: /\n";

#[tokio::test]
async fn a_source_rests_while_its_resource_sync_leaves_and_goes_with_it() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b) = (fleet("a", "a", "one"), fleet("b", "b", "two"));
    main.with_children(1, &[("b.yaml", &b), ("s.yaml", SYNC)], &[child()]).await;
    let mut team = Repo { world: &world, definition: child(), at: None };
    team.commit(10, &[("a.yaml", &a)]).await;
    let seen = devices(&world);
    assert_eq!(main.commit(2, &[("b.yaml", &b)]).await, 0);
    assert_eq!(devices(&world), seen);
    let leaving = "select (select leaving from desired.sources where name = 'team'), leaving from desired.fleets where name = 'a'";
    assert_eq!(world.sql(leaving), "t|t");
    main.with_children(3, &[("b.yaml", &b), ("s.yaml", SYNC)], &[child()]).await;
    assert_eq!((world.sql(leaving), devices(&world)), ("f|f".to_owned(), seen.clone()));
    main.commit(4, &[("b.yaml", &b)]).await;
    // Somebody else may take what leaves.
    let other = fleet("other", "a", "one");
    assert_eq!(main.commit(5, &[("b.yaml", &b), ("o.yaml", &other)]).await, 0);
    assert_eq!(owners(&world), "other 1, b 1");
    assert_eq!(main.commit(6, &[("b.yaml", &b), ("a.yaml", &a)]).await, 0);
    assert_eq!(owners(&world), "a 1, b 1");
    assert_eq!(world.sql("select source, leaving from desired.fleets where name = 'a'"), "main|f");
    world.wait(2 * HOUR);
    assert_eq!(world.pass().await.removed, 2);
    assert_eq!(world.sql("select name from desired.sources"), "main");
    assert_eq!(world.sql("select count(*) from source_positions where source = 'team'"), "0");
    assert_eq!(owners(&world), "a 1, b 1");
}

#[tokio::test]
async fn a_grace_ends_with_all_that_a_resource_sync_brought_in() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b) = (fleet("a", "a", "one"), fleet("b", "b", "two"));
    main.with_children(1, &[("b.yaml", &b), ("s.yaml", SYNC)], &[child()]).await;
    let mut team = Repo { world: &world, definition: child(), at: None };
    team.commit(10, &[("a.yaml", &a)]).await;
    main.commit(2, &[("b.yaml", &b)]).await;
    world.wait(HOUR);
    assert_eq!(world.pass().await.removed, 1);
    assert_eq!(owners(&world), "- 1, b 1");
    assert_eq!(world.sql("select name from desired.sources") + &world.sql("select name from desired.fleets"), "mainb");
}

async fn suspend(world: &World, source: &str, until: Option<Timestamp>) {
    let mut transaction = world.store.begin().await.unwrap();
    let suspension = Suspension { reason: "stop".to_owned(), by: "user:ann".to_owned(), until: until.map(Ts::from) };
    let now = Ts::from(world.clock.now());
    suspend_source(&mut transaction, ORG, source, &suspension, now, Duration::from_secs(20)).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn resume(world: &World, source: &str) {
    let mut transaction = world.store.begin().await.unwrap();
    assert!(end_suspension(&mut transaction, ORG, source, None).await.unwrap());
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_suspended_source_keeps_what_left_it_until_it_is_resumed() {
    let world = world().await;
    let (mut main, mut peer) = (Repo::new(&world, "main").await, Repo::new(&world, "peer").await);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| fleet(name, name, "one"));
    main.commit(1, &[("a.yaml", &a), ("b.yaml", &b)]).await;
    peer.commit(10, &[("c.yaml", &c), ("d.yaml", &d)]).await;
    main.commit(2, &[("b.yaml", &b)]).await;
    peer.commit(11, &[("d.yaml", &d)]).await;
    suspend(&world, "main", None).await;
    let seen = devices(&world);
    world.wait(HOUR);
    assert_eq!(world.pass().await, Ended { removed: 1, leaving: 1, more: false }, "the other source's goes");
    assert_eq!((left(&world), devices(&world)), ("Fleet/a".to_owned(), seen));
    let overdue = async || {
        let source = fleet_store::read_sources::get(world.store.pool(), ORG, "main").await.unwrap().unwrap();
        source.suspended.map(|suspension| suspension.overdue)
    };
    // What people see goes by the database's clock.
    world.sql("update tombstones set expires_at = now() - interval '1 second'");
    assert_eq!(overdue().await, Some(1));
    // A suspension that is over holds nothing back, noted or not.
    suspend(&world, "main", Some(world.clock.now().checked_add(SignedDuration::from_mins(1)).unwrap())).await;
    assert_eq!(world.pass().await.removed, 0);
    resume(&world, "main").await;
    assert_eq!(overdue().await, None);
    suspend(&world, "main", Some(world.clock.now().checked_add(SignedDuration::from_mins(1)).unwrap())).await;
    world.wait(60);
    assert_eq!(world.pass().await, Ended { removed: 1, leaving: 0, more: false });
    assert_eq!(owners(&world), "- 1, b 1");
}

#[tokio::test]
async fn a_suspended_source_stays_though_its_resource_sync_left() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b) = (fleet("a", "a", "one"), fleet("b", "b", "two"));
    main.with_children(1, &[("b.yaml", &b), ("s.yaml", SYNC)], &[child()]).await;
    let mut team = Repo { world: &world, definition: child(), at: None };
    team.commit(10, &[("a.yaml", &a)]).await;
    suspend(&world, "team", None).await;
    main.commit(2, &[("b.yaml", &b)]).await;
    world.wait(HOUR);
    assert_eq!(world.pass().await, Ended { removed: 0, leaving: 1, more: false });
    assert_eq!(owners(&world), "a 1, b 1");
    resume(&world, "team").await;
    assert_eq!(world.pass().await.removed, 1);
    assert_eq!(owners(&world), "- 1, b 1");
}

#[tokio::test]
async fn a_grace_outlives_desired_state_and_ends_when_it_should() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b) = (fleet("a", "a", "one"), fleet("b", "b", "two"));
    main.with_children(1, &[("a.yaml", &a), ("b.yaml", &b), ("s.yaml", SYNC)], &[child()]).await;
    let mut team = Repo { world: &world, definition: child(), at: None };
    team.commit(10, &[("c.yaml", &fleet("c", "c", "three"))]).await;
    main.commit(2, &[("b.yaml", &b)]).await;
    let seen = devices(&world);
    world.sql("drop schema desired cascade");
    world.store.migrate().await.unwrap();
    let mut main = Repo::new(&world, "main").await;
    let mut transaction = world.store.begin().await.unwrap();
    lock_device_changes(&mut transaction).await.unwrap();
    assert_eq!(restore_leaving(&mut transaction, ORG).await.unwrap(), 2);
    assert_eq!(restore_leaving(&mut transaction, ORG).await.unwrap(), 0);
    transaction.commit().await.unwrap();
    assert_eq!(world.sql("select name, leaving from desired.sources order by name"), "main|f\nteam|t");
    main.commit(2, &[("b.yaml", &b)]).await;
    assert_eq!(
        world.sql("select count(*) from devices where dirty"),
        "2",
        "nobody is moved before the team's source is back"
    );
    let mut team = Repo { world: &world, definition: child(), at: None };
    team.commit(10, &[("c.yaml", &fleet("c", "c", "three"))]).await;
    assert_eq!(world.sql("select name from desired.fleets where leaving order by name"), "a\nc");
    world.pass().await;
    assert_eq!(devices(&world), seen);
    world.wait(HOUR);
    assert_eq!(world.pass().await.removed, 2);
    assert_eq!(owners(&world), "- 1, b 1");
    assert_eq!(world.sql("select name from desired.manifests"), "b");
}

#[tokio::test]
async fn a_source_that_cannot_be_found_yet_after_a_drop_keeps_its_devices_and_its_place() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let (a, b) = (fleet("a", "a", "one"), fleet("b", "b", "two"));
    main.with_children(1, &[("b.yaml", &b), ("s.yaml", SYNC)], &[child()]).await;
    let mut team = Repo { world: &world, definition: child(), at: None };
    team.commit(10, &[("a.yaml", &a)]).await;
    let seen = devices(&world);
    world.sql("drop schema desired cascade");
    world.store.migrate().await.unwrap();
    let mut main = Repo::new(&world, "main").await;
    // The Repository that the ResourceSync names is defined in a source that is not back yet.
    main.commit(1, &[("b.yaml", &b), ("s.yaml", SYNC)]).await;
    assert_eq!(owners(&world), "a 1, b 1");
    let position = "select commit_id from source_positions where source = 'team'";
    assert_eq!(world.sql(position), id(10).to_string(), "it is awaited");
    assert_eq!(world.sql("select count(*) from devices where dirty"), "2");
    main.with_children(1, &[("b.yaml", &b), ("s.yaml", SYNC)], &[child()]).await;
    let mut team = Repo { world: &world, definition: child(), at: None };
    team.commit(10, &[("a.yaml", &a)]).await;
    assert_eq!(devices(&world), seen);
    // What no manifest brings in is awaited no more.
    world.sql("drop schema desired cascade");
    world.store.migrate().await.unwrap();
    let mut main = Repo::new(&world, "main").await;
    main.commit(2, &[("b.yaml", &b)]).await;
    assert_eq!((owners(&world), world.sql(position)), ("- 1, b 1".to_owned(), String::new()));
}

#[tokio::test]
async fn an_enrollment_policy_that_left_lets_nobody_in() {
    let world = world().await;
    let mut main = Repo::new(&world, "main").await;
    let b = fleet("b", "b", "two");
    let policy = "apiVersion: shorebase/v1alpha1\nkind: EnrollmentPolicy\nmetadata:\n  name: all\nspec:\n  rules:\n    - match:\n        systemInfo:\n          hostname: '*'\n";
    let approving = async || {
        let mut transaction = world.store.begin().await.unwrap();
        policies(&mut transaction, ORG).await.unwrap().0.len()
    };
    main.commit(1, &[("b.yaml", &b), ("p.yaml", policy)]).await;
    assert_eq!(approving().await, 1);
    main.commit(2, &[("b.yaml", &b)]).await;
    assert_eq!((approving().await, left(&world)), (0, "EnrollmentPolicy/all".to_owned()));
    main.commit(3, &[("b.yaml", &b), ("p.yaml", policy)]).await;
    assert_eq!((approving().await, left(&world)), (1, String::new()));
}

#[test]
fn a_grace_is_told_in_its_largest_whole_unit() {
    assert_eq!([0, 45, 60, 90, 3_600, 5_400, 7_200].map(told), ["0s", "45s", "1m", "90s", "1h", "90m", "2h"]);
}
