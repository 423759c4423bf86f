//! How long a plan takes for 10,000 devices: one changed fleet whose devices share a document, a fleet in which every
//! device has a document of its own, and devices with specifications of their own. Prints one line each: groups, changed
//! devices, seconds.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use fleet_model::{DeviceSpec, Digest, Kind, LabelSelector, Labels};
use fleet_render::plan::{DeviceState, FleetState, InputFacts, Inventory, ObjectState, Revision, State, Target, plan};
use fleet_render::{PinnedFile, PinnedTree, Prepared, tree_digest};
use serde_json::json;

const DEVICES: usize = 10_000;
const FILES: usize = 50;
const FILE_BYTES: usize = 2_000;

fn tree() -> PinnedTree {
    let file = |n: usize| PinnedFile {
        path: format!("deploy/etc/acme/{n}.conf"),
        mode: 0o644,
        content: Arc::from(format!("# file {n}\n{}", "key = value\n".repeat(FILE_BYTES / 12)).as_bytes()),
        seal: None,
    };
    PinnedTree::new((0..FILES).map(file).collect()).expect("the paths are clean and distinct")
}

fn revision(content: &str, is_fleet: bool) -> Target {
    let spec: DeviceSpec = serde_json::from_value(json!({
        "os": {"image": "quay.io/acme/os:1.2.3"},
        "applications": [{"appType": "container", "name": "web", "image": "quay.io/acme/web:1"}],
        "config": [
            {"name": "base", "gitRef": {"repository": ".", "path": "deploy"}},
            {"name": "motd", "inline": [{"path": "/etc/motd", "content": content}]}
        ]
    }))
    .expect("the literal is a specification");
    let tree = tree();
    let input = InputFacts {
        value: None,
        provider: "base".to_owned(),
        repository: ".".to_owned(),
        revision: "HEAD".to_owned(),
        commit: "c".to_owned(),
        tree: tree_digest(&tree),
    };
    let pinned = fleet_render::PinnedInputs::from_iter([("base".to_owned(), tree)]);
    let prepared = match is_fleet {
        true => Prepared::new(&spec, pinned),
        false => Prepared::stand_alone(&spec, pinned),
    };
    let prepared = prepared.expect("the specification is right");
    Target::Revision(Arc::new(Revision::new(&spec, Arc::new(prepared), vec![input])))
}

fn name(n: usize) -> String {
    format!("device{n:046}")
}

/// 10,000 devices with labels; a hundred fleets, one of which has them all.
fn state(fleet: Option<&str>, own: Option<&str>) -> State {
    let mut state = State::default();
    for n in 0..99 {
        let labels = Labels::from([("fleet".to_owned(), format!("other-{n}"))]);
        let selector = Some(LabelSelector::of_labels(labels));
        let target = Target::Elsewhere;
        state.fleets.insert(format!("other-{n}"), FleetState { selector, target, has_rollout_policy: false });
    }
    if let Some(content) = fleet {
        let selector = Some(LabelSelector::of_labels([("fleet".to_owned(), "acme".to_owned())].into()));
        let target = revision(content, true);
        state.fleets.insert("acme".to_owned(), FleetState { selector, target, has_rollout_policy: false });
    }
    for n in 0..DEVICES {
        let labels =
            [("fleet", "acme".to_owned()), ("site", format!("site-{}", n % 100)), ("serial", format!("sn-{n}"))];
        let labels: Labels = labels.map(|(key, value)| (key.to_owned(), value)).into();
        let target = own.map(|content| revision(&format!("{content} {n}"), false));
        state.devices.insert(name(n), DeviceState { labels, target });
        let object = ObjectState { digest: Digest::of(b"x"), file: "devices.yaml".to_owned(), line: 1 };
        state.objects.insert((Kind::Device, name(n)), object);
    }
    state
}

fn run(title: &str, before: &State, after: &State) {
    let start = Instant::now();
    let plan = plan(before, after, &Inventory::new());
    let seconds = start.elapsed().as_secs_f64();
    let (groups, changed) = (plan.groups.len(), plan.summary.devices.changed);
    writeln!(std::io::stdout().lock(), "{title:<40} groups {groups:>4}  changed {changed:>6}  seconds {seconds:>7.3}")
        .expect("standard output takes a line");
}

fn main() {
    let shared = state(Some("Welcome\n"), None);
    run("nothing changes", &shared, &shared);
    run("one fleet, one document", &shared, &state(Some("Hello\n"), None));
    let site = |word: &str| state(Some(&format!("{word} to {{{{ .metadata.labels.site }}}}\n")), None);
    run("one fleet, a document per site", &site("Welcome"), &site("Hello"));
    let each = |word: &str| state(Some(&format!("{word} to {{{{ .metadata.name }}}}\n")), None);
    run("one fleet, a document per device", &each("Welcome"), &each("Hello"));
    run("no fleet, a specification per device", &state(None, Some("Welcome")), &state(None, Some("Hello")));
}
