//! Plans from the database over a history of commits that is made up: each must be the plan that somebody makes from
//! the two commits' files, however few devices are looked at for it.

use std::fmt::Write as _;
use std::path::Path;

use fleet_git::{Limits, WorkerCommand, WorkerPool};
use fleet_lint::{LintConfig, check_tree, has_errors};
use fleet_model::{CommitId, Digest, RenderedVersion};
use fleet_render::plan::Cause;
use fleet_runtime::{Clock, ManualClock, SystemClock};
use fleet_store::{
    ConnectOptions, DeviceScope, Lease, LeaseName, LeaseSession, SourceDefinition, Store, Ts, lock_device_changes,
    put_enrolled_device, put_source, read_plans, stored_manifests,
};
use fleet_test::TestDatabase;

use super::*;
use crate::apply::{Application, Applied, ApplyError, Outcome, Writer, apply};
use crate::config::SyncerConfig;
use crate::dependencies::Dependencies;
use crate::desired;
use crate::errand::Errand;
use crate::inputs::{ContentCache, InputReader};
use crate::metrics::SyncerMetrics;
use crate::mirrors::Mirrors;
use crate::outbox::Outbox;
use crate::pins::LastPins;
use crate::reconcile::reconcile_devices;
use crate::repositories::Repositories;
use crate::restored::PositionPins;
use crate::secrets::Secrets;
use crate::snapshot::{Mirror, Snapshot};
use crate::tombstones::{Ended, end_graces};
use crate::values::Subjects;
use crate::web::WebFiles;

pub(crate) const ORG: OrgId = OrgId::DEFAULT;

pub(crate) type Files = BTreeMap<String, String>;

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) lease: Lease,
    pub(crate) git: WorkerPool,
    pub(crate) dependencies: Dependencies,
    web: WebFiles,
    /// What other sources define.
    pub(crate) repositories: Repositories,
    pub(crate) subjects: Subjects,
    pub(crate) secrets: Secrets,
    cache: RevisionCache,
    turn: tokio::sync::Mutex<()>,
    outbox: Outbox,
    /// How long what left Git stays in force.
    pub(crate) grace: Duration,
    pub(crate) clock: ManualClock,
    database: TestDatabase,
}

