//! What a device watches and reports: resource monitors and systemd units.

use serde::{Deserialize, Serialize};

/// Watches one resource of the device, by its type. Each type at most once per device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "monitorType")]
pub enum ResourceMonitor {
    /// The use of the processors.
    #[serde(rename = "CPU")]
    Cpu(LoadMonitor),
    /// The use of the memory.
    Memory(LoadMonitor),
    /// The use of the file system that a path lies on.
    Disk(DiskMonitor),
}

/// Watches processors or memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadMonitor {
    /// How often the use is measured: a number of seconds, minutes or hours, such as `30s`.
    pub sampling_interval: String,
    /// When to raise an alert; one rule per severity.
    pub alert_rules: Vec<AlertRule>,
}

/// Watches a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskMonitor {
    /// An absolute path on the file system that is watched.
    pub path: String,
    /// How often the use is measured: a number of seconds, minutes or hours, such as `30s`.
    pub sampling_interval: String,
    /// When to raise an alert; one rule per severity.
    pub alert_rules: Vec<AlertRule>,
}

/// Raises an alert when the use stays above a percentage for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AlertRule {
    /// How bad it is.
    pub severity: AlertSeverity,
    /// How long the use must stay above the percentage: a number of seconds, minutes or hours, such as `10m`.
    pub duration: String,
    /// The use in percent, 0 to 100.
    pub percentage: serde_json::Number,
    /// A sentence for people.
    pub description: String,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AlertSeverity {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody must act.
    Critical,
}

/// The systemd units that the device reports on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemdSpec {
    /// Names or patterns of units, such as `sshd.service` or `podman-*.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_patterns: Option<Vec<String>>,
}

impl ResourceMonitor {
    /// `CPU`, `Memory` or `Disk`.
    pub fn monitor_type(&self) -> &'static str {
        match self {
            Self::Cpu(_) => "CPU",
            Self::Memory(_) => "Memory",
            Self::Disk(_) => "Disk",
        }
    }

    /// How often the use is measured, as written.
    pub fn sampling_interval(&self) -> &str {
        match self {
            Self::Cpu(monitor) | Self::Memory(monitor) => &monitor.sampling_interval,
            Self::Disk(monitor) => &monitor.sampling_interval,
        }
    }

    /// When to raise an alert.
    pub fn alert_rules(&self) -> &[AlertRule] {
        match self {
            Self::Cpu(monitor) | Self::Memory(monitor) => &monitor.alert_rules,
            Self::Disk(monitor) => &monitor.alert_rules,
        }
    }
}
