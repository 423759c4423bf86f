//! Claims about plans.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::PinnedInputs;
use crate::canonical;
use crate::document::{PinnedFile, PinnedTree};
use crate::tree_digest;

mod property;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn revision(spec: &Value, is_fleet: bool) -> Arc<Revision> {
    let spec: DeviceSpec = serde_json::from_value(spec.clone()).unwrap();
    let none = PinnedInputs::new();
    let prepared = if is_fleet { Prepared::new(&spec, none) } else { Prepared::stand_alone(&spec, none) };
    Arc::new(Revision::new(&spec, Arc::new(prepared.unwrap()), Vec::new()))
}

/// A specification with one file.
fn motd(content: &str) -> Value {
    json!({"config": [{"name": "files", "inline": [{"path": "/etc/motd", "content": content}]}]})
}

/// A fleet that takes a directory with one file from a repository.
fn from_git(content: &str, commit: &str) -> Target {
    let spec: DeviceSpec = serde_json::from_value(
        json!({"config": [{"name": "base", "gitRef": {"repository": "configs", "targetRevision": "main", "path": "d"}}]}),
    )
    .unwrap();
    let file =
        PinnedFile { path: "d/etc/a".to_owned(), mode: 0o644, content: Arc::from(content.as_bytes()), seal: None };
    let tree = PinnedTree::new(vec![file]).unwrap();
    let input = InputFacts {
        value: None,
        provider: "base".to_owned(),
        repository: "configs".to_owned(),
        revision: "main".to_owned(),
        commit: commit.to_owned(),
        tree: tree_digest(&tree),
    };
    let prepared = Prepared::new(&spec, PinnedInputs::from_iter([("base".to_owned(), tree)])).unwrap();
    Target::Revision(Arc::new(Revision::new(&spec, Arc::new(prepared), vec![input])))
}

#[derive(Clone, Default)]
struct World(State);

impl World {
    fn object(mut self, kind: Kind, name: &str, document: &Value) -> Self {
        let digest = Digest::of(&canonical::to_vec(document));
        let file = format!("{name}.yaml");
        self.0.objects.insert((kind, name.to_owned()), ObjectState { digest, file, line: 1 });
        self
    }

    fn fleet_at(self, name: &str, selector: &[(&str, &str)], target: Target) -> Self {
        let document = match &target {
            Target::Revision(revision) => json!([selector, revision.template.hex()]),
            Target::Keeps { reason, .. } | Target::Waits(reason) => json!([selector, reason]),
            Target::Elsewhere => json!([selector]),
        };
        let mut world = self.object(Kind::Fleet, name, &document);
        let selector = Some(LabelSelector::of_labels(labels(selector)));
        world.0.fleets.insert(name.to_owned(), FleetState { selector, target, has_rollout_policy: false });
        world
    }

    fn fleet(self, name: &str, selector: &[(&str, &str)], spec: &Value) -> Self {
        self.fleet_at(name, selector, Target::Revision(revision(spec, true)))
    }

    fn device(self, name: &str, pairs: &[(&str, &str)], spec: Option<&Value>) -> Self {
        let mut world = self.object(Kind::Device, name, &json!([pairs, spec]));
        let target = spec.map(|spec| Target::Revision(revision(spec, false)));
        world.0.devices.insert(name.to_owned(), DeviceState { labels: labels(pairs), target });
        world
    }

    fn plan(&self, incoming: &Self) -> Plan {
        self.plan_with(incoming, &Inventory::new())
    }

    fn plan_with(&self, incoming: &Self, inventory: &Inventory) -> Plan {
        let plan = plan(&self.0, &incoming.0, inventory);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan, "a plan can be stored");
        let DeviceCounts { total, changed, unchanged, waiting, unmanaged, new, .. } = plan.summary.devices;
        assert_eq!(total, changed + unchanged + waiting + unmanaged + new, "every device is counted once");
        plan
    }
}

type Enrolled<'t> = (&'t str, &'t [(&'t str, &'t str)], Option<&'t str>);