impl World {
    pub(crate) async fn with_grace(grace: Duration) -> Self {
        Self { grace, ..Self::new().await }
    }

    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create();
        let store = Store::connect(&ConnectOptions { url: database.url(), max_connections: 3 }).await.unwrap();
        store.migrate().await.unwrap();
        let ttl = Duration::from_secs(600);
        let mut session = LeaseSession::connect(&store, LeaseName::Syncer, "test").await.unwrap();
        let lease = session.acquire(ttl).await.unwrap().unwrap();
        let config = Arc::new(SyncerConfig::for_tests());
        let arguments: [&str; 0] = [];
        let world = Self {
            git: WorkerPool::new(WorkerCommand::new("/nonexistent", arguments), Limits::default()),
            dependencies: {
                let mirrors = Arc::new(Mirrors::new(Arc::clone(&config), SyncerMetrics::default()));
                Dependencies::new(Arc::clone(&config), store.clone(), Arc::new(SystemClock), mirrors)
            },
            secrets: Secrets::new(None, store.clone()),
            web: WebFiles::new(config, store.clone(), Arc::new(SystemClock)),
            store,
            lease,
            cache: RevisionCache::default(),
            turn: tokio::sync::Mutex::default(),
            outbox: Outbox::new(&[]),
            grace: Duration::ZERO,
            clock: ManualClock::new(SystemClock.now()),
            database,
            repositories: Repositories::default(),
            subjects: Subjects::default(),
        };
        world.web.begins(&world.lease);
        world.dependencies.term.begins(&world.lease);
        world
    }

    pub(crate) async fn source(&self, name: &str) -> SourceDefinition {
        let source = definition(name);
        let mut transaction = self.store.begin().await.unwrap();
        put_source(&mut transaction, ORG, &source).await.unwrap();
        transaction.commit().await.unwrap();
        source
    }

    pub(crate) async fn enroll(&self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut transaction = self.store.begin().await.unwrap();
        put_enrolled_device(&mut transaction, ORG, name, &labels, RenderedVersion::default()).await.unwrap();
        transaction.commit().await.unwrap();
    }

    /// What the service makes of a commit. No worker runs: all contents are at hand.
    pub(crate) async fn desired(&self, source: &str, commit: &CommitId, files: &Files) -> Desired {
        self.desired_of(source, commit, files, false).await
    }

    /// The same, also for a commit that may be a stranger's.
    pub(crate) async fn desired_of(
        &self,
        source: &str,
        commit: &CommitId,
        files: &Files,
        only_in_force: bool,
    ) -> Desired {
        self.try_desired(source, commit, files, only_in_force, None, &mut ContentCache::default()).await.unwrap()
    }

    /// The same for a commit that was in force before desired state was dropped.
    pub(crate) async fn desired_again(&self, source: &str, commit: &CommitId, files: &Files) -> Desired {
        let pins = PositionPins::read(&self.store, ORG, source).await.unwrap();
        self.try_desired(source, commit, files, false, Some(&pins), &mut ContentCache::default()).await.unwrap()
    }

    /// The same, with what was read for earlier commits, and also of a commit that is refused.
    async fn try_desired(
        &self,
        source: &str,
        commit: &CommitId,
        files: &Files,
        only_in_force: bool,
        restored: Option<&PositionPins>,
        contents: &mut ContentCache,
    ) -> Result<Desired, desired::BuildError> {
        let snapshot = Snapshot::of_files(commit.clone(), files);
        let report = check_tree(&snapshot.files(), Some(&snapshot.all_paths()), &LintConfig::default());
        assert!(!has_errors(&report.diagnostics), "{:#?}", report.diagnostics);
        for content in files.values() {
            contents.insert(Snapshot::made_up_id(content), Arc::from(content.as_bytes()));
        }
        let mut reader = InputReader {
            git: &self.git,
            mirror: Mirror { git: &self.git, path: Path::new("/nonexistent") },
            snapshot: &snapshot,
            dependencies: &self.dependencies,
            web: &self.web,
            secrets: &self.secrets,
            repositories: &self.repositories,
            subjects: &self.subjects,
            last: &LastPins::read(&self.store, ORG, source).await.unwrap(),
            contents,
            errand: &Errand::default(),
            only_in_force,
            restored,
            pinned: HashMap::new(),
            unreadable: std::collections::BTreeSet::new(),
        };
        desired::build(&report, source, &mut reader).await
    }

    pub(crate) async fn apply(
        &self,
        source: &SourceDefinition,
        base: Option<&CommitId>,
        commit: &CommitId,
        desired: &Desired,
    ) -> Applied {
        match self.try_apply(source, base, commit, desired).await.unwrap() {
            Outcome::Applied(applied) => applied,
            Outcome::Held(held) => panic!("{held:?}"),
            Outcome::Distrusted(at) => panic!("commit {at} is not trusted"),
        }
    }

    pub(crate) async fn try_apply(
        &self,
        source: &SourceDefinition,
        base: Option<&CommitId>,
        commit: &CommitId,
        desired: &Desired,
    ) -> Result<Outcome, ApplyError> {
        // Without the guard: any change goes.
        self.apply_in(source, base, commit, desired, true).await
    }

    /// What the guard says, too.
    pub(crate) async fn guarded(
        &self,
        source: &SourceDefinition,
        base: Option<&CommitId>,
        commit: &CommitId,
        desired: &Desired,
    ) -> Result<Outcome, ApplyError> {
        self.apply_in(source, base, commit, desired, false).await
    }

    async fn apply_in(
        &self,
        source: &SourceDefinition,
        base: Option<&CommitId>,
        commit: &CommitId,
        desired: &Desired,
        restores: bool,
    ) -> Result<Outcome, ApplyError> {
        let writer = Writer {
            store: &self.store,
            lease: &self.lease,
            org: ORG,
            cache: &self.cache,
            turn: &self.turn,
            outbox: &self.outbox,
            now: self.clock.now(),
            deletion_grace: self.grace,
        };
        let application = Application {
            source,
            base,
            commit,
            lint_commit: base,
            desired,
            conditions: &[],
            conditions_before: &[],
            now: String::new(),
            rewritten: None,
            unrestored: None,
            vouched: None,
            restores,
            diagnostics: &[],
        };
        apply(writer, &application, &mut crate::laps::Laps::start()).await
    }

    pub(crate) fn wait(&self, seconds: i64) {
        self.clock.set(self.clock.now().checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap());
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.database.psql(sql).unwrap()
    }

    /// What is done on a period: graces end, and devices are brought in line.
    pub(crate) async fn pass(&self) -> Ended {
        let mut transaction = self.store.begin().await.unwrap();
        lock_device_changes(&mut transaction).await.unwrap();
        let ended = end_graces(&mut transaction, ORG, self.clock.now()).await.unwrap();
        let (scope, now) = (DeviceScope::Dirty(1_000), Ts::from(self.clock.now()));
        reconcile_devices(&mut transaction, ORG, &scope, false, now, &HashMap::new(), &self.cache).await.unwrap();
        transaction.commit().await.unwrap();
        ended
    }

    /// From the database, as the service does.
    async fn plan(&self, source: &str, desired: &Desired) -> Plan {
        let mut transaction = self.store.begin().await.unwrap();
        let stored = stored_manifests(&mut transaction, ORG, source).await.unwrap();
        let fleets = fleet_store::list_fleets(&mut transaction, ORG).await.unwrap();
        let planner = Planner { org: ORG, source, stored: &stored, fleets: &fleets, desired, cache: &self.cache };
        planner.start(&mut transaction).await.unwrap().finish().await.unwrap().0
    }

    /// All enrolled devices, as the API shows them.
    async fn inventory(&self) -> Inventory {
        let mut transaction = self.store.begin().await.unwrap();
        let devices = enrolled_devices(&mut transaction, ORG, None).await.unwrap();
        let device = |device: EnrolledDevice| {
            let known = InventoryDevice {
                enrolled: true,
                labels: device.labels,
                owner: device.owner_fleet,
                document: device.rendered_digest,
            };
            (device.name, known)
        };
        devices.into_iter().map(device).collect()
    }
}

