//! What a commit of a source may change before somebody has to look at it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ObjectMeta, SyncTrust};

/// The longest that an object stays in force after it left Git.
pub const MAX_GRACE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Limits and trust of sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SyncPolicy {
    /// `shorebase/v1alpha1`.
    pub api_version: String,
    /// `SyncPolicy`.
    pub kind: String,
    /// Name.
    pub metadata: ObjectMeta,
    /// The policy.
    pub spec: SyncPolicySpec,
}

/// A sync policy. What is not given has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncPolicySpec {
    /// The names of the sources that the policy is for; the one that it lies in when absent. For a source that it neither
    /// lies in nor brings in, a policy can make limits, grace and forced pushes stricter, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
    /// How much a commit may change before it has to wait for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<SyncLimits>,
    /// What happens when the history of the branch was rewritten; `Hold` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_push: Option<ForcedPush>,
    /// How long an object stays in force after it left Git: a number of seconds, minutes or hours, such as `1h`, at most 30
    /// days; with `0s` it is gone at once. When absent, the service's configuration says how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period: Option<String>,
    /// Which commits must be signed, and by whom; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<SyncTrust>,
}

/// How much a commit may change. A limit that is not given has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyncLimits {
    /// How many fleets may be removed; one or 5 % when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_fleets: Option<CountLimit>,
    /// How many devices may lose their fleet; 25 or 5 % when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged_devices: Option<CountLimit>,
    /// How many devices may change whose fleet has no rollout policy; 20 % when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_devices_without_rollout: Option<PercentLimit>,
}

/// The larger of a number and a percentage of all; at least one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CountLimit {
    /// A number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// A percentage of all, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

/// A percentage of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PercentLimit {
    /// A percentage of all, 0 to 100.
    pub percent: u8,
}

/// What happens when the history of a branch was rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ForcedPush {
    /// The new history waits for a person.
    Hold,
    /// The new history is applied like any other commit.
    Follow,
}

/// The larger of a number and a percentage of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The number.
    pub count: u32,
    /// The percentage of all, 0 to 100.
    pub percent: u8,
}

impl Limit {
    /// How many of `total` may change; one more is too many.
    pub fn allowed(self, total: u64) -> u64 {
        u64::from(self.count).max(total.saturating_mul(u64::from(self.percent)) / 100)
    }
}

/// The limits that are in force for a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fleets that may be removed, of all fleets.
    pub removed_fleets: Limit,
    /// Devices that may lose their fleet, of all devices.
    pub unmanaged_devices: Limit,
    /// Devices that may change while their fleet has no rollout policy, of all devices.
    pub changed_devices_without_rollout: Limit,
}

impl Limits {
    /// Without a policy.
    pub const DEFAULT: Self = Self {
        removed_fleets: Limit { count: 1, percent: 5 },
        unmanaged_devices: Limit { count: 25, percent: 5 },
        changed_devices_without_rollout: Limit { count: 0, percent: 20 },
    };
}

impl SyncLimits {
    /// The limits with the defaults for what is not given. A limit of which only the number or only the percentage is
    /// given consists of that alone.
    pub fn in_force(&self) -> Limits {
        let of = |given: &Option<CountLimit>, default: Limit| match given {
            Some(CountLimit { count: None, percent: None }) | None => default,
            Some(limit) => Limit { count: limit.count.unwrap_or(0), percent: limit.percent.unwrap_or(0) },
        };
        let default = Limits::DEFAULT;
        Limits {
            removed_fleets: of(&self.removed_fleets, default.removed_fleets),
            unmanaged_devices: of(&self.unmanaged_devices, default.unmanaged_devices),
            changed_devices_without_rollout: self
                .changed_devices_without_rollout
                .as_ref()
                .map_or(default.changed_devices_without_rollout, |limit| Limit { count: 0, percent: limit.percent }),
        }
    }
}

impl SyncPolicySpec {
    /// The limits in force under this policy.
    pub fn limits_in_force(&self) -> Limits {
        self.limits.as_ref().map_or(Limits::DEFAULT, SyncLimits::in_force)
    }