fn enrolled(devices: &[Enrolled<'_>]) -> Inventory {
    let device = |(name, pairs, owner): &Enrolled<'_>| {
        let owner = owner.map(str::to_owned);
        ((*name).to_owned(), InventoryDevice { enrolled: true, labels: labels(pairs), owner, document: None })
    };
    devices.iter().map(device).collect()
}

const KIOSK: &[(&str, &str)] = &[("role", "kiosk")];
const GATE: &[(&str, &str)] = &[("role", "gate")];

/// Ten kiosks in fleet `kiosks`.
fn kiosks(spec: &Value) -> World {
    let mut world = World::default().fleet("kiosks", KIOSK, spec);
    for n in 0..10 {
        let site = if n < 5 { "berlin" } else { "rome" };
        world = world.device(&format!("d{n}"), &[("role", "kiosk"), ("site", site)], None);
    }
    world
}

fn devices(groups: &[Group]) -> Vec<usize> {
    groups.iter().map(|group| group.devices.len()).collect()
}

#[test]
fn the_same_state_changes_nothing() {
    let world = kiosks(&motd("{{ .metadata.labels.site }}")).device("own", &[], Some(&motd("x")));
    let plan = world.plan(&world);
    assert!(plan.is_empty());
    assert_eq!((plan.summary.devices.total, plan.summary.devices.unchanged), (11, 11));
    assert_eq!(plan.radius.devices_before, 11);
}

#[test]
fn a_change_that_changes_no_document_changes_no_device() {
    let before = kiosks(&motd("hello"));
    // Another template that says the same, another label that nothing looks at.
    let after = kiosks(&motd("{{ if .metadata.labels.no }}x{{ else }}hello{{ end }}")).device(
        "d0",
        &[("role", "kiosk"), ("site", "paris")],
        None,
    );
    let plan = before.plan(&after);
    assert_eq!((plan.summary.objects.changed, plan.summary.devices.changed, plan.groups.len()), (2, 0, 0));
    assert_eq!(plan.summary.devices.unchanged, 10);
    assert!(!plan.is_empty(), "objects change");
}

#[test]
fn identical_changes_make_one_group() {
    let plan = kiosks(&motd("one")).plan(&kiosks(&motd("two")));
    assert_eq!(devices(&plan.groups), [10]);
    let group = &plan.groups[0];
    assert_eq!(group.causes, [Cause::Template]);
    assert!(group.before_known && group.after_known);
    assert_eq!(group.devices[0], "d0");
    let [FileChange { path, before: Some(before), after: Some(after), varies: false }] = group.files.as_slice() else {
        panic!("{:?}", group.files);
    };
    assert_eq!((path.as_str(), before.size, after.digest), ("/etc/motd", 3, Digest::of(b"two")));
    assert_eq!((after.mode, after.user.as_str(), after.secret), (0o644, "root", false));
    assert!(!serde_json::to_string(&plan).unwrap().contains("\"two\""), "no contents");
}

#[test]
fn different_contents_make_different_groups_until_there_are_many() {
    let site = kiosks(&motd("two {{ .metadata.labels.site }}"));
    assert_eq!(devices(&kiosks(&motd("one")).plan(&site).groups), [5, 5]);
    let many = |content: &str| {
        let mut world = World::default().fleet("kiosks", KIOSK, &motd(content));
        for n in 0..40 {
            world = world.device(&format!("d{n:02}"), KIOSK, None);
        }
        world
    };
    let plan = many("one").plan(&many("two {{ .metadata.name }}"));
    assert_eq!(devices(&plan.groups), [40]);
    let file = &plan.groups[0].files[0];
    assert!(file.varies);
    assert_eq!(file.after.as_ref().unwrap().digest, Digest::of(b"two d00"), "the facts of the first device");
    let other = many("one").plan(&many("three {{ .metadata.name }}"));
    assert_ne!(plan.digest, other.digest, "contents count, also where groups do not show each");
}