pub(crate) fn definition(name: &str) -> SourceDefinition {
    SourceDefinition {
        name: name.to_owned(),
        origin: "config".to_owned(),
        credential: None,
        url: "https://git.example/x".to_owned(),
        revision: "main".to_owned(),
        path: "/".to_owned(),
    }
}

/// The last good revisions of fleets.
type Good = HashMap<String, Arc<Revision>>;

/// Desired state from the files alone, with a fleet of another source, and what fleets that wait keep.
fn state(desired: &Desired, elsewhere: &[FleetRow], good: &Good) -> State {
    let mut state = State::default();
    for row in &desired.manifests {
        let object = ObjectState { digest: row.digest, file: row.file.clone(), line: row.line };
        state.objects.insert((row.kind, row.name.clone()), object);
    }
    let target = |owner: &str, revision: &Option<String>, problem: &Option<String>| match (revision, problem) {
        (Some(revision), None) => {
            Target::Revision(Arc::clone(&desired.prepared[&(owner.to_owned(), revision.clone())]))
        }
        (_, problem) => Target::Waits(problem.clone().unwrap()),
    };
    for fleet in &desired.fleets {
        let target = match (target(&fleet.name, &fleet.revision, &fleet.problem), good.get(&fleet.name)) {
            (Target::Waits(reason), Some(good)) => Target::Keeps { revision: Arc::clone(good), reason },
            (target, _) => target,
        };
        let fleet_state = FleetState {
            selector: fleet.selector.clone(),
            target,
            has_rollout_policy: desired.rollout_policies.contains(&fleet.name),
        };
        state.fleets.insert(fleet.name.clone(), fleet_state);
    }
    for fleet in elsewhere {
        let fleet_state =
            FleetState { selector: fleet.selector.clone(), target: Target::Elsewhere, has_rollout_policy: false };
        state.fleets.insert(fleet.name.clone(), fleet_state);
    }
    for row in desired.manifests.iter().filter(|row| row.kind == Kind::Device) {
        let own = (row.revision.is_some() || row.problem.is_some())
            .then(|| target(&stand_alone_owner(&row.name), &row.revision, &row.problem));
        let device = DeviceState { labels: desired.device_labels[&row.name].clone(), target: own };
        state.devices.insert(row.name.clone(), device);
    }
    state
}

