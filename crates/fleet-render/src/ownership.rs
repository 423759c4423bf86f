//! Who owns a device: a pure decision from its labels and the fleets' selectors.

use std::collections::HashMap;

use fleet_model::{LabelSelector, Labels};

/// The fleet that owns a device, and the fleets that contend for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ownership {
    /// The owner.
    pub owner: Option<String>,
    /// All fleets that select the device, when there is more than one; in the order they were given.
    pub contenders: Vec<String>,
}

impl Ownership {
    /// Why the device gets nothing new although fleets select it: one sentence, or `None` when at most one does.
    pub fn conflict(&self) -> Option<String> {
        let several = !self.contenders.is_empty();
        several.then(|| format!("several fleets select this device: {}", self.contenders.join(", ")))
    }
}

/// Finds the selectors that can match a device, without asking each: by one label that each of them wants.
#[derive(Debug, Clone, Default)]
pub struct SelectorIndex {
    /// By key and value: places of the selectors that want this label.
    by_label: HashMap<String, HashMap<String, Vec<usize>>>,
    /// Places of the selectors that want no label with a fixed value.
    others: Vec<usize>,
}

impl SelectorIndex {
    /// An index of selectors by their places in the list.
    pub fn new<'f>(selectors: impl IntoIterator<Item = Option<&'f LabelSelector>>) -> Self {
        let mut index = Self::default();
        for (place, selector) in selectors.into_iter().enumerate() {
            // One without a selector matches nothing.
            let Some(selector) = selector else { continue };
            match selector.match_labels.iter().flatten().next() {
                Some((key, value)) => {
                    index.by_label.entry(key.clone()).or_default().entry(value.clone()).or_default().push(place);
                }
                None => index.others.push(place),
            }
        }
        index
    }

    /// The places of all selectors that match the labels, and perhaps some that do not; in order.
    pub fn candidates(&self, labels: &Labels) -> Vec<usize> {
        let wanted = labels.iter().filter_map(|(key, value)| self.by_label.get(key)?.get(value));
        let mut places: Vec<usize> = wanted.flatten().chain(&self.others).copied().collect();
        places.sort_unstable();
        places
    }
}

/// One selecting fleet owns the device; none frees it; with several the present owner stays, as long as it is among
/// them, and the device gets nothing new until the overlap is gone. A fleet without a selector owns nobody. Hand the
/// fleets in by name, so that the contenders are always told in one order.
pub fn decide_owner<'f>(
    labels: &Labels,
    fleets: impl IntoIterator<Item = (&'f str, Option<&'f LabelSelector>)>,
    present: Option<&str>,
) -> Ownership {
    let mut selecting = fleets
        .into_iter()
        .filter(|(_, selector)| selector.is_some_and(|selector| selector.matches(labels)))
        .map(|(name, _)| name);
    let Some(first) = selecting.next() else { return Ownership::default() };
    let mut contenders = vec![first];
    contenders.extend(selecting);
    if contenders.len() == 1 {
        return Ownership { owner: Some(first.to_owned()), contenders: Vec::new() };
    }
    Ownership {
        owner: present.filter(|owner| contenders.contains(owner)).map(str::to_owned),
        contenders: contenders.into_iter().map(str::to_owned).collect(),
    }
}

/// Who owns a device while fleets leave: a fleet that left Git keeps a device only as long as no other fleet selects it,
/// so that a device goes at once to the fleet that takes its place. `leaving` says which fleets, of those handed in, left.
pub fn decide_owner_in_grace<'f>(
    labels: &Labels,
    fleets: impl IntoIterator<Item = (&'f str, Option<&'f LabelSelector>), IntoIter: Clone>,
    leaving: impl Fn(&str) -> bool,
    present: Option<&str>,
) -> Ownership {
    let fleets = fleets.into_iter();
    let staying = decide_owner(labels, fleets.clone().filter(|(name, _)| !leaving(name)), present);
    if staying != Ownership::default() {
        return staying;
    }
    decide_owner(labels, fleets.filter(|(name, _)| leaving(name)), present)
}