#[test]
fn a_file_that_moves_to_another_place_in_git_is_a_move() {
    let before = kiosks(&motd("one"));
    let mut after = before.clone();
    let object = after.0.objects.get_mut(&(Kind::Fleet, "kiosks".to_owned())).unwrap();
    (object.file, object.line) = ("fleets/kiosks.yaml".to_owned(), 7);
    let plan = before.plan(&after);
    let [change] = plan.objects.as_slice() else { panic!("{:?}", plan.objects) };
    assert_eq!((change.change, change.file.as_str(), change.line), (Change::Moved, "fleets/kiosks.yaml", 7));
    assert_eq!(change.previous.as_ref().map(|place| place.file.as_str()), Some("kiosks.yaml"));
    assert_eq!(plan.summary.objects, ObjectCounts { moved: 1, ..ObjectCounts::default() });
    assert_eq!(plan.digest, before.plan(&before).digest, "nothing that counts");
    let mut lines = before.clone();
    lines.0.objects.values_mut().for_each(|object| object.line += 3);
    assert!(before.plan(&lines).is_empty(), "other lines are no change");
}

#[test]
fn objects_that_come_change_and_go_are_told_apart() {
    let before = World::default().object(Kind::Repository, "a", &json!(1)).object(Kind::Repository, "b", &json!(1));
    let after = World::default().object(Kind::Repository, "b", &json!(2)).object(Kind::SyncPolicy, "b", &json!(1));
    let plan = before.plan(&after);
    let told: Vec<(Kind, &str, Change)> =
        plan.objects.iter().map(|object| (object.kind, object.name.as_str(), object.change)).collect();
    assert_eq!(
        told,
        [
            (Kind::Repository, "a", Change::Removed),
            (Kind::Repository, "b", Change::Changed),
            (Kind::SyncPolicy, "b", Change::Added)
        ]
    );
    assert_eq!((plan.radius.objects_before, plan.radius.objects_removed), (2, 1));
}

#[test]
fn a_label_that_a_placeholder_looks_at_is_the_cause() {
    let before = kiosks(&motd("{{ .metadata.labels.site }}"));
    let after = before.clone().device("d0", &[("role", "kiosk"), ("site", "paris"), ("other", "1")], None);
    let plan = before.plan(&after);
    assert_eq!(devices(&plan.groups), [1]);
    assert_eq!(plan.groups[0].causes, [Cause::Label { keys: vec!["site".to_owned()] }]);
}

#[test]
fn other_files_in_a_repository_are_an_input_and_another_commit_alone_is_none() {
    let world = |content: &str, commit: &str| {
        World::default().fleet_at("kiosks", KIOSK, from_git(content, commit)).device("d", KIOSK, None)
    };
    let plan = world("1", "aaa").plan(&world("2", "bbb"));
    let commit = |commit: &str| Some(commit.to_owned());
    let (provider, repository) = ("base".to_owned(), "configs".to_owned());
    assert_eq!(plan.groups[0].causes, [Cause::Input { provider, repository, from: commit("aaa"), to: commit("bbb") }]);
    assert!(plan.objects.is_empty(), "the template is as it was");
    assert!(world("1", "aaa").plan(&world("1", "bbb")).is_empty());
    assert_eq!(plan.digest, world("1", "ccc").plan(&world("2", "ddd")).digest, "commits do not count");
}

#[test]
fn another_fleet_is_the_cause_with_the_label_that_led_there() {
    let before = kiosks(&motd("kiosk")).fleet("gates", GATE, &motd("gate"));
    let after = before.clone().device("d3", &[("role", "gate"), ("site", "berlin")], None);
    let plan = before.plan(&after);
    let [group] = plan.groups.as_slice() else { panic!("{:?}", plan.groups) };
    assert_eq!((group.owner_before.as_deref(), group.owner_after.as_deref()), (Some("kiosks"), Some("gates")));
    assert_eq!(group.causes, [Cause::Label { keys: vec!["role".to_owned()] }, Cause::Owner]);
    let same = kiosks(&motd("same")).fleet("gates", GATE, &motd("same"));
    let plan = same.plan(&same.clone().device("d3", &[("role", "gate"), ("site", "berlin")], None));
    assert!(plan.groups.is_empty(), "the document is the same there");
    assert_eq!(plan.reassigned[0].devices, ["d3"]);
    assert_eq!(plan.reassigned[0].owner_after.as_deref(), Some("gates"));
}

