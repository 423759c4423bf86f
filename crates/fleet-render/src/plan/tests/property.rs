//! A plan against documents that are rendered one by one, without anything shared.

use proptest::prelude::*;

use super::*;
use crate::ownership::{decide_owner, labels_in_force};
use crate::template::Subject;

const NAMES: [&str; 6] = ["d0", "d1", "d2", "d3", "d4", "d5"];
/// What templates and specifications may say: several with the same meaning, one that fails without a label.
const CONTENTS: [&str; 8] = [
    "one",
    "two",
    "{{ getOrDefault .metadata.labels \"b\" \"one\" }}",
    "{{ .metadata.labels.b }}",
    "{{ .metadata.name }}",
    "{{ if .metadata.labels.a }}one{{ else }}two{{ end }}",
    "{{ len .metadata.labels }}",
    "{{ \"one\" }}",
];

#[derive(Debug, Clone)]
struct Fleet {
    selector: Vec<(&'static str, &'static str)>,
    content: Option<usize>,
}

#[derive(Debug, Clone)]
struct Device {
    labels: Labels,
    content: Option<usize>,
}

type Drawn = (BTreeMap<&'static str, Fleet>, BTreeMap<&'static str, Device>);

fn any_labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map("[ab]", "[xy]", 0..3)
}

fn any_state() -> impl Strategy<Value = Drawn> {
    let pair = prop::sample::select(vec![("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]);
    let fleet = (prop::collection::vec(pair, 1..2), prop::option::weighted(0.85, 0..CONTENTS.len()))
        .prop_map(|(selector, content)| Fleet { selector, content });
    let device = (any_labels(), prop::option::weighted(0.3, 0..CONTENTS.len()))
        .prop_map(|(labels, content)| Device { labels, content });
    let fleets = prop::collection::btree_map(prop::sample::select(vec!["f0", "f1", "f2"]), fleet, 0..4);
    (fleets, prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), device, 0..5))
}

fn any_inventory() -> impl Strategy<Value = Inventory> {
    let owner = prop::option::of(prop::sample::select(vec!["f0", "f1"]).prop_map(str::to_owned));
    let device = (any::<bool>(), any_labels(), owner).prop_map(|(enrolled, labels, owner)| InventoryDevice {
        enrolled,
        labels,
        owner,
        document: None,
    });
    prop::collection::btree_map(prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned), device, 0..6)
}

fn build(drawn: &Drawn) -> World {
    let mut world = World::default();
    for (name, fleet) in &drawn.0 {
        world = match fleet.content {
            Some(content) => world.fleet(name, &fleet.selector, &motd(CONTENTS[content])),
            None => world.fleet_at(name, &fleet.selector, Target::Waits("waits".to_owned())),
        };
    }
    for (name, device) in &drawn.1 {
        let pairs: Vec<(&str, &str)> = device.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        world = world.device(name, &pairs, device.content.map(|content| motd(CONTENTS[content])).as_ref());
    }
    world
}

/// What a device should be, rendered on its own.
#[derive(Debug, PartialEq)]
enum Naive {
    Unknown,
    Document(Vec<u8>),
    Waits,
    Nothing,
}

/// With the owner; `last` are the revisions of fleets before.
fn naive(
    state: &State,
    last: Option<&State>,
    inventory: &Inventory,
    name: &str,
    owner: Option<&str>,
) -> (Option<String>, Naive) {
    let known = inventory.get(name);
    let manifest = state.devices.get(name);
    if manifest.is_none() && !known.is_some_and(|known| known.enrolled) {
        return (owner.map(str::to_owned), Naive::Unknown);
    }
    let enrolment = known.map(|known| known.labels.clone()).unwrap_or_default();
    let labels = labels_in_force(&enrolment, manifest.map(|manifest| &manifest.labels));
    let fleets = state.fleets.iter().map(|(name, fleet)| (name.as_str(), fleet.selector.as_ref()));
    let ownership = decide_owner(&labels, fleets, owner);
    let mut target = match &ownership.owner {
        Some(fleet) => Some(&state.fleets[fleet].target),
        None => manifest.and_then(|manifest| manifest.target.as_ref()),
    };
    if let (Some(Target::Waits(_)), Some(fleet), Some(last)) = (target, &ownership.owner, last) {
        target = last.fleets.get(fleet).map(|fleet| &fleet.target).or(target);
    }
    let naive = match target {
        _ if !ownership.contenders.is_empty() => Naive::Waits,
        Some(Target::Revision(revision)) => match revision.prepared.render(&Subject { name, labels: &labels }) {
            Ok(rendered) => Naive::Document(rendered.body),
            Err(_) => Naive::Waits,
        },
        Some(Target::Waits(_) | Target::Keeps { .. } | Target::Elsewhere) => Naive::Waits,
        None => Naive::Nothing,
    };
    (ownership.owner, naive)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_devices_that_change_are_those_whose_documents_differ(
        before in any_state(), after in any_state(), inventory in any_inventory(),
    ) {
        let (current, incoming) = (build(&before), build(&after));
        let plan = current.plan_with(&incoming, &inventory);
        let mut expected = BTreeSet::new();
        let mut kept = BTreeSet::new();
        for name in NAMES {
            let owner = inventory.get(name).and_then(|known| known.owner.as_deref());
            let (owner, was) = naive(&current.0, None, &inventory, name, owner);
            let (_, is) = naive(&incoming.0, Some(&current.0), &inventory, name, owner.as_deref());
            match is {
                Naive::Document(_) if was != is => expected.insert(name.to_owned()),
                Naive::Document(_) | Naive::Waits | Naive::Nothing => kept.insert(name.to_owned()),
                Naive::Unknown => false,
            };
        }
        let told: Vec<String> = plan.groups.iter().flat_map(|group| group.devices.clone()).collect();
        let changed: BTreeSet<String> = told.iter().cloned().collect();
        prop_assert_eq!(told.len(), changed.len(), "no device is in two groups");
        prop_assert_eq!(&changed, &expected);
        let counts = &plan.summary.devices;
        prop_assert_eq!(counts.total, expected.len() + kept.len());
        for group in &plan.groups {
            prop_assert!(!group.causes.is_empty());
            prop_assert!(!group.causes.contains(&Cause::New) || !group.before_known);
            prop_assert!(!group.files.is_empty(), "{:?}", group);
        }
        prop_assert_eq!(plan, current.plan_with(&incoming, &inventory), "equal arguments, equal plans");
    }

    #[test]
    fn a_state_against_itself_changes_nothing(state in any_state(), inventory in any_inventory()) {
        let world = build(&state);
        let plan = world.plan_with(&world, &inventory);
        prop_assert!(plan.is_empty(), "{:?}", plan);
        prop_assert_eq!(plan.digest, World::default().plan(&World::default()).digest);
    }
}