/// Who waited before for the same reason is told only of devices that are looked at, and the same files may have been
/// pinned at several commits.
fn comparable(mut plan: Plan) -> Plan {
    for cause in plan.groups.iter_mut().flat_map(|group| &mut group.causes) {
        if let Cause::Input { from, to, .. } = cause {
            (*from, *to) = (None, None);
        }
    }
    let already: usize = plan.waiting.iter().filter(|one| one.already).map(|one| one.devices.len()).sum();
    plan.waiting.retain(|one| !one.already);
    plan.summary.devices.waiting -= already;
    plan.summary.devices.unchanged += already;
    plan
}

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(u64::try_from(from.len()).unwrap())).unwrap()]
    }
}

pub(crate) fn device_name(n: u64) -> String {
    let letters = "0123456789abcdefghijklmnopqrstuv".as_bytes();
    let last = char::from(letters[usize::try_from(n % 32).unwrap()]);
    format!("{}{last}", "m".repeat(51))
}

const ROLES: [&str; 4] = ["a", "b", "c", "d"];

fn fleet_file(n: u64, numbers: &mut Numbers, waits: bool) -> String {
    let mut text = format!("apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: f{n}\nspec:\n");
    if numbers.below(8) > 0 {
        let role = numbers.pick(&ROLES);
        let _ = writeln!(text, "  selector:\n    matchLabels:\n      role: {role}");
    }
    if waits {
        text.push_str("  rolloutPolicy:\n    deviceSelection:\n      strategy: BatchSequence\n      sequence:\n        - limit: 1\n");
    }
    let content = numbers.pick(&[
        "one",
        "two",
        "{{ .metadata.name }}",
        "{{ getOrDefault .metadata.labels \\\"site\\\" \\\"none\\\" }}",
        "{{ .metadata.labels.site }}",
    ]);
    let _ = writeln!(
        text,
        "  template:\n    spec:\n      config:\n        - name: inline\n          inline:\n            - path: /etc/x\n              content: \"{content}\""
    );
    if numbers.below(2) == 0 {
        text.push_str(
            "        - name: files\n          gitRef:\n            repository: .\n            path: config\n",
        );
    }
    text
}

fn device_file(n: u64, numbers: &mut Numbers) -> String {
    let (name, role, site) = (device_name(n), numbers.pick(&ROLES), numbers.pick(&["berlin", "paris"]));
    let mut text = format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: {name}\n  labels:\n    role: {role}\n"
    );
    if numbers.below(3) > 0 {
        let _ = writeln!(text, "    site: {site}");
    }
    if numbers.below(4) == 0 {
        let content = numbers.pick(&["mine", "{{ not a placeholder }}"]);
        let _ = writeln!(
            text,
            "spec:\n  config:\n    - name: inline\n      inline:\n        - path: /etc/x\n          content: \"{content}\""
        );
    }
    text
}

/// The next commit: one to three files change, come or go.
fn change(files: &mut Files, numbers: &mut Numbers, with_waits: bool) {
    for _ in 0..=numbers.below(2) {
        let n = numbers.below(4);
        match numbers.below(7) {
            0 => drop(files.insert("config/etc/motd".to_owned(), numbers.pick(&["one", "two", "three"]).to_owned())),
            1..=3 => {
                let waits = with_waits && numbers.below(3) == 0;
                files.insert(format!("fleets/f{n}.yaml"), fleet_file(n, numbers, waits));
            }
            4 => {
                let n = numbers.below(8);
                files.insert(format!("devices/d{n}.yaml"), device_file(n, numbers));
            }
            5 => drop(files.remove(&format!("devices/d{}.yaml", numbers.below(8)))),
            _ => drop(files.remove(&format!("fleets/f{}.yaml", 1 + n % 3))),
        }
    }
}

