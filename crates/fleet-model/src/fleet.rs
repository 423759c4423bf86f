//! Fleets: devices chosen by labels that follow one template.

use serde::{Deserialize, Serialize};

use crate::{Condition, DeviceSpec, LabelSelector, ObjectMeta, RolloutPolicy};

/// A fleet of devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    /// `flightctl.io/v1beta1`.
    pub api_version: String,
    /// `Fleet`.
    pub kind: String,
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// What the fleet is.
    pub spec: FleetSpec,
    /// Derived by the service. Never part of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub status: Option<FleetStatus>,
}

/// What a fleet is: who belongs to it and what its devices should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetSpec {
    /// The devices that belong to the fleet. Without it the fleet has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// What each device of the fleet should be.
    pub template: FleetTemplate,
    /// How a new template reaches the devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_policy: Option<RolloutPolicy>,
}

/// The template of a fleet's devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetTemplate {
    /// Accepted for compatibility; has no effect on devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// The specification, with placeholders.
    pub spec: DeviceSpec,
}

/// What the service knows of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// `Valid` and others.
    pub conditions: Vec<Condition>,
    /// Counts of the fleet's devices: `{total, applicationStatus, summaryStatus, updateStatus}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices_summary: Option<serde_json::Value>,
}
