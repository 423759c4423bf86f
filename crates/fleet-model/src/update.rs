//! When a device may download and update, and the wishes that only the service writes into a specification.

use serde::{Deserialize, Serialize};

/// When downloads and updates may start. Without a schedule they start at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdatePolicy {
    /// When downloads may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_schedule: Option<UpdateSchedule>,
    /// When updates may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_schedule: Option<UpdateSchedule>,
}

/// Points in time, and how long after each something may still start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateSchedule {
    /// Five cron fields: minute, hour, day of the month, month, day of the week.
    pub at: String,
    /// The time zone of `at`: an IANA name such as `Europe/Berlin`, `UTC`, or `Local`, the default: that of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How long after each point something may start: a number of seconds, minutes or hours, such as `2h`. What has
    /// started may take longer.
    pub start_grace_duration: String,
}

/// A console that waits for the device. Only the service writes it, into rendered documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceConsole {
    /// The session.
    #[serde(rename = "sessionID")]
    pub session_id: String,
    /// What the device has to know of the session, in JSON.
    pub session_metadata: String,
}

/// That the device is to leave. Only the service writes it, into rendered documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceDecommission {
    /// What is to become of the device.
    pub target: DecommissionTarget,
}

/// What is to become of a device that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecommissionTarget {
    /// It forgets the service.
    Unenroll,
    /// It goes back to how it left the factory.
    FactoryReset,
}