async fn plans_agree(seed: u64, commits: u64, with_waits: bool, grace: Duration) {
    let world = World::with_grace(grace).await;
    let mut left = 0;
    let mut numbers = Numbers(seed);
    let other = world.source("other").await;
    let id = |n: u64| format!("{n:040x}").parse::<CommitId>().unwrap();
    let theirs = [("z.yaml", fleet_file(9, &mut Numbers(3), false))];
    let theirs = theirs.map(|(path, content)| (path.to_owned(), content.replace("path: config", "path: z")));
    let theirs: Files = theirs.into_iter().chain([("z/etc/z".to_owned(), "z".to_owned())]).collect();
    let theirs = world.desired("other", &id(1_000), &theirs).await;
    world.apply(&other, None, &id(1_000), &theirs).await;
    // Enrolled are some that have manifests now and then, and some that never have.
    for n in [0, 1, 2, 3, 4, 20, 21, 22, 23] {
        let role = numbers.pick(&ROLES);
        world.enroll(&device_name(n), &[("role", role), ("site", "rome")]).await;
    }
    let source = world.source("main").await;
    let mut files = Files::from([
        ("config/etc/motd".to_owned(), "one".to_owned()),
        ("fleets/f0.yaml".to_owned(), fleet_file(0, &mut numbers, false)),
    ]);
    let (mut before, mut base) = (Desired::default(), None);
    let (mut narrow, mut changed, mut waiting) = (0, 0, 0);
    let (mut good, mut first) = (Good::new(), true);
    for n in 1..=commits {
        let commit = id(n);
        let after = world.desired("main", &commit, &files).await;
        let planned = world.plan("main", &after).await;
        let inventory = world.inventory().await;
        let current = state(&before, &theirs.fleets, &good);
        let whole = plan(&current, &state(&after, &theirs.fleets, &Good::new()), &inventory);
        assert_eq!(planned.digest, whole.digest, "commit {n}: {planned:#?}\nbut from the files {whole:#?}");
        narrow += usize::from(planned.waiting != whole.waiting);
        assert_eq!(comparable(planned.clone()), comparable(whole.clone()), "commit {n}");
        waiting += whole.summary.devices.waiting;
        let applied = world.apply(&source, base.as_ref(), &commit, &after).await;
        changed += applied.planned;
        assert_eq!(applied.planned, planned.summary.devices.changed);
        // Within a grace devices stay where the plan says that they will not be afterwards.
        if !first && grace.is_zero() {
            let expected = enrolled_changes(&planned, &inventory);
            assert!(expected.contains(&applied.devices.new_versions), "commit {n}: {applied:?}, but {planned:#?}");
        }
        first = false;
        good.retain(|name, _| after.fleets.iter().any(|fleet| fleet.name == *name));
        for fleet in &after.fleets {
            if let Some(revision) = &fleet.revision {
                let revision = &after.prepared[&(fleet.name.clone(), revision.clone())];
                good.insert(fleet.name.clone(), Arc::clone(revision));
            }
        }
        let (record, stored) =
            read_plans::get(world.store.pool(), ORG, "main", commit.as_str()).await.unwrap().unwrap();
        assert_eq!((record.digest, record.base_commit), (whole.digest.as_bytes().to_vec(), base.map(String::from)));
        assert_eq!(stored["digest"], whole.digest.to_string());
        (before, base) = (after, Some(commit));
        world.wait(60);
        left += world.pass().await.removed;
        change(&mut files, &mut numbers, with_waits);
    }
    assert!(changed > 20, "the history moves devices: {changed}");
    let kept = read_plans::list(world.store.pool(), ORG, "main").await.unwrap();
    assert_eq!(kept.len(), usize::try_from(commits.min(50)).unwrap());
    assert_eq!(kept[0].commit_id, id(commits).as_str());
    assert!(narrow > 0, "some commits look at a part of the devices");
    assert!(waiting > 0, "some devices wait");
    assert_eq!(left > 0, !grace.is_zero(), "graces end in between: {left}");
}

/// How many devices are there to get the documents that the plan gives them: those whose documents it knows, and at most
/// also those that go to another source's fleet.
fn enrolled_changes(plan: &Plan, inventory: &Inventory) -> std::ops::RangeInclusive<usize> {
    let count = |known: bool| {
        let groups = plan.groups.iter().filter(|group| group.after_known || !known);
        groups.flat_map(|group| &group.devices).filter(|name| inventory.contains_key(*name)).count()
    };
    count(true)..=count(false)
}

#[tokio::test]
async fn a_plan_from_the_database_is_the_plan_from_the_files() {
    plans_agree(1, 60, false, Duration::ZERO).await;
    plans_agree(7, 40, false, Duration::ZERO).await;
}