#[test]
fn a_devices_own_specification_is_told_apart_from_a_template() {
    let before = World::default().device("own", &[], Some(&motd("{{ one }}")));
    let plan = before.plan(&World::default().device("own", &[], Some(&motd("{{ two }}"))));
    assert_eq!(plan.groups[0].causes, [Cause::Specification]);
    // The same text is another document where placeholders count.
    let text = motd("{{ \"x\" }}");
    let own = World::default().fleet("kiosks", KIOSK, &text).device("d", &[], Some(&text));
    let plan = own.plan(&World::default().fleet("kiosks", KIOSK, &text).device("d", KIOSK, Some(&text)));
    assert_eq!(plan.groups[0].causes, [Cause::Label { keys: vec!["role".to_owned()] }, Cause::Owner]);
}

#[test]
fn a_device_that_several_fleets_select_waits_and_keeps_its_owner() {
    let before = kiosks(&motd("one"));
    let after = kiosks(&motd("two")).fleet("berlin", &[("site", "berlin")], &motd("three"));
    let plan = before.plan(&after);
    assert_eq!(devices(&plan.groups), [5]);
    let [waiting] = plan.waiting.as_slice() else { panic!("{:?}", plan.waiting) };
    assert_eq!(waiting.reason, "several fleets select this device: berlin, kiosks");
    assert_eq!((waiting.devices.len(), waiting.already, plan.summary.devices.waiting), (5, false, 5));
    let (_, view) = views(&before.0, &after.0, &Inventory::new(), "d0");
    let view = view.unwrap();
    assert_eq!(view.ownership.owner.as_deref(), Some("kiosks"));
    assert!(matches!(view.outcome, Outcome::Waits(_)));
    let still = after.plan(&after);
    assert!(still.is_empty() && still.waiting[0].already, "{:?}", still.waiting);
    let resolved = after.plan(&before);
    assert!(
        resolved
            .groups
            .iter()
            .any(|group| { !group.before_known && matches!(group.causes.as_slice(), [.., Cause::Unblocked { .. }]) })
    );
}

#[test]
fn devices_that_cannot_be_rendered_wait_with_the_error() {
    let before = kiosks(&motd("one"));
    let after =
        kiosks(&motd("{{ .metadata.labels.colour }}")).device("d0", &[("role", "kiosk"), ("colour", "red")], None);
    let plan = before.plan(&after);
    assert_eq!((plan.summary.devices.changed, plan.summary.devices.waiting), (1, 9));
    assert!(plan.waiting[0].reason.contains("config provider \"files\" (/config/0/inline/0/content)"), "{plan:?}");
    let fixed = after.plan(&before);
    let group = fixed.groups.iter().find(|group| group.devices.len() == 9).unwrap();
    assert!(
        !group.before_known && matches!(&group.causes[..], [Cause::Template, Cause::Unblocked { .. }]),
        "{group:?}"
    );
}

#[test]
fn a_fleet_that_waits_keeps_its_last_good_revision_for_devices_that_join_it() {
    let before = kiosks(&motd("one {{ .metadata.labels.site }}"));
    let waits = Target::Waits("no rollouts yet".to_owned());
    let after = before.clone().fleet_at("kiosks", KIOSK, waits.clone()).device(
        "d0",
        &[("role", "kiosk"), ("site", "paris")],
        None,
    );
    let plan = before.plan(&after);
    assert_eq!((plan.summary.devices.changed, plan.summary.devices.waiting), (1, 9));
    assert_eq!(plan.groups[0].files[0].after.as_ref().unwrap().digest, Digest::of(b"one paris"));
    assert_eq!(plan.waiting[0].reason, "no rollouts yet");
    // Where no good revision is known, everybody waits.
    let never = World::default().fleet_at("kiosks", KIOSK, waits).device("d", KIOSK, None);
    let plan = never.plan(&never);
    assert!(plan.is_empty() && plan.waiting[0].already);
}

