//! Who is enrolled without a human.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Labels, ObjectMeta, SystemInfo};

/// Approves enrolment requests that match a rule, and gives the devices labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentPolicy {
    /// `shorebase/v1alpha1`.
    pub api_version: String,
    /// `EnrollmentPolicy`.
    pub kind: String,
    /// Name.
    pub metadata: ObjectMeta,
    /// The rules.
    pub spec: EnrollmentPolicySpec,
}

/// The rules of an enrolment policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrollmentPolicySpec {
    /// Tried in order; the first that matches approves the request.
    pub rules: Vec<EnrollmentRule>,
}

/// One rule: who, and with which labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrollmentRule {
    /// What must be true of the request; every part that is given must hold, and at least one must be given.
    #[serde(rename = "match")]
    pub matches: RuleMatch,
    /// Labels the device gets; they win over the labels the device asks for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

/// What must be true of an enrolment request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleMatch {
    /// The device's name (key fingerprint) is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The machine's serial number (`systemInfo.productSerial`) is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serial_numbers: Vec<String>,
    /// Facts of the machine by key, such as `hostname`; a trailing `*` in a value matches any ending.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub system_info: BTreeMap<String, String>,
}

impl RuleMatch {
    /// Whether nothing is asked for; such a rule matches no request.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.serial_numbers.is_empty() && self.system_info.is_empty()
    }

    /// Whether a device of this name and with these facts is meant.
    pub fn matches(&self, name: &str, info: &SystemInfo) -> bool {
        let serial_fits =
            || info.get("productSerial").is_some_and(|serial| self.serial_numbers.iter().any(|s| s == serial));
        let fact_fits = |(key, pattern): (&String, &String)| {
            info.get(key).is_some_and(|fact| match pattern.strip_suffix('*') {
                Some(start) => fact.starts_with(start),
                None => fact == pattern,
            })
        };
        !self.is_empty()
            && (self.names.is_empty() || self.names.iter().any(|n| n == name))
            && (self.serial_numbers.is_empty() || serial_fits())
            && self.system_info.iter().all(fact_fits)
    }
}

impl EnrollmentPolicySpec {
    /// The first rule that matches.
    pub fn first_match(&self, name: &str, info: &SystemInfo) -> Option<&EnrollmentRule> {
        self.rules.iter().find(|rule| rule.matches.matches(name, info))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(hostname: &str, serial: &str) -> SystemInfo {
        let more = [("hostname", hostname), ("productSerial", serial)];
        SystemInfo { more: more.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect(), ..SystemInfo::default() }
    }

    #[test]
    fn every_given_part_must_hold() {
        let rule = RuleMatch {
            serial_numbers: vec!["S1".to_owned()],
            system_info: [("hostname".to_owned(), "kiosk-*".to_owned())].into(),
            ..RuleMatch::default()
        };
        assert!(rule.matches("x", &info("kiosk-1", "S1")));
        assert!(!rule.matches("x", &info("kiosk-1", "S2")));
        assert!(!rule.matches("x", &info("gate-1", "S1")));
    }

    #[test]
    fn an_empty_rule_matches_nobody() {
        assert!(!RuleMatch::default().matches("x", &info("a", "b")));
    }
}
