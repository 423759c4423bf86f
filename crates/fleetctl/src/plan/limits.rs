//! How far a change reaches, measured against the SyncPolicy that is in force before it.

use fleet_lint::TreeReport;
use fleet_model::{Limit, Limits, Manifest, PolicyPlace, SyncPolicySpec, SyncRules, SyncTrust};
use fleet_render::plan::{Exceeded, Radius};

/// The limits in force.
#[derive(Debug, Default)]
pub(super) struct Found {
    rules: SyncRules,
    /// What is unclear about them.
    pub(super) remark: Option<String>,
    /// Why more signatures may be asked for.
    pub(super) unclear_trust: Option<String>,
}

impl Found {
    /// Which signatures are asked for.
    pub(super) fn trust(&self) -> &[SyncTrust] {
        self.rules.trust()
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

/// The rules for a source: what the service goes by when it has the commit.
pub(super) fn find(report: &TreeReport, source: Option<&str>) -> Found {
    let policies: Vec<(PolicyPlace, &SyncPolicySpec)> = report
        .manifests
        .iter()
        .filter_map(|placed| match placed.manifest() {
            Manifest::SyncPolicy(policy) => Some((PolicyPlace::Own, &policy.spec)),
            Manifest::Fleet(_)
            | Manifest::Device(_)
            | Manifest::Repository(_)
            | Manifest::ResourceSync(_)
            | Manifest::EnrollmentPolicy(_) => None,
        })
        .collect();
    let all_name_sources = !policies.is_empty() && policies.iter().all(|(_, policy)| policy.sources.is_some());
    let remark = (all_name_sources && source.is_none()).then(|| {
        "the SyncPolicies here name sources; say which one this is with --source, until then the default limits are shown"
            .to_owned()
    });
    let trust_elsewhere = policies.iter().any(|(_, policy)| policy.trust.is_some() && policy.sources.is_some());
    let unclear_trust = (trust_elsewhere && source.is_none()).then(|| {
        "a SyncPolicy asks for signatures in sources that it names; say which one this is with --source".to_owned()
    });
    Found { rules: SyncRules::of_source(source, policies), remark, unclear_trust }
}

/// What becomes of the objects that a change removes, until the plan's state is reached; `None` when it removes none.
pub(super) fn grace(radius: &Radius, found: &Found) -> Option<String> {
    if radius.objects_removed == 0 {
        return None;
    }
    let devices = match radius.devices_unmanaged {
        0 => String::new(),
        1 => "; 1 device stays with it until then".to_owned(),
        devices => format!("; {devices} devices stay with it until then"),
    };
    Some(match found.rules.deletion_grace() {
        Some(grace) if grace.is_zero() => "what is removed is gone at once (deletionGracePeriod is 0s)".to_owned(),
        Some(grace) => {
            let left = crate::duration::left(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)).replace(" left", "");
            format!("what is removed stays in force for another {left}{devices}")
        }
        None => format!(
            "what is removed stays in force for a grace, 1h unless the service is configured otherwise{devices}"
        ),
    })
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
    let limits = found.rules.limits(wide(radius.fleets_before), wide(radius.devices_before));
    let Limits { removed_fleets, unmanaged_devices, changed_devices_without_rollout } = limits;
    let devices = radius.devices_before;
    let exceeded = radius.exceeds(&limits);
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