    /// How long an object stays in force after it left Git, at most [`MAX_GRACE`]; `None` when the policy does not say, or
    /// says what lint refuses.
    pub fn deletion_grace(&self) -> Option<Duration> {
        let text = self.deletion_grace_period.as_deref()?;
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return None,
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // More digits than a number holds are longer than the longest, too.
        let number: u64 = number.parse().unwrap_or(u64::MAX);
        Some(Duration::from_secs(number.saturating_mul(seconds)).min(MAX_GRACE))
    }

    /// Whether the policy names the source.
    fn names(&self, source: Option<&str>) -> bool {
        let named = self.sources.as_ref();
        named.is_some_and(|sources| sources.iter().any(|name| Some(name.as_str()) == source))
    }
}

/// Where a policy lies, as seen from the source that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyPlace {
    /// In the source itself.
    Own,
    /// In the source whose ResourceSync brings it in, or in one that brings in that one.
    Above,
    /// In any other source.
    Elsewhere,
}

/// What the policies for one source say together: of each rule the strictest, and the default where none says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncRules {
    /// What those say that may loosen a rule.
    decided: Given,
    /// What those of other sources say: it counts where it is stricter.
    elsewhere: Given,
    trust: Vec<SyncTrust>,
    trust_elsewhere: usize,
}

/// What some policies say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Given {
    removed_fleets: Vec<Limit>,
    unmanaged_devices: Vec<Limit>,
    changed_devices_without_rollout: Vec<Limit>,
    forced_push: Option<ForcedPush>,
    deletion_grace: Option<Duration>,
}

impl SyncRules {
    /// The rules for `source` (`None`: one whose name is not known) among all policies; each comes with where it lies.
    /// Those in the source and above it that name it count; when none does, those in the source itself that name no source.
    /// Policies elsewhere that name it make limits, grace and forced pushes stricter, never looser, and cannot ask for
    /// signatures: somebody who may write to one source could stop another with them.
    pub fn of_source<'a>(
        source: Option<&str>,
        policies: impl IntoIterator<Item = (PolicyPlace, &'a SyncPolicySpec)> + Clone,
    ) -> Self {
        let mut rules = Self::default();
        let mut named = false;
        for (place, policy) in policies.clone().into_iter().filter(|(_, policy)| policy.names(source)) {
            match place {
                PolicyPlace::Own | PolicyPlace::Above => {
                    named = true;
                    rules.decided.add(policy);
                }
                PolicyPlace::Elsewhere => {
                    rules.elsewhere.add(policy);
                    rules.trust_elsewhere += usize::from(policy.trust.is_some());
                }
            }
        }
        let own = |pair: &(PolicyPlace, &SyncPolicySpec)| pair.0 == PolicyPlace::Own && pair.1.sources.is_none();
        if !named {
            policies.clone().into_iter().filter(own).for_each(|(_, policy)| rules.decided.add(policy));
        }
        // A policy above never takes the source's own demands of signatures away.
        let counts = |pair: &(PolicyPlace, &SyncPolicySpec)| {
            own(pair) || pair.0 != PolicyPlace::Elsewhere && pair.1.names(source)
        };
        rules.trust = policies.into_iter().filter(counts).filter_map(|(_, policy)| policy.trust.clone()).collect();
        rules
    }

    /// The limits where there are so many fleets and devices: the strictest limit may depend on that.
    pub fn limits(&self, fleets: u64, devices: u64) -> Limits {
        let strictest = |decided: &[Limit], elsewhere: &[Limit], total: u64, default: Limit| {
            let allowed = |limit: &Limit| limit.allowed(total);
            let decided = decided.iter().copied().min_by_key(allowed).unwrap_or(default);
            [decided].into_iter().chain(elsewhere.iter().copied()).min_by_key(allowed).unwrap_or(decided)
        };
        let (default, Self { decided, elsewhere, .. }) = (Limits::DEFAULT, self);
        Limits {
            removed_fleets: strictest(
                &decided.removed_fleets,
                &elsewhere.removed_fleets,
                fleets,
                default.removed_fleets,
            ),
            unmanaged_devices: strictest(
                &decided.unmanaged_devices,
                &elsewhere.unmanaged_devices,
                devices,
                default.unmanaged_devices,
            ),
            changed_devices_without_rollout: strictest(
                &decided.changed_devices_without_rollout,
                &elsewhere.changed_devices_without_rollout,
                devices,
                default.changed_devices_without_rollout,
            ),
        }
    }

