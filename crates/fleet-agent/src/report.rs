//! The status as the service gets it.

use std::collections::BTreeMap;

use fleet_model::{
    Condition, ConfigStatus, Device, DeviceName, DeviceStatus, ObjectMeta, StatusWord, SystemInfo, set_condition,
};
use serde_json::json;

use crate::progress::Progress;

/// Builds statuses; remembers since when conditions hold.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    conditions: Vec<Condition>,
}

impl Reporter {
    /// The status at `now` (RFC 3339).
    pub(crate) fn status(&mut self, progress: &Progress, system_info: SystemInfo, now: &str) -> DeviceStatus {
        let condition = Condition::new("Updating", progress.updating, progress.reason, progress.message.as_str(), now);
        set_condition(&mut self.conditions, condition);
        DeviceStatus {
            conditions: self.conditions.clone(),
            system_info,
            systemd: None,
            applications: vec![],
            applications_summary: StatusWord::new("NoApplications"),
            // Nothing is measured, so nothing is claimed.
            resources: json!({"cpu": "Unknown", "memory": "Unknown", "disk": "Unknown"}),
            integrity: json!({"status": "Unsupported"}),
            config: ConfigStatus { rendered_version: progress.current.to_string() },
            os: json!({"image": "", "imageDigest": ""}),
            updated: StatusWord { status: progress.updated_word().to_owned(), info: None },
            summary: StatusWord::new("Online"),
            lifecycle: StatusWord::new("Enrolled"),
            capabilities: Some(json!({"osMode": "package"})),
            other: BTreeMap::new(),
        }
    }
}

/// The body of a report.
pub(crate) fn body(name: &DeviceName, status: DeviceStatus) -> Device {
    Device {
        api_version: "v1beta1".to_owned(),
        kind: "Device".to_owned(),
        metadata: ObjectMeta { name: Some(name.to_string()), ..ObjectMeta::default() },
        spec: None,
        status: Some(status),
    }
}