/// Labels in force: those of enrolment, overlaid by those of the device's manifest.
pub fn labels_in_force(enrolled: &Labels, manifest: Option<&Labels>) -> Labels {
    let mut labels = enrolled.clone();
    labels.extend(manifest.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    labels
}

#[cfg(test)]
mod tests {
    use fleet_model::{MatchExpression, MatchOperator};
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn fleet(name: &'static str, pairs: &[(&str, &str)]) -> (&'static str, LabelSelector) {
        (name, LabelSelector::of_labels(labels(pairs)))
    }

    fn decide(labels: &Labels, fleets: &[(&'static str, LabelSelector)], present: Option<&str>) -> Ownership {
        decide_owner(labels, fleets.iter().map(|(name, selector)| (*name, Some(selector))), present)
    }

    #[test]
    fn one_selecting_fleet_owns_and_none_frees() {
        let fleets = [fleet("a", &[("role", "kiosk")]), fleet("b", &[("role", "gate")])];
        let owner = |pairs: &[(&str, &str)], present| decide(&labels(pairs), &fleets, present).owner;
        assert_eq!(owner(&[("role", "kiosk")], None).as_deref(), Some("a"));
        assert_eq!(owner(&[("role", "gate")], Some("a")).as_deref(), Some("b"));
        assert_eq!(owner(&[("role", "other")], Some("a")), None);
    }

    #[test]
    fn with_several_the_present_owner_stays() {
        let fleets = [fleet("a", &[("x", "1")]), fleet("b", &[("y", "1")]), fleet("c", &[("z", "1")])];
        let both = labels(&[("x", "1"), ("y", "1")]);
        let decided = decide(&both, &fleets, Some("b"));
        assert_eq!((decided.owner.as_deref(), decided.contenders.len()), (Some("b"), 2));
        assert_eq!(decided.conflict().as_deref(), Some("several fleets select this device: a, b"));
        assert_eq!(decide(&both, &fleets, None).owner, None);
        assert_eq!(decide(&both, &fleets, Some("c")).owner, None, "an owner that selects it no more lets go");
    }

    #[test]
    fn a_fleet_that_left_git_keeps_its_devices_until_another_selects_them() {
        let (old, new, third) =
            (fleet("old", &[("x", "1")]), fleet("new", &[("x", "1")]), fleet("third", &[("x", "1")]));
        let device = labels(&[("x", "1")]);
        let decide = |fleets: &[&(&'static str, LabelSelector)], present: &str| {
            let fleets = fleets.iter().map(|(name, selector)| (*name, Some(selector)));
            decide_owner_in_grace(&device, fleets, |name| name.starts_with("old"), Some(present))
        };
        assert_eq!(decide(&[&old], "old").owner.as_deref(), Some("old"));
        let moved = decide(&[&new, &old], "old");
        assert_eq!(
            (moved.owner.as_deref(), moved.conflict()),
            (Some("new"), None),
            "no overlap with a fleet that left"
        );
        let contested = decide(&[&new, &old, &third], "old");
        assert_eq!((contested.owner, contested.contenders), (None, vec!["new".to_owned(), "third".to_owned()]));
        let older = fleet("old-too", &[("x", "1")]);
        assert_eq!(decide(&[&old, &older], "old").owner.as_deref(), Some("old"), "as it was");
    }

    #[test]
    fn a_fleet_without_selector_owns_nobody() {
        assert_eq!(decide_owner(&labels(&[("x", "1")]), [("a", None)], Some("a")), Ownership::default());
    }

    #[test]
    fn labels_of_the_manifest_win() {
        let enrolled = labels(&[("site", "berlin"), ("alias", "k1")]);
        let manifest = labels(&[("site", "paris")]);
        assert_eq!(labels_in_force(&enrolled, Some(&manifest)), labels(&[("site", "paris"), ("alias", "k1")]));
    }

    fn any_labels() -> impl Strategy<Value = Labels> {
        proptest::collection::btree_map("[abc]", "[12]", 0..3)
    }

    fn any_selector() -> impl Strategy<Value = Option<LabelSelector>> {
        let operator = prop_oneof![
            Just(MatchOperator::In),
            Just(MatchOperator::NotIn),
            Just(MatchOperator::Exists),
            Just(MatchOperator::DoesNotExist)
        ];
        let expression = ("[abc]", operator).prop_map(|(key, operator)| MatchExpression {
            key,
            operator,
            values: matches!(operator, MatchOperator::In | MatchOperator::NotIn).then(|| vec!["1".to_owned()]),
        });
        let parts =
            (proptest::option::of(any_labels()), proptest::option::of(proptest::collection::vec(expression, 0..2)));
        let selector =
            parts.prop_map(|(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions });
        proptest::option::of(selector)
    }

    proptest! {
        #[test]
        fn an_index_passes_over_no_selector_that_matches(
            labels in any_labels(),
            selectors in proptest::collection::vec(any_selector(), 0..6),
            present in 0..6_usize,
        ) {
            let names: Vec<String> = (0..selectors.len()).map(|n| format!("f{n}")).collect();
            let fleets: Vec<_> = names.iter().map(String::as_str).zip(selectors.iter().map(Option::as_ref)).collect();
            let index = SelectorIndex::new(selectors.iter().map(Option::as_ref));
            let found = index.candidates(&labels).into_iter().map(|place| fleets[place]);
            let present = format!("f{present}");
            prop_assert_eq!(
                decide_owner(&labels, found, Some(&present)),
                decide_owner(&labels, fleets.iter().copied(), Some(&present))
            );
        }
    }
}
