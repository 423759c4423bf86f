//! How a new template reaches the devices of a fleet.

use serde::{Deserialize, Serialize};

use crate::LabelSelector;

/// How a new template reaches the devices; at least one of `deviceSelection` and `disruptionBudget` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutPolicy {
    /// Which devices are updated before which others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_selection: Option<DeviceSelection>,
    /// How many devices may be updated at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<DisruptionBudget>,
    /// How many devices of a batch must succeed before the next one starts, such as `90%`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<String>,
    /// After which time a device that has not reported success counts as failed, such as `24h`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_update_timeout: Option<String>,
}

/// Which devices are updated before which others, by its strategy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "strategy")]
pub enum DeviceSelection {
    /// Batch after batch; devices in none of them come last.
    BatchSequence(BatchSequence),
}

/// Batches in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchSequence {
    /// The batches, at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Vec<Batch>>,
}

/// Devices that are updated together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    /// The devices of the fleet to choose from; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// How many of them at most; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<BatchLimit>,
    /// How many devices of this batch must succeed, such as `95%`; that of the policy when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<String>,
}

/// How many devices a batch has at most: a number, or a percentage of the devices that its selector chooses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum BatchLimit {
    /// A number of devices, at least 1.
    Count(u32),
    /// A percentage, such as `10%`.
    Percent(String),
}

/// How many devices may be updated at the same time; at least one of `minAvailable` and `maxUnavailable` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisruptionBudget {
    /// Label keys: the numbers hold for each group of devices with the same values; for the whole fleet when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    /// How many devices must stay available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_available: Option<u32>,
    /// How many devices may be unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
}
