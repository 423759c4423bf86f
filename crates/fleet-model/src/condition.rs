//! Conditions: what is true of a resource now, since when and why.

use serde::{Deserialize, Serialize};

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows yet.
    Unknown,
}

/// One condition of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, such as `Approved` or `Updating`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One CamelCase word for programs.
    #[serde(default)]
    pub reason: String,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed (RFC 3339).
    #[serde(default)]
    pub last_transition_time: String,
    /// The generation of the resource that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// A condition that changed at `now` (RFC 3339).
    pub fn new(kind: &str, status: ConditionStatus, reason: &str, message: impl Into<String>, now: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.into(),
            last_transition_time: now.to_owned(),
            observed_generation: None,
        }
    }
}

/// Puts `condition` in place of the one of the same type; the transition time stays when the status stays.
/// Returns whether anything but that time changed.
pub fn set_condition(conditions: &mut Vec<Condition>, mut condition: Condition) -> bool {
    let Some(old) = conditions.iter_mut().find(|c| c.kind == condition.kind) else {
        conditions.push(condition);
        return true;
    };
    if old.status == condition.status {
        condition.last_transition_time.clone_from(&old.last_transition_time);
    }
    let changed = *old != condition;
    *old = condition;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut all = Vec::new();
        assert!(set_condition(&mut all, Condition::new("Ready", ConditionStatus::False, "A", "a", "t1")));
        assert!(set_condition(&mut all, Condition::new("Ready", ConditionStatus::False, "B", "b", "t2")));
        assert_eq!(all[0].last_transition_time, "t1");
        assert!(!set_condition(&mut all, Condition::new("Ready", ConditionStatus::False, "B", "b", "t3")));
        assert!(set_condition(&mut all, Condition::new("Ready", ConditionStatus::True, "C", "c", "t4")));
        assert_eq!((all.len(), all[0].last_transition_time.as_str()), (1, "t4"));
    }
}
