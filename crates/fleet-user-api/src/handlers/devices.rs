//! Devices: inventory, status, rendered documents.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fleet_http::{ApiError, json};
use fleet_model::{API_VERSION, Digest, annotations, mask_secret_files, may_hold_secret_files};
use fleet_store::read_devices::{self, DISCONNECTED_AFTER_MINUTES, DeviceRecord, DevicesSummary};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::whole_seconds;
use crate::api::{Api, Caller, Inner, checked_name, failed, no_such};
use crate::listing::{Params, envelope, next_after};
use crate::permissions::Action;

pub(crate) async fn list(State(inner): Api, caller: Caller, params: Params) -> Result<Response, ApiError> {
    caller.require(Action::ReadInventory)?;
    let mut query = params.list(read_devices::FIELDS, true)?;
    if params.flag("summaryOnly")? {
        let summary = read_devices::summary(inner.pool(), Inner::ORG, &query).await.map_err(failed)?;
        let body = serde_json::json!({
            "apiVersion": API_VERSION, "kind": "DeviceList", "metadata": {}, "items": [], "summary": summary_json(&summary),
        });
        return Ok(json(StatusCode::OK, &body));
    }
    let page = read_devices::list(inner.pool(), Inner::ORG, &query).await.map_err(failed)?;
    let next = next_after(&page, |device| &device.name);
    let mut remaining = None;
    if next.is_some() {
        query.after.clone_from(&next);
        remaining = Some(read_devices::count(inner.pool(), Inner::ORG, &query).await.map_err(failed)?);
    }
    let items: Vec<Value> = page.items.into_iter().map(device_json).collect();
    Ok(json(StatusCode::OK, &envelope("Device", items, next.as_deref(), remaining)))
}

pub(crate) async fn get(State(inner): Api, caller: Caller, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    caller.require(Action::ReadInventory)?;
    let device = read_devices::get(inner.pool(), Inner::ORG, checked_name("Device", &name)?).await.map_err(failed)?;
    device.map(device_json).map(Json).ok_or_else(|| no_such("Device", &name))
}

pub(crate) async fn rendered(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    caller.require(Action::ReadRendered)?;
    let name = checked_name("Device", &name)?;
    let found = read_devices::rendered(inner.pool(), Inner::ORG, name).await.map_err(failed)?;
    let found = found.ok_or_else(|| no_such("Device", name))?;
    let Some(body) = found.body else {
        return Err(ApiError::conflict(format!("Device {name:?} has no rendered document yet")));
    };
    if params.get("knownRenderedVersion") == Some(found.version.to_string().as_str()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let digest = found.digest.as_deref().and_then(|raw| Digest::try_from(raw).ok());
    let document = Rendered {
        api_version: API_VERSION,
        kind: "Device",
        metadata: serde_json::json!({
            "name": name,
            "annotations": {
                annotations::RENDERED_VERSION: found.version.to_string(),
                annotations::RENDERED_SPEC_HASH: digest.map(|digest| digest.hex()).unwrap_or_default(),
            },
        }),
        spec: shown(&body).map_err(ApiError::internal)?,
    };
    Ok(json(StatusCode::OK, &document))
}

/// A document as people may see it, whoever they are: secret contents are for the device alone.
fn shown(body: &[u8]) -> serde_json::Result<Box<RawValue>> {
    if !may_hold_secret_files(body) {
        return serde_json::from_slice(body);
    }
    let mut document: Value = serde_json::from_slice(body)?;
    mask_secret_files(&mut document);
    serde_json::value::to_raw_value(&document)
}

/// A device with its rendered document, passed on as it is where nothing in it is secret.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Rendered {
    api_version: &'static str,
    kind: &'static str,
    metadata: Value,
    spec: Box<RawValue>,
}

pub(crate) async fn last_seen(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    caller.require(Action::ReadInventory)?;
    let name = checked_name("Device", &name)?;
    match read_devices::last_seen(inner.pool(), Inner::ORG, name).await.map_err(failed)? {
        None => Err(no_such("Device", name)),
        Some(None) => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(Some(at)) => Ok(json(StatusCode::OK, &serde_json::json!({"lastSeen": whole_seconds(at)}))),
    }
}

pub(crate) async fn labels(State(inner): Api, caller: Caller, params: Params) -> Result<Json<Vec<String>>, ApiError> {
    caller.require(Action::ReadInventory)?;
    if params.get("kind") != Some("Device") {
        return Err(ApiError::bad_request("kind must be Device: other kinds' labels are not collected"));
    }
    let query = params.list(read_devices::FIELDS, true)?;
    let mut labels = read_devices::labels(inner.pool(), Inner::ORG, &query).await.map_err(failed)?;
    labels.truncate(usize::from(query.limit));
    Ok(Json(labels))
}

