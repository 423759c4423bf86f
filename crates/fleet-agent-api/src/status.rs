//! What a device says it is: read, checked, and answered when it is durable.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use fleet_http::{ApiError, PeerConnection, read_json};
use fleet_model::{ConfigStatus, DeviceStatus, RenderedVersion, StatusWord};
use fleet_store::{IndexedDevice, StatusReport, status_document};
use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::answer::device_answer;
use crate::caller::DeviceCaller;
use crate::derive::derive;
use crate::failure::{check_kind, has_nul, path_name, store_failure};
use crate::index::Slot;
use crate::poll::MAX_VERSION;
use crate::{AgentApi, Shared};

/// The largest status.
const MAX_BODY: usize = 1024 * 1024;

/// A device as an agent sends it: of its parts only the name and the status matter.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentDevice {
    #[serde(default)]
    api_version: String,
    kind: String,
    metadata: SentMetadata,
    status: DeviceStatus,
}

#[derive(Deserialize)]
struct SentMetadata {
    #[serde(default)]
    name: String,
}

/// `PUT /devices/{name}/status`: 200 with the device once the status is durable.
pub(crate) async fn replace(
    State(api): State<AgentApi>,
    path: Result<Path<String>, PathRejection>,
    peer: PeerConnection,
    request: Request,
) -> Result<Response, ApiError> {
    let name = path_name(path)?;
    let (caller, slot) = admit(&api.0, &peer, &name).await?;
    let sent: SentDevice = read_json(request, MAX_BODY).await?;
    accept(&api.0, &caller, &slot, sent).await
}

/// `PATCH /devices/{name}/status`: a JSON patch (RFC 6902: add, replace, remove, test) of the device as it was
/// reported last. 409 when a test fails or there is no report yet.
pub(crate) async fn patch(
    State(api): State<AgentApi>,
    path: Result<Path<String>, PathRejection>,
    peer: PeerConnection,
    request: Request,
) -> Result<Response, ApiError> {
    let name = path_name(path)?;
    let api = &*api.0;
    let (caller, slot) = admit(api, &peer, &name).await?;
    let patch: Patch = read_json(request, MAX_BODY).await?;
    let known = status_document(api.store.pool(), caller.key.0, &name).await.map_err(store_failure)?;
    let status =
        known.ok_or_else(|| ApiError::conflict("the device has not reported a status yet: send it whole with PUT"))?;
    let mut document = json!({"kind": "Device", "metadata": {"name": name}, "status": status});
    apply(&mut document, &patch)?;
    let sent: SentDevice = serde_json::from_value(document)
        .map_err(|error| ApiError::bad_request(format!("the patched device is not valid: {error}")))?;
    accept(api, &caller, &slot, sent).await
}

/// The most operations of a patch.
const MAX_OPERATIONS: usize = 200;

fn apply(document: &mut Value, patch: &Patch) -> Result<(), ApiError> {
    if patch.0.len() > MAX_OPERATIONS {
        return Err(ApiError::bad_request(format!("the patch has more than {MAX_OPERATIONS} operations")));
    }
    for operation in &patch.0 {
        match operation {
            PatchOperation::Move(_) | PatchOperation::Copy(_) => {
                return Err(ApiError::bad_request("a patch may add, replace, remove and test; not move or copy"));
            }
            PatchOperation::Add(_)
            | PatchOperation::Remove(_)
            | PatchOperation::Replace(_)
            | PatchOperation::Test(_) => {}
        }
    }
    json_patch::patch(document, patch).map_err(|error| {
        if matches!(error.kind, PatchErrorKind::TestFailed) {
            ApiError::conflict(error.to_string())
        } else {
            ApiError::bad_request(error.to_string())
        }
    })
}

/// Lets in a device that speaks of itself.
async fn admit(api: &Shared, peer: &PeerConnection, name: &str) -> Result<(Arc<DeviceCaller>, Arc<Slot>), ApiError> {
    let caller = api.device_caller(peer, Some(name))?;
    let slot = api.slot(&caller.key).await?;
    api.check_device(peer, &caller, &slot.device())?;
    Ok((caller, slot))
}

/// Checks, derives, writes; answers once it is durable.
async fn accept(api: &Shared, caller: &DeviceCaller, slot: &Arc<Slot>, sent: SentDevice) -> Result<Response, ApiError> {
    check_kind(&sent.api_version, &sent.kind, "Device")?;
    if sent.metadata.name != caller.key.1.as_str() {
        return Err(ApiError::bad_request("metadata.name is not the name in the path"));
    }
    let device = slot.device();
    let mut status = sent.status;
    let reported = reported_version(&status.config, device.rendered_version)?;
    let derived = derive(&status, api.wanted_image(&device, reported).await.as_deref());
    status.summary.status = derived.summary.to_owned();
    status.applications_summary.status = derived.applications.to_owned();
    let report = StatusReport {
        org: caller.key.0,
        name: caller.key.1.clone(),
        document: text_of(&status)?,
        received_at: api.clock.now().into(),
        reported_version: reported,
        summary: derived.summary.to_owned(),
        applications: derived.applications.to_owned(),
        update: derived.update,
        update_reason: derived.update_reason,
        update_message: derived.update_message,
    };
    let written = api.write_status(report).await?;
    api.heard_of(slot, None);
    status.updated = StatusWord::new(written.updated);
    let status = RawValue::from_string(text_of(&status)?).map_err(ApiError::internal)?;
    Ok(device_answer(&slot.device(), None, Some(&status)))
}

fn text_of(status: &DeviceStatus) -> Result<String, ApiError> {
    let text = serde_json::to_string(status).map_err(ApiError::internal)?;
    if has_nul(&text) {
        return Err(ApiError::bad_request("the status holds a NUL character (\\u0000)"));
    }
    Ok(text)
}

fn reported_version(config: &ConfigStatus, given: i64) -> Result<i64, ApiError> {
    let highest = MAX_VERSION.max(given);
    let text = config.rendered_version.as_str();
    if text.is_empty() {
        return Ok(0);
    }
    match text.parse::<RenderedVersion>() {
        Ok(version) if version.get() <= highest => Ok(version.get()),
        Ok(_) => Err(ApiError::bad_request(format!("status.config.renderedVersion is above {highest}"))),
        Err(error) => Err(ApiError::bad_request(format!("status.config.renderedVersion: {error}"))),
    }
}

impl Shared {
    /// The operating-system image of the document that the device should have, when it reports to have it. A document
    /// that cannot be had now is passed over: the next status looks again.
    async fn wanted_image(&self, device: &IndexedDevice, reported: i64) -> Option<String> {
        let digest = device.rendered_digest.filter(|_| reported > 0 && device.rendered_version == reported)?;
        let spec = self.specs.get(&self.store, digest, &self.metrics.poll_sql_statements).await.ok()?;
        spec.os_image.clone()
    }
}
