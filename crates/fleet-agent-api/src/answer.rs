//! A device as agents read it: metadata from the index, the specification's bytes as they were rendered.

use axum::http::StatusCode;
use axum::response::Response;
use fleet_http::{ApiError, json};
use fleet_model::{API_VERSION, DeviceName, ObjectMeta, annotations};
use fleet_store::IndexedDevice;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceAnswer<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a RawValue>,
}

/// A 200 with the device, and its specification or its status.
pub(crate) fn device_answer(device: &IndexedDevice, spec: Option<&RawValue>, status: Option<&RawValue>) -> Response {
    let answer = DeviceAnswer { api_version: API_VERSION, kind: "Device", metadata: metadata(device), spec, status };
    json(StatusCode::OK, &answer)
}

fn metadata(device: &IndexedDevice) -> ObjectMeta {
    let mut notes = std::collections::BTreeMap::new();
    let mut note = |key: &str, value: String| notes.insert(key.to_owned(), value);
    note(annotations::RENDERED_VERSION, device.rendered_version.to_string());
    if let Some(digest) = device.rendered_digest {
        note(annotations::RENDERED_SPEC_HASH, digest.hex());
    }
    if let Some(revision) = &device.fleet_revision {
        note(annotations::TEMPLATE_VERSION, revision.clone());
        note(annotations::RENDERED_TEMPLATE_VERSION, revision.clone());
    }
    for (key, value) in [
        (annotations::LAST_ROLLOUT_ERROR, &device.render_error),
        (annotations::SOURCE, &device.source),
        (annotations::COMMIT, &device.commit),
    ] {
        if let Some(value) = value {
            note(key, value.clone());
        }
    }
    ObjectMeta {
        name: Some(device.name.as_str().to_owned()),
        labels: device.labels.clone(),
        annotations: notes,
        owner: device.owner_fleet.as_ref().map(|fleet| format!("Fleet/{fleet}")),
        generation: Some(device.generation),
        resource_version: Some(device.change_seq.to_string()),
        ..ObjectMeta::default()
    }
}

/// The answer to a device that was deleted on purpose. Agents that read these very words wipe their certificate and
/// enrol anew: nothing else may ever be answered with them, least of all a device that the database does not know.
pub fn device_deleted(name: &DeviceName) -> ApiError {
    ApiError::not_found(format!("Device of name \"{name}\" not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletion_is_told_in_the_words_that_agents_look_for() {
        let name = "a".repeat(52).parse().unwrap();
        let error = device_deleted(&name);
        assert_eq!(error.code().as_u16(), 404);
        assert!(error.message().contains("Device of name") && error.message().contains("not found"));
    }
}