/// `{total, applicationStatus, summaryStatus, updateStatus}`.
pub(super) fn summary_json(summary: &DevicesSummary) -> Value {
    serde_json::json!({
        "total": summary.total,
        "applicationStatus": summary.applications,
        "summaryStatus": summary.summary,
        "updateStatus": summary.updated,
    })
}

fn device_json(device: DeviceRecord) -> Value {
    let mut metadata = serde_json::json!({
        "name": device.name,
        "labels": device.labels,
        "annotations": device_annotations(&device),
        "generation": device.generation,
        "resourceVersion": device.change_seq.to_string(),
        "creationTimestamp": whole_seconds(device.created_at),
    });
    if let Some(fleet) = &device.owner_fleet {
        metadata["owner"] = format!("Fleet/{fleet}").into();
    }
    let status = status_json(&device);
    let mut object = serde_json::json!({"apiVersion": API_VERSION, "kind": "Device", "metadata": metadata});
    if let Some(spec) = device.spec.map(|spec| spec.0).filter(|spec| !spec.is_null()) {
        object["spec"] = spec;
    }
    object["status"] = status;
    object
}

fn device_annotations(device: &DeviceRecord) -> BTreeMap<&'static str, String> {
    let digest = device.rendered_digest.as_deref().and_then(|raw| Digest::try_from(raw).ok());
    let all = [
        (annotations::RENDERED_VERSION, Some(device.rendered_version.to_string())),
        (annotations::RENDERED_SPEC_HASH, digest.map(|digest| digest.hex())),
        (annotations::TEMPLATE_VERSION, device.target_revision.clone()),
        (annotations::RENDERED_TEMPLATE_VERSION, device.fleet_revision.clone()),
        (annotations::LAST_ROLLOUT_ERROR, device.render_error.clone()),
        (annotations::SOURCE, device.source.clone()),
        (annotations::COMMIT, device.commit_id.clone()),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// The status as the device sent it, with what the service knows better laid over it.
fn status_json(device: &DeviceRecord) -> Value {
    let mut status = match &device.status {
        Some(document) => document.0.as_object().cloned().unwrap_or_default(),
        None => Map::new(),
    };
    for (key, default) in [
        ("conditions", serde_json::json!([])),
        (
            "systemInfo",
            serde_json::json!({"architecture": "", "bootID": "", "operatingSystem": "", "agentVersion": ""}),
        ),
        ("applications", serde_json::json!([])),
        ("resources", serde_json::json!({"cpu": "Unknown", "memory": "Unknown", "disk": "Unknown"})),
        ("integrity", serde_json::json!({"status": "Unknown"})),
        ("config", serde_json::json!({"renderedVersion": ""})),
        ("os", serde_json::json!({"image": "", "imageDigest": ""})),
    ] {
        status.entry(key).or_insert(default);
    }
    let gone = format!("the device was not heard of for {DISCONNECTED_AFTER_MINUTES} minutes");
    let gone = device.disconnected.then_some(gone.as_str());
    set_word(&mut status, "summary", &device.summary_status, gone);
    set_word(&mut status, "applicationsSummary", &device.applications_status, gone);
    set_word(&mut status, "lifecycle", &device.lifecycle_status, None);
    let behind = format!("the device is at version {} of {}", device.reported_version, device.rendered_version);
    let why = gone.or(device.render_error.as_deref()).unwrap_or(&behind);
    set_word(&mut status, "updated", &device.updated_status, Some(why));
    if let Some(at) = device.last_seen {
        status.insert("lastSeen".to_owned(), whole_seconds(at).into());
    }
    if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
        let ours = service_conditions(device);
        conditions.retain(|old| !ours.iter().any(|new| new["type"] == old["type"]));
        conditions.extend(ours);
    }
    Value::Object(status)
}

/// Sets a one-word status. The device's own sentence stays while the word stays; else `info` explains the new word.
fn set_word(status: &mut Map<String, Value>, key: &str, word: &str, info: Option<&str>) {
    let entry = status.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if entry.get("status").and_then(Value::as_str) == Some(word) {
        return;
    }
    let reported = entry.get("status").is_some();
    *entry = serde_json::json!({"status": word});
    if let Some(info) = info.filter(|_| reported) {
        entry["info"] = info.into();
    }
}

fn service_conditions(device: &DeviceRecord) -> Vec<Value> {
    let at = whole_seconds(device.created_at);
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        serde_json::json!({
            "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at,
        })
    };
    let mut conditions = Vec::new();
    if let Some(error) = &device.render_error {
        conditions.push(condition("SpecValid", "False", "Invalid", error));
    } else if device.rendered_version > 0 {
        conditions.push(condition("SpecValid", "True", "Valid", ""));
    }
    if !device.conflicting_fleets.is_empty() {
        let fleets = device.conflicting_fleets.join(", ");
        conditions.push(condition(
            "MultipleOwners",
            "True",
            "MultipleOwners",
            &format!("selected by the fleets {fleets}"),
        ));
    }
    conditions
}