    /// How long an object stays in force after it left Git: the longest that a policy says; `None` when none says it that
    /// may shorten it.
    pub fn deletion_grace(&self) -> Option<Duration> {
        self.decided.deletion_grace.map(|grace| grace.max(self.elsewhere.deletion_grace.unwrap_or_default()))
    }

    /// The same with what the service's configuration says where no policy does.
    pub fn deletion_grace_or(&self, configured: Duration) -> Duration {
        let decided = self.decided.deletion_grace.unwrap_or(configured);
        decided.max(self.elsewhere.deletion_grace.unwrap_or_default())
    }

    /// Which commits must be signed: each of them is in force.
    pub fn trust(&self) -> &[SyncTrust] {
        &self.trust
    }

    /// How many policies elsewhere ask for signatures, in vain.
    pub fn trust_elsewhere(&self) -> usize {
        self.trust_elsewhere
    }

    /// What becomes of a rewritten history.
    pub fn forced_push(&self) -> ForcedPush {
        match (self.decided.forced_push, self.elsewhere.forced_push) {
            (Some(ForcedPush::Follow), None | Some(ForcedPush::Follow)) => ForcedPush::Follow,
            (Some(ForcedPush::Follow), Some(ForcedPush::Hold)) | (Some(ForcedPush::Hold) | None, _) => ForcedPush::Hold,
        }
    }
}