#[test]
fn a_device_that_leaves_all_fleets_is_unmanaged_and_not_changed() {
    let before = kiosks(&motd("one"));
    let after = before.clone().device("d0", &[], None).device("d1", &[], Some(&motd("own")));
    let plan = before.plan(&after);
    let [unmanaged] = plan.unmanaged.as_slice() else { panic!("{:?}", plan.unmanaged) };
    assert_eq!(
        (unmanaged.owner_before.as_deref(), unmanaged.devices.as_slice()),
        (Some("kiosks"), &["d0".to_owned()][..])
    );
    assert_eq!(plan.groups[0].devices, ["d1"], "its own specification takes over");
    assert_eq!((plan.radius.devices_unmanaged, plan.radius.devices_changed), (1, 1));
    let gone = World::default();
    let inventory = enrolled(&[("d0", KIOSK, Some("kiosks"))]);
    let plan = before.plan_with(&gone, &inventory);
    assert_eq!((plan.unmanaged[0].devices.as_slice(), plan.summary.devices.removed), (&["d0".to_owned()][..], 9));
    assert_eq!((plan.radius.fleets_before, plan.radius.fleets_removed, plan.radius.objects_removed), (1, 1, 11));
}

#[test]
fn devices_of_the_inventory_take_part_with_the_labels_of_their_enrolment() {
    let (before, after) =
        (World::default().fleet("kiosks", KIOSK, &motd("1")), World::default().fleet("kiosks", KIOSK, &motd("2")));
    let mut inventory = enrolled(&[("in", KIOSK, Some("kiosks")), ("out", GATE, None)]);
    inventory.insert("asks".to_owned(), InventoryDevice { labels: labels(KIOSK), ..InventoryDevice::default() });
    let plan = before.plan_with(&after, &inventory);
    assert_eq!((plan.groups[0].devices.as_slice(), plan.summary.devices.total), (&["in".to_owned()][..], 2));
}

#[test]
fn the_document_that_a_device_has_counts_where_the_state_does_not_say_it() {
    let after = World::default().fleet("kiosks", KIOSK, &motd("1"));
    let mut inventory = enrolled(&[("d", KIOSK, None)]);
    let plan = World::default().plan_with(&after, &inventory);
    assert_eq!(plan.summary.devices.changed, 1);
    assert!(!plan.groups[0].before_known && plan.groups[0].files[0].before.is_none());
    let Target::Revision(revision) = &after.0.fleets["kiosks"].target else { panic!("a revision") };
    let subject = crate::Subject { name: "d", labels: &labels(KIOSK) };
    inventory.get_mut("d").unwrap().document = Some(revision.prepared.render(&subject).unwrap().digest);
    let plan = World::default().plan_with(&after, &inventory);
    assert_eq!((plan.summary.devices.changed, plan.summary.devices.unchanged), (0, 1));
    assert_eq!(plan.reassigned[0].owner_after.as_deref(), Some("kiosks"));
}

#[test]
fn a_device_that_is_new_is_shown_and_not_counted_as_changed() {
    let before = kiosks(&motd("one"));
    let plan = before.plan(&before.clone().device("new", KIOSK, None));
    assert_eq!(plan.groups[0].causes, [Cause::New]);
    assert_eq!((plan.summary.devices.new, plan.summary.devices.changed, plan.radius.devices_changed), (1, 0, 0));
    assert_eq!(plan.radius.devices_before, 10);
}

#[test]
fn fleets_of_other_sources_are_not_guessed() {
    let elsewhere = |world: World| world.fleet_at("away", GATE, Target::Elsewhere);
    let before = elsewhere(kiosks(&motd("one"))).device("g", GATE, None);
    assert!(before.plan(&before).is_empty());
    let after = before.clone().device("d0", GATE, None).device("g", &[("role", "gate"), ("x", "1")], None);
    let plan = before.plan(&after);
    assert_eq!(plan.summary.devices.changed, 2);
    for group in &plan.groups {
        assert!(!group.after_known && group.files.is_empty(), "{group:?}");
    }
}

