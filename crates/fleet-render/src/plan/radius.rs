//! How far a change reaches, and the limits on that.

use std::collections::BTreeMap;

use fleet_model::{Kind, Limit, Limits};

use super::{Exceeded, Radius, State};

/// Fleets of fewer devices are small.
const SMALL_FLEET: usize = 20;

/// Counts while devices are looked at.
#[derive(Default)]
pub(super) struct Reach {
    devices_before: usize,
    unmanaged: usize,
    changed: usize,
    /// Devices before, by fleet.
    members: BTreeMap<String, usize>,
    /// Changed devices that no rollout policy protects, by fleet.
    unprotected: BTreeMap<Option<String>, usize>,
}

impl Reach {
    pub(super) fn known_before(&mut self, fleet: Option<&str>) {
        self.devices_before += 1;
        if let Some(fleet) = fleet {
            *self.members.entry(fleet.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn unmanaged(&mut self) {
        self.unmanaged += 1;
    }

    pub(super) fn changed(&mut self, fleet: Option<&str>, has_policy: bool) {
        self.changed += 1;
        if !has_policy {
            *self.unprotected.entry(fleet.map(str::to_owned)).or_default() += 1;
        }
    }

    pub(super) fn finish(self, current: &State, incoming: &State) -> Radius {
        let gone = current.objects.keys().filter(|key| !incoming.objects.contains_key(*key));
        let is_fleet = |key: &&(Kind, String)| key.0 == Kind::Fleet;
        let in_small_fleets = self.unprotected.iter().filter(|(fleet, _)| {
            let members = fleet.as_ref().and_then(|fleet| self.members.get(fleet));
            fleet.is_some() && members.is_none_or(|members| *members < SMALL_FLEET)
        });
        Radius {
            objects_before: current.objects.len(),
            objects_removed: gone.clone().count(),
            fleets_before: current.objects.keys().filter(is_fleet).count(),
            fleets_removed: gone.filter(is_fleet).count(),
            devices_before: self.devices_before,
            devices_unmanaged: self.unmanaged,
            devices_changed: self.changed,
            devices_changed_without_rollout: self.unprotected.values().sum(),
            devices_changed_in_small_fleets: in_small_fleets.map(|(_, devices)| devices).sum(),
        }
    }
}

impl Radius {
    /// The limits that the change exceeds; empty when it may go ahead.
    ///
    /// Exempt are the first sync of a source (nothing was there before), limits on devices while fewer than 20 are
    /// known, and changes in fleets of fewer than 20 devices as long as those are fewer than 20 devices together.
    /// Removing everything is never exempt, except when nothing was there.
    pub fn exceeds(&self, limits: &Limits) -> Vec<Exceeded> {
        let mut exceeded = Vec::new();
        if self.objects_before == 0 {
            return exceeded;
        }
        if self.objects_removed == self.objects_before {
            exceeded.push(Exceeded {
                limit: "everything".to_owned(),
                count: self.objects_removed,
                allowed: self.objects_before - 1,
                sentence: format!("removes everything: all {} objects", self.objects_before),
            });
        }
        let fleets = Check { total: self.fleets_before, things: "fleets", limit: limits.removed_fleets };
        exceeded.extend(fleets.run("removedFleets", self.fleets_removed, "removes"));
        if self.devices_before < SMALL_FLEET {
            return exceeded;
        }
        let devices = |limit| Check { total: self.devices_before, things: "devices", limit };
        let unmanaged = devices(limits.unmanaged_devices);
        exceeded.extend(unmanaged.run("unmanagedDevices", self.devices_unmanaged, "takes the fleet away from"));
        let exempt = match self.devices_changed_in_small_fleets {
            few if few < SMALL_FLEET => few,
            _ => 0,
        };
        let changed = self.devices_changed_without_rollout.saturating_sub(exempt);
        let unprotected = devices(limits.changed_devices_without_rollout);
        exceeded.extend(unprotected.run("changedDevicesWithoutRollout", changed, "changes, without a rollout policy,"));
        exceeded
    }
}

struct Check {
    total: usize,
    things: &'static str,
    limit: Limit,
}

impl Check {
    fn run(&self, name: &str, count: usize, verb: &str) -> Option<Exceeded> {
        let Self { total, things, limit } = self;
        let allowed = limit.allowed(u64::try_from(*total).unwrap_or(u64::MAX));
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        (count > allowed).then(|| Exceeded {
            limit: name.to_owned(),
            count,
            allowed,
            sentence: format!("{verb} {count} of {total} {things}; {name} allows {allowed}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(radius: &Radius) -> Vec<String> {
        radius.exceeds(&Limits::DEFAULT).into_iter().map(|exceeded| exceeded.limit).collect()
    }

    fn large() -> Radius {
        Radius { objects_before: 200, fleets_before: 40, devices_before: 1_000, ..Radius::default() }
    }

    #[test]
    fn each_limit_is_exceeded_by_one_more_than_it_allows() {
        let fits = Radius {
            fleets_removed: 2,
            objects_removed: 199,
            devices_unmanaged: 50,
            devices_changed: 1_000,
            devices_changed_without_rollout: 200,
            ..large()
        };
        assert!(names(&fits).is_empty());
        assert_eq!(names(&Radius { fleets_removed: 3, ..fits.clone() }), ["removedFleets"]);
        assert_eq!(names(&Radius { devices_unmanaged: 51, ..fits.clone() }), ["unmanagedDevices"]);
        let changed = Radius { devices_changed_without_rollout: 201, ..fits.clone() };
        assert_eq!(names(&changed), ["changedDevicesWithoutRollout"]);
        assert_eq!(
            changed.exceeds(&Limits::DEFAULT)[0].sentence,
            "changes, without a rollout policy, 201 of 1000 devices; changedDevicesWithoutRollout allows 200"
        );
        assert_eq!(names(&Radius { objects_removed: 200, ..fits }), ["everything"]);
    }

    #[test]
    fn the_first_sync_is_exempt() {
        assert!(names(&Radius { objects_before: 0, devices_changed_without_rollout: 1_000, ..large() }).is_empty());
    }

    #[test]
    fn few_devices_are_exempt_and_many_small_fleets_are_not() {
        let few = Radius { devices_before: 19, devices_changed_without_rollout: 19, ..large() };
        assert!(names(&few).is_empty());
        let one = Radius {
            devices_before: 40,
            devices_changed_without_rollout: 15,
            devices_changed_in_small_fleets: 15,
            ..large()
        };
        assert!(names(&one).is_empty());
        let several =
            Radius { devices_changed_without_rollout: 30, devices_changed_in_small_fleets: 30, ..one.clone() };
        assert_eq!(names(&several), ["changedDevicesWithoutRollout"]);
        assert_eq!(names(&Radius { devices_changed_in_small_fleets: 0, ..one }), ["changedDevicesWithoutRollout"]);
    }
}
