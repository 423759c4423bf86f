//! How far a change reaches, measured against the SyncPolicy that is in force before it.

use fleet_lint::TreeReport;
use fleet_model::{Limit, Limits, Manifest, SyncPolicy};
use fleet_render::plan::{Exceeded, Radius};

/// The limits in force.
#[derive(Debug)]
pub(super) struct Found {
    limits: Limits,
    /// What is unclear about them.
    pub(super) remark: Option<String>,
}

impl Default for Found {
    fn default() -> Self {
        Self { limits: Limits::DEFAULT, remark: None }
    }
}

/// One limit and what the change comes to.
#[derive(Debug)]
pub(super) struct Measured {
    /// Its name in a SyncPolicy.
    pub(super) limit: &'static str,
    /// What is counted.
    pub(super) what: &'static str,
    /// How many.
    pub(super) count: usize,
    /// Of so many.
    pub(super) total: usize,
    /// How many are allowed.
    pub(super) allowed: usize,
}

/// The policy for a source: one that names it, else one that names no source.
pub(super) fn find(report: &TreeReport, source: Option<&str>) -> Found {
    let policies: Vec<&SyncPolicy> = report
        .manifests
        .iter()
        .filter_map(|placed| match placed.manifest() {
            Manifest::SyncPolicy(policy) => Some(policy.as_ref()),
            Manifest::Fleet(_)
            | Manifest::Device(_)
            | Manifest::Repository(_)
            | Manifest::ResourceSync(_)
            | Manifest::EnrollmentPolicy(_) => None,
        })
        .collect();
    let names = |policy: &&&SyncPolicy| {
        let named = policy.spec.sources.as_ref();
        named.is_some_and(|sources| sources.iter().any(|name| Some(name.as_str()) == source))
    };
    let chosen = policies.iter().find(names).or_else(|| policies.iter().find(|policy| policy.spec.sources.is_none()));
    let remark = (chosen.is_none() && !policies.is_empty() && source.is_none()).then(|| {
        "the SyncPolicies here name sources; say which one this is with --source, until then the default limits are shown"
            .to_owned()
    });
    Found { limits: chosen.map_or(Limits::DEFAULT, |policy| policy.spec.limits_in_force()), remark }
}

/// Measures a change. What exceeds a limit is said by the rule that the service holds changes with, which knows exemptions:
/// a count above what is allowed is not always too much.
pub(super) fn measure(radius: &Radius, found: &Found) -> (Vec<Measured>, Vec<Exceeded>) {
    let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let narrow = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let of = |limit, what, count: usize, total: usize, allowed: Limit| Measured {
        limit,
        what,
        count,
        total,
        allowed: narrow(allowed.allowed(wide(total))),
    };
    let Limits { removed_fleets, unmanaged_devices, changed_devices_without_rollout } = found.limits;
    let devices = radius.devices_before;
    let exceeded = radius.exceeds(&found.limits);
    let measured = vec![
        of("removedFleets", "fleets removed", radius.fleets_removed, radius.fleets_before, removed_fleets),
        of("unmanagedDevices", "devices that lose their fleet", radius.devices_unmanaged, devices, unmanaged_devices),
        of(
            "changedDevicesWithoutRollout",
            "devices changed without a rollout policy",
            radius.devices_changed_without_rollout,
            devices,
            changed_devices_without_rollout,
        ),
    ];
    (measured, exceeded)
}