impl Given {
    fn add(&mut self, policy: &SyncPolicySpec) {
        let given = policy.limits.clone().unwrap_or_default();
        let limits = given.in_force();
        let says = |limit: &Option<CountLimit>| {
            limit.as_ref().is_some_and(|limit| limit.count.is_some() || limit.percent.is_some())
        };
        if says(&given.removed_fleets) {
            self.removed_fleets.push(limits.removed_fleets);
        }
        if says(&given.unmanaged_devices) {
            self.unmanaged_devices.push(limits.unmanaged_devices);
        }
        if given.changed_devices_without_rollout.is_some() {
            self.changed_devices_without_rollout.push(limits.changed_devices_without_rollout);
        }
        self.forced_push = match (self.forced_push, policy.forced_push) {
            (Some(ForcedPush::Hold), _) | (_, Some(ForcedPush::Hold)) => Some(ForcedPush::Hold),
            (Some(ForcedPush::Follow), _) | (None, Some(ForcedPush::Follow)) => Some(ForcedPush::Follow),
            (None, None) => None,
        };
        self.deletion_grace = self.deletion_grace.max(policy.deletion_grace());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_of_number_and_percentage_is_allowed() {
        let limit = Limits::DEFAULT.unmanaged_devices;
        assert_eq!((limit.allowed(10), limit.allowed(500), limit.allowed(1_000)), (25, 25, 50));
        assert_eq!(Limits::DEFAULT.changed_devices_without_rollout.allowed(4), 0);
        assert_eq!(Limit { count: 0, percent: 100 }.allowed(u64::MAX), u64::MAX / 100);
    }

    #[test]
    fn a_limit_that_is_given_replaces_its_default_as_a_whole() {
        let spec: SyncPolicySpec =
            serde_json::from_str(r#"{"limits":{"removedFleets":{"count":3},"unmanagedDevices":{}}}"#).unwrap();
        let limits = spec.limits_in_force();
        assert_eq!(limits.removed_fleets, Limit { count: 3, percent: 0 });
        assert_eq!(limits.unmanaged_devices, Limits::DEFAULT.unmanaged_devices);
        assert_eq!(SyncPolicySpec::default().limits_in_force(), Limits::DEFAULT);
    }

    #[test]
    fn the_longest_grace_counts_and_none_is_longer_than_thirty_days() {
        let of = |text: &str| policy(&format!(r#"{{"sources":["a"],"deletionGracePeriod":"{text}"}}"#));
        let seconds = |text: &str| of(text).deletion_grace().map(|grace| grace.as_secs());
        assert_eq!(
            (seconds("0s"), seconds("90s"), seconds("5m"), seconds("2h")),
            (Some(0), Some(90), Some(300), Some(7_200))
        );
        for endless in ["721h", "99999999h", "99999999999999999999999s"] {
            assert_eq!(of(endless).deletion_grace(), Some(MAX_GRACE), "{endless}");
        }
        for wrong in ["", "h", "1", "1d", "-1h", "+1h", " 1h", "1 h", "1\u{b5}", "\u{661}h"] {
            assert_eq!(seconds(wrong), None, "{wrong:?}");
        }
        let (none, short, long) = (policy(r#"{"sources":["a"]}"#), of("0s"), of("1h"));
        let rules = |all: &[&SyncPolicySpec]| {
            SyncRules::of_source(Some("a"), all.iter().map(|policy| (PolicyPlace::Above, *policy))).deletion_grace()
        };
        assert_eq!(rules(&[&none]), None);
        assert_eq!(rules(&[&none, &short]), Some(Duration::ZERO));
        assert_eq!(rules(&[&long, &none, &short]), Some(Duration::from_secs(3_600)));
    }

    fn policy(json: &str) -> SyncPolicySpec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn policies_that_name_a_source_go_before_its_own() {
        let own = policy(r#"{"limits":{"removedFleets":{"count":9}},"forcedPush":"Follow"}"#);
        let naming = policy(r#"{"sources":["shops"],"limits":{"removedFleets":{"count":3}}}"#);
        let of = |name: &str, place: PolicyPlace| {
            SyncRules::of_source(Some(name), [(place, &own), (PolicyPlace::Above, &naming)])
        };
        let shops = of("shops", PolicyPlace::Own);
        assert_eq!(shops.limits(10, 100).removed_fleets.count, 3);
        assert_eq!(shops.forced_push(), ForcedPush::Hold, "what none of them says has its default");
        let other = of("other", PolicyPlace::Own);
        assert_eq!((other.limits(10, 100).removed_fleets.count, other.forced_push()), (9, ForcedPush::Follow));
        for place in [PolicyPlace::Above, PolicyPlace::Elsewhere] {
            let elsewhere = of("other", place);
            assert_eq!(elsewhere.limits(10, 100), Limits::DEFAULT, "a policy that names nobody is for its own source");
            assert_eq!(elsewhere, SyncRules::of_source(None, []));
        }
    }

    #[test]
    fn a_policy_elsewhere_makes_rules_stricter_and_never_looser() {
        let loose = policy(
            r#"{"sources":["main"],"forcedPush":"Follow","deletionGracePeriod":"0s","limits":{
                "removedFleets":{"percent":100},"unmanagedDevices":{"percent":100},
                "changedDevicesWithoutRollout":{"percent":100}}}"#,
        );
        let own = policy(r#"{"limits":{"removedFleets":{"count":2}},"deletionGracePeriod":"2h"}"#);
        let of = |all: &[(PolicyPlace, &SyncPolicySpec)]| SyncRules::of_source(Some("main"), all.iter().copied());
        let hour = Duration::from_secs(3_600);
        let told = |rules: &SyncRules| (rules.limits(10, 100), rules.forced_push(), rules.deletion_grace_or(hour));
        for policies in [&[][..], &[(PolicyPlace::Own, &own)]] {
            let with = [policies, &[(PolicyPlace::Elsewhere, &loose)]].concat();
            assert_eq!(told(&of(&with)), told(&of(policies)));
            assert_eq!(of(&with).deletion_grace(), of(policies).deletion_grace());
        }
        // Who brings the source in, and the source itself, may loosen all of it.
        for place in [PolicyPlace::Own, PolicyPlace::Above] {
            let rules = of(&[(PolicyPlace::Own, &own), (place, &loose)]);
            assert_eq!((rules.forced_push(), rules.deletion_grace_or(hour)), (ForcedPush::Follow, Duration::ZERO));
            assert_eq!(rules.limits(10, 100).removed_fleets.allowed(10), 10);
        }
        let strict = policy(
            r#"{"sources":["main"],"forcedPush":"Hold","deletionGracePeriod":"3h","limits":{"removedFleets":{"count":0}}}"#,
        );
        let rules = of(&[(PolicyPlace::Own, &loose), (PolicyPlace::Elsewhere, &strict)]);
        assert_eq!((rules.forced_push(), rules.deletion_grace_or(hour)), (ForcedPush::Hold, 3 * hour));
        assert_eq!(rules.deletion_grace(), Some(3 * hour));
        assert_eq!(rules.limits(10, 100).removed_fleets.allowed(10), 0);
        assert_eq!(rules.limits(10, 100).unmanaged_devices.percent, 100, "of which it says nothing");
    }

    #[test]
    fn of_several_policies_the_strictest_counts_rule_by_rule() {
        let share = policy(r#"{"sources":["a"],"limits":{"unmanagedDevices":{"percent":10}},"forcedPush":"Follow"}"#);
        let count = policy(r#"{"sources":["a"],"limits":{"unmanagedDevices":{"count":5},"removedFleets":{}}}"#);
        let (own, above) = (PolicyPlace::Own, PolicyPlace::Above);
        for both in [[(above, &share), (own, &count)], [(own, &count), (above, &share)]] {
            let rules = SyncRules::of_source(Some("a"), both);
            assert_eq!(rules.limits(1, 20).unmanaged_devices.allowed(20), 2);
            assert_eq!(rules.limits(1, 1_000).unmanaged_devices.allowed(1_000), 5);
            assert_eq!(rules.limits(1, 20).removed_fleets, Limits::DEFAULT.removed_fleets);
            assert_eq!(rules.forced_push(), ForcedPush::Follow);
            let hold = policy(r#"{"sources":["a"],"forcedPush":"Hold"}"#);
            let three = [both[0], both[1], (above, &hold)];
            assert_eq!(SyncRules::of_source(Some("a"), three).forced_push(), ForcedPush::Hold);
        }
    }

    #[test]
    fn policies_in_a_source_and_above_it_ask_for_signatures_and_others_do_in_vain() {
        let own = policy(r#"{"trust":{"signers":[],"rules":[{"signedBy":["a"]}]}}"#);
        let naming = policy(r#"{"sources":["shops"],"limits":{},"trust":{"signers":[],"rules":[{"signedBy":["b"]}]}}"#);
        let other = policy(r#"{"sources":["other"],"trust":{"signers":[],"rules":[{"signedBy":["c"]}]}}"#);
        let (here, above, elsewhere) = (PolicyPlace::Own, PolicyPlace::Above, PolicyPlace::Elsewhere);
        let rules = SyncRules::of_source(Some("shops"), [(here, &own), (above, &naming), (here, &other)]);
        let sets: Vec<&str> = rules.trust().iter().map(|trust| trust.rules[0].signed_by[0].as_str()).collect();
        assert_eq!((&sets[..], rules.trust_elsewhere()), (&["a", "b"][..], 0));
        assert!(SyncRules::of_source(Some("till"), [(above, &own), (elsewhere, &naming)]).trust().is_empty());
        // Nobody there may be able to sign as somebody elsewhere asks.
        let frozen = SyncRules::of_source(Some("shops"), [(here, &own), (elsewhere, &naming), (elsewhere, &other)]);
        assert_eq!((frozen.trust(), frozen.trust_elsewhere()), (&rules.trust()[..1], 1));
    }
}
