//! What the service makes of a status: the words that people filter by.

use fleet_model::{Condition, ConditionStatus, DeviceStatus};
use fleet_store::ReportedUpdate;

/// Words and sentences derived from a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Derived {
    pub(crate) summary: &'static str,
    pub(crate) applications: &'static str,
    pub(crate) update: ReportedUpdate,
    pub(crate) update_reason: String,
    pub(crate) update_message: String,
}

/// Derives the words. `wanted_image` is the operating-system image of the version that the device reports, when it is
/// the one it should have.
pub(crate) fn derive(status: &DeviceStatus, wanted_image: Option<&str>) -> Derived {
    let updating = status.conditions.iter().find(|condition| condition.kind == "Updating");
    let under_way = updating.is_some_and(|condition| condition.status == ConditionStatus::True);
    let rebooting = under_way && updating.is_some_and(|condition| condition.reason == "Rebooting");
    let image = status.os.get("image").and_then(serde_json::Value::as_str).filter(|image| !image.is_empty());
    let deviates = matches!((image, wanted_image), (Some(image), Some(wanted)) if image != wanted);
    Derived {
        summary: summary(status, rebooting),
        applications: applications(status, rebooting),
        update: match (under_way, deviates) {
            (true, _) => ReportedUpdate::Updating,
            (false, true) => ReportedUpdate::Deviates,
            (false, false) => ReportedUpdate::Idle,
        },
        update_reason: cut(updating.map(reason), 200),
        update_message: cut(updating.map(message), 1000),
    }
}

fn reason(condition: &Condition) -> &str {
    &condition.reason
}

fn message(condition: &Condition) -> &str {
    &condition.message
}

fn cut(text: Option<&str>, characters: usize) -> String {
    text.unwrap_or_default().chars().take(characters).collect()
}

fn summary(status: &DeviceStatus, rebooting: bool) -> &'static str {
    if rebooting {
        return "Rebooting";
    }
    let any = |words: [&str; 2]| {
        ["cpu", "memory", "disk"].iter().any(|resource| {
            status.resources.get(resource).and_then(serde_json::Value::as_str).is_some_and(|word| words.contains(&word))
        })
    };
    if any(["Critical", "Error"]) {
        "Error"
    } else if any(["Warning", "Degraded"]) {
        "Degraded"
    } else {
        "Online"
    }
}

fn applications(status: &DeviceStatus, rebooting: bool) -> &'static str {
    if rebooting && !status.applications.is_empty() {
        return "Degraded";
    }
    match status.applications_summary.status.as_str() {
        "Healthy" => "Healthy",
        "Degraded" => "Degraded",
        "Error" => "Error",
        "NoApplications" => "NoApplications",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(change: serde_json::Value) -> DeviceStatus {
        let mut status = serde_json::json!({
            "conditions": [], "systemInfo": {"architecture": "a", "bootID": "b", "operatingSystem": "l", "agentVersion": "1"},
            "applications": [], "applicationsSummary": {"status": "Healthy"},
            "resources": {"cpu": "Healthy", "memory": "Healthy", "disk": "Healthy"}, "integrity": {"status": "Unknown"},
            "config": {"renderedVersion": "1"}, "os": {"image": "quay.io/a:1", "imageDigest": ""},
            "updated": {"status": "Unknown"}, "summary": {"status": "Unknown"}, "lifecycle": {"status": "Enrolled"}});
        for (key, value) in change.as_object().unwrap() {
            status[key] = value.clone();
        }
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn the_worst_resource_is_the_summary_and_a_reboot_goes_before() {
        let updating = |reason: &str| serde_json::json!([{"type": "Updating", "status": "True", "reason": reason, "message": "m"}]);
        for (change, summary, applications, update) in [
            (serde_json::json!({}), "Online", "Healthy", ReportedUpdate::Idle),
            (serde_json::json!({"resources": {"disk": "Warning"}}), "Degraded", "Healthy", ReportedUpdate::Idle),
            (
                serde_json::json!({"resources": {"disk": "Warning", "cpu": "Critical"}}),
                "Error",
                "Healthy",
                ReportedUpdate::Idle,
            ),
            (
                serde_json::json!({"resources": 7, "applicationsSummary": {"status": "Odd"}}),
                "Online",
                "Unknown",
                ReportedUpdate::Idle,
            ),
            (
                serde_json::json!({"conditions": updating("ApplyingUpdate")}),
                "Online",
                "Healthy",
                ReportedUpdate::Updating,
            ),
            (
                serde_json::json!({"conditions": updating("Rebooting"), "applications": [{}], "resources": {"cpu": "Error"}}),
                "Rebooting",
                "Degraded",
                ReportedUpdate::Updating,
            ),
        ] {
            let derived = derive(&status(change.clone()), Some("quay.io/a:1"));
            assert_eq!(
                (derived.summary, derived.applications, derived.update),
                (summary, applications, update),
                "{change}"
            );
        }
    }

    #[test]
    fn another_image_than_the_version_says_deviates() {
        let plain = status(serde_json::json!({}));
        assert_eq!(derive(&plain, Some("quay.io/a:2")).update, ReportedUpdate::Deviates);
        assert_eq!(derive(&plain, None).update, ReportedUpdate::Idle);
        let package = status(serde_json::json!({"os": {"image": "", "imageDigest": ""}}));
        assert_eq!(derive(&package, Some("quay.io/a:2")).update, ReportedUpdate::Idle);
    }
}