#[tokio::test]
async fn a_plan_from_the_database_has_the_same_digest_while_fleets_wait() {
    plans_agree(2, 60, true, Duration::ZERO).await;
}

#[tokio::test]
async fn a_plan_from_the_database_is_the_plan_from_the_files_while_objects_leave() {
    plans_agree(1, 60, false, Duration::from_secs(200)).await;
    plans_agree(5, 40, false, Duration::from_secs(1_000)).await;
}

#[tokio::test]
async fn the_same_commit_again_keeps_its_plan_and_renders_nothing() {
    let world = World::new().await;
    let source = world.source("main").await;
    world.enroll(&device_name(1), &[("role", "a")]).await;
    let fleet = "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: f\nspec:\n  selector:\n    matchLabels:\n      role: a\n  template:\n    spec:\n      config:\n        - name: i\n          inline:\n            - path: /etc/x\n              content: x\n";
    let files = Files::from([("f.yaml".to_owned(), fleet.to_owned())]);
    let commit: CommitId = "a".repeat(40).parse().unwrap();
    let desired = world.desired("main", &commit, &files).await;
    let first = world.apply(&source, None, &commit, &desired).await;
    assert_eq!((first.planned, first.devices.new_versions), (1, 1));
    let plan = async || read_plans::get(world.store.pool(), ORG, "main", commit.as_str()).await.unwrap().unwrap();
    let (record, stored) = plan().await;
    assert_eq!(record.summary["sentence"], "1 object is new; 1 device gets another document");
    assert_eq!(stored["groups"][0]["devices"], serde_json::json!([device_name(1)]));
    assert_eq!(stored["groups"][0]["count"], 1);
    let again = world.apply(&source, Some(&commit), &commit, &desired).await;
    assert_eq!((again.planned, again.devices.renders, again.manifests), (0, 0, 0));
    assert_eq!(plan().await.0.digest, record.digest);
}

#[tokio::test]
async fn long_lists_are_cut_short_and_the_digest_covers_all() {
    let of = |devices: u64, groups: u64| {
        let mut plan = plan(&State::default(), &State::default(), &Inventory::new());
        plan.digest = Digest::of(format!("{devices} {groups}").as_bytes());
        let names: Vec<String> = (0..devices).map(|n| format!("d{n}")).collect();
        plan.waiting = (0..groups)
            .map(|n| fleet_render::plan::Waiting { reason: n.to_string(), already: false, devices: names.clone() })
            .collect();
        stored_plan(&plan)
    };
    let stored = of(1_500, 150);
    assert_eq!(stored["waiting"].as_array().unwrap().len(), 100);
    assert_eq!(stored["waiting"][0]["devices"].as_array().unwrap().len(), 1_000);
    assert_eq!(stored["waiting"][0]["count"], 1_500);
    assert_eq!(stored["omitted"], serde_json::json!({"waiting": 50}));
    assert_eq!(of(2, 2).get("omitted"), None);
}

#[tokio::test]
async fn contents_of_commits_that_are_refused_do_not_pile_up() {
    let world = World::new().await;
    world.source("main").await;
    let fleet = |name: &str, directory: &str| {
        format!(
            "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: {name}\nspec:\n  selector:\n    matchLabels: {{role: {name}}}\n  \
             template:\n    spec:\n      config:\n        - {{name: a, gitRef: {{repository: ., path: {directory}}}}}\n"
        )
    };
    let mut contents = ContentCache::default();
    for n in 1_u64..=10 {
        let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{n:064x}\nsize 1\n");
        let files = [
            ("good.yaml", fleet("good", "good")),
            ("bad.yaml", fleet("bad", "bad")),
            ("good/etc/motd", "the same".to_owned()),
            ("good/etc/round", n.to_string()),
            ("bad/etc/large", pointer),
        ];
        let files: Files = files.into_iter().map(|(path, content)| (path.to_owned(), content)).collect();
        let commit = format!("{n:040x}").parse().unwrap();
        let built = world.try_desired("main", &commit, &files, false, None, &mut contents).await;
        assert!(matches!(built, Err(desired::BuildError::Refused(_))), "{built:?}");
        assert_eq!(contents.len(), 3, "what this commit uses, after {n} of them");
    }
}
