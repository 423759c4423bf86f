//! Which devices a commit can concern.

use fleet_store::{DeviceScope, FleetRow};

/// The devices that a change of fleets can concern: all, when who belongs where may have changed; else those of fleets
/// with another revision or problem. A pure decision.
pub(super) fn scope(before: &[FleetRow], after: &[FleetRow], labels_changed: bool) -> Option<DeviceScope> {
    let members = |fleets: &[FleetRow]| -> Vec<_> {
        fleets.iter().map(|fleet| (fleet.name.clone(), fleet.selector.clone())).collect()
    };
    if labels_changed || members(before) != members(after) {
        return Some(DeviceScope::All);
    }
    let moved: Vec<String> = before
        .iter()
        .zip(after)
        .filter(|(old, new)| old.revision != new.revision || old.problem != new.problem)
        .map(|(_, new)| new.name.clone())
        .collect();
    if moved.is_empty() { None } else { Some(DeviceScope::OwnedBy(moved)) }
}

#[cfg(test)]
mod tests {
    use fleet_model::LabelSelector;

    use super::*;

    fn fleet(name: &str, role: &str, revision: &str) -> FleetRow {
        FleetRow {
            name: name.to_owned(),
            source: "s".to_owned(),
            selector: Some(LabelSelector::of_labels([("role".to_owned(), role.to_owned())].into())),
            revision: Some(revision.to_owned()),
            problem: None,
        }
    }

    #[test]
    fn only_devices_that_can_be_concerned_are_looked_at() {
        let before = [fleet("a", "x", "1"), fleet("b", "y", "1")];
        assert_eq!(scope(&before, &before, false), None);
        let revised = [fleet("a", "x", "1"), fleet("b", "y", "2")];
        assert_eq!(scope(&before, &revised, false), Some(DeviceScope::OwnedBy(vec!["b".to_owned()])));
        let reselected = [fleet("a", "x", "1"), fleet("b", "z", "1")];
        assert_eq!(scope(&before, &reselected, false), Some(DeviceScope::All));
        assert_eq!(scope(&before, &before[..1], false), Some(DeviceScope::All));
        assert_eq!(scope(&before, &before, true), Some(DeviceScope::All));
    }
}
