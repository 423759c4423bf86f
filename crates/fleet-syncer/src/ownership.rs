//! Who owns a device: a pure decision from its labels and the fleets' selectors.

use fleet_model::Labels;
use fleet_store::FleetRow;

/// The fleet that owns a device, and the fleets that contend for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// The owner.
    pub(crate) owner: Option<String>,
    /// All fleets that select the device, when there is more than one.
    pub(crate) contenders: Vec<String>,
}

/// One selecting fleet owns the device; none frees it; with several the present owner stays, as long as it is among
/// them, and the device gets nothing new until the overlap is gone.
pub(crate) fn decide_owner(labels: &Labels, fleets: &[FleetRow], present: Option<&str>) -> Ownership {
    let selecting: Vec<&str> = fleets
        .iter()
        .filter(|fleet| fleet.selector.as_ref().is_some_and(|selector| selector.matches(labels)))
        .map(|fleet| fleet.name.as_str())
        .collect();
    match selecting.as_slice() {
        [] => Ownership::default(),
        [only] => Ownership { owner: Some((*only).to_owned()), contenders: Vec::new() },
        several => Ownership {
            owner: present.filter(|owner| several.contains(owner)).map(str::to_owned),
            contenders: several.iter().map(|name| (*name).to_owned()).collect(),
        },
    }
}

/// Labels in force: those of enrolment, overlaid by those of the device's manifest.
pub(crate) fn labels_in_force(enrolled: &Labels, manifest: Option<&Labels>) -> Labels {
    let mut labels = enrolled.clone();
    labels.extend(manifest.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    labels
}

#[cfg(test)]
mod tests {
    use fleet_model::LabelSelector;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn fleet(name: &str, pairs: &[(&str, &str)]) -> FleetRow {
        FleetRow {
            name: name.to_owned(),
            source: "s".to_owned(),
            selector: Some(LabelSelector::of_labels(labels(pairs))),
            revision: None,
            problem: None,
        }
    }

    #[test]
    fn one_selecting_fleet_owns_and_none_frees() {
        let fleets = [fleet("a", &[("role", "kiosk")]), fleet("b", &[("role", "gate")])];
        let owner = |pairs: &[(&str, &str)], present| decide_owner(&labels(pairs), &fleets, present).owner;
        assert_eq!(owner(&[("role", "kiosk")], None).as_deref(), Some("a"));
        assert_eq!(owner(&[("role", "gate")], Some("a")).as_deref(), Some("b"));
        assert_eq!(owner(&[("role", "other")], Some("a")), None);
    }

    #[test]
    fn with_several_the_present_owner_stays() {
        let fleets = [fleet("a", &[("x", "1")]), fleet("b", &[("y", "1")]), fleet("c", &[("z", "1")])];
        let both = labels(&[("x", "1"), ("y", "1")]);
        let decided = decide_owner(&both, &fleets, Some("b"));
        assert_eq!((decided.owner.as_deref(), decided.contenders.len()), (Some("b"), 2));
        assert_eq!(decide_owner(&both, &fleets, None).owner, None);
        assert_eq!(decide_owner(&both, &fleets, Some("c")).owner, None, "an owner that selects it no more lets go");
    }

    #[test]
    fn a_fleet_without_selector_owns_nobody() {
        let fleets = [FleetRow { selector: None, ..fleet("a", &[]) }];
        assert_eq!(decide_owner(&labels(&[("x", "1")]), &fleets, Some("a")), Ownership::default());
    }

    #[test]
    fn labels_of_the_manifest_win() {
        let enrolled = labels(&[("site", "berlin"), ("alias", "k1")]);
        let manifest = labels(&[("site", "paris")]);
        assert_eq!(labels_in_force(&enrolled, Some(&manifest)), labels(&[("site", "paris"), ("alias", "k1")]));
    }
}