#[test]
fn parts_of_a_specification_are_told_apart() {
    let app =
        |name: &str, tag: &str| json!({"appType": "container", "name": name, "image": format!("q.io/{name}:{tag}")});
    let spec = |tag: &str, applications: Value, pattern: &str, files: Value| {
        json!({
            "os": {"image": format!("q.io/os:{tag}")},
            "applications": applications,
            "systemd": {"matchPatterns": [pattern]},
            "config": [{"name": "f", "inline": files}]
        })
    };
    let files = json!([{"path": "/a", "content": "1"}, {"path": "/b", "content": "1"}, {"path": "/c", "content": "1"}]);
    let before = spec("1", json!([app("gone", "1"), app("same", "1"), app("new", "1")]), "a", files);
    let files = json!([{"path": "/a", "content": "1", "mode": 0o600}, {"path": "/c", "content": "1"}, {"path": "/d", "content": "1"}]);
    let after =
        spec("{{ .metadata.labels.tag }}", json!([app("same", "1"), app("new", "2"), app("more", "1")]), "b", files);
    let world =
        |spec: &Value| World::default().fleet("f", KIOSK, spec).device("d", &[("role", "kiosk"), ("tag", "2")], None);
    let plan = world(&before).plan(&world(&after));
    let group = &plan.groups[0];
    let os = group.os.as_ref().unwrap();
    assert_eq!((os.before.as_deref(), os.after.as_deref()), (Some("q.io/os:1"), Some("q.io/os:2")));
    let apps: Vec<(&str, Change)> = group.applications.iter().map(|app| (app.name.as_str(), app.change)).collect();
    assert_eq!(apps, [("gone", Change::Removed), ("more", Change::Added), ("new", Change::Changed)]);
    assert_eq!(group.others, ["systemd"]);
    let files: Vec<(&str, bool, bool)> =
        group.files.iter().map(|file| (file.path.as_str(), file.before.is_some(), file.after.is_some())).collect();
    assert_eq!(files, [("/a", true, true), ("/b", true, false), ("/d", false, true)]);
    let order = |list: Value| world(&json!({"applications": list}));
    let plan = order(json!([app("a", "1"), app("b", "1")])).plan(&order(json!([app("b", "1"), app("a", "1")])));
    assert_eq!(plan.groups[0].others, ["applications"], "another order is another document");
}

#[test]
fn changes_under_a_rollout_policy_do_not_count_as_unprotected() {
    let with_policy = |content: &str| {
        let mut world = kiosks(&motd(content));
        world.0.fleets.get_mut("kiosks").unwrap().has_rollout_policy = true;
        world
    };
    let plan = with_policy("1").plan(&with_policy("2"));
    assert_eq!((plan.radius.devices_changed, plan.radius.devices_changed_without_rollout), (10, 0));
    let plan = kiosks(&motd("1")).plan(&kiosks(&motd("2")));
    assert_eq!((plan.radius.devices_changed_without_rollout, plan.radius.devices_changed_in_small_fleets), (10, 10));
}

#[test]
fn a_document_that_is_too_large_waits_as_it_would_in_the_service() {
    // Control characters take six bytes each in a document.
    let large = "\u{1}".repeat(1 << 20);
    let files: Vec<Value> = (0..3).map(|n| json!({"path": format!("/f{n}"), "content": large})).collect();
    let with = |files: &[Value]| kiosks(&json!({"config": [{"name": "f", "inline": files}]}));
    let plan = with(&files[..2]).plan(&with(&files));
    assert_eq!((plan.summary.devices.changed, plan.summary.devices.waiting), (0, 10));
    assert!(plan.waiting[0].reason.contains("larger than"), "{}", plan.waiting[0].reason);
    assert_eq!(with(&files[..1]).plan(&with(&files[..2])).summary.devices.changed, 10);
}
