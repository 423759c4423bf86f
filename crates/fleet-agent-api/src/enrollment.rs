//! Devices ask to be managed. Who is approved, and the certificate, is decided elsewhere; here requests are checked
//! and stored.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use fleet_http::{ApiError, PeerConnection, json, read_json};
use fleet_model::{DeviceName, Labels, RenderedVersion, validate_label_key, validate_label_value};
use fleet_pki::DeviceCsr;
use fleet_store::{EnrollmentSubmission, Submitted, is_certificate_revoked, read_enrollments, submit_enrollment};
use serde::Deserialize;
use serde_json::Value;
use tracing::info;

use crate::caller::EnrollmentCaller;
use crate::failure::{check_kind, has_nul, path_name, store_failure};
use crate::{AgentApi, Shared};

/// The largest request.
const MAX_BODY: usize = 512 * 1024;
/// The most labels a device may ask for.
const MAX_LABELS: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    #[serde(default)]
    api_version: String,
    kind: String,
    metadata: SentMetadata,
    spec: SentSpec,
}

#[derive(Deserialize)]
struct SentMetadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentSpec {
    csr: String,
    #[serde(default)]
    device_status: Option<Value>,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    known_rendered_version: Option<String>,
    #[serde(default)]
    os_mode: Option<String>,
}

/// `POST /enrollmentrequests`: 201 when the request is new, or a new certificate follows from an earlier approval;
/// 409 when it is there already.
pub(crate) async fn submit(
    State(api): State<AgentApi>,
    peer: PeerConnection,
    request: Request,
) -> Result<Response, ApiError> {
    let api = &*api.0;
    let caller = api.allowed(&peer).await?;
    let sent: Sent = read_json(request, MAX_BODY).await?;
    let name = check(&sent)?;
    let labels = sent.spec.labels.unwrap_or_default();
    let submission = EnrollmentSubmission {
        name: &name,
        csr: &sent.spec.csr,
        labels: &labels,
        device_status: sent.spec.device_status.as_ref(),
        known_rendered_version: sent.spec.known_rendered_version.as_deref(),
        os_mode: sent.spec.os_mode.as_deref(),
    };
    let mut transaction = api.store.begin().await.map_err(store_failure)?;
    let submitted = submit_enrollment(&mut transaction, caller.org, &submission, api.clock.now().into())
        .await
        .map_err(store_failure)?;
    transaction.commit().await.map_err(|error| store_failure(error.into()))?;
    match submitted {
        Submitted::Created => {
            api.metrics.enrollments_created.inc();
            info!(device = %name, "A device asks to be enrolled");
        }
        Submitted::Recovered => {
            api.metrics.enrollments_recovered.inc();
            info!(device = %name, "An approved device without a valid certificate gets a new one");
        }
        Submitted::Exists => {
            api.metrics.enrollments_repeated.inc();
            let message = format!("EnrollmentRequest of name \"{name}\" exists already; read it to see its state");
            return Err(ApiError::conflict(message));
        }
    }
    api.answer(&caller, &name, StatusCode::CREATED).await
}

/// `GET /enrollmentrequests/{name}`.
pub(crate) async fn read(
    State(api): State<AgentApi>,
    path: Result<Path<String>, PathRejection>,
    peer: PeerConnection,
) -> Result<Response, ApiError> {
    let api = &*api.0;
    let caller = api.allowed(&peer).await?;
    let name = path_name(path)?.parse::<DeviceName>().map_err(|error| ApiError::bad_request(error.to_string()))?;
    api.answer(&caller, &name, StatusCode::OK).await
}

impl Shared {
    /// The holder of an enrolment certificate that is neither expired nor revoked.
    async fn allowed(&self, peer: &PeerConnection) -> Result<std::sync::Arc<EnrollmentCaller>, ApiError> {
        let caller = self.enrollment_caller(peer)?;
        let serial = &caller.certificate.serial_hex;
        if is_certificate_revoked(self.store.pool(), serial).await.map_err(store_failure)? {
            return Err(self.refuse_revoked(peer));
        }
        Ok(caller)
    }

    async fn answer(
        &self,
        caller: &EnrollmentCaller,
        name: &DeviceName,
        code: StatusCode,
    ) -> Result<Response, ApiError> {
        match read_enrollments::get(self.store.pool(), caller.org, name.as_str()).await.map_err(store_failure)? {
            Some(record) => Ok(json(code, &record.resource())),
            None => Err(ApiError::not_found(format!("EnrollmentRequest of name \"{name}\" not found"))),
        }
    }
}

/// Checks a request and returns the device's name: the fingerprint of the key that signed it.
fn check(sent: &Sent) -> Result<DeviceName, ApiError> {
    check_kind(&sent.api_version, &sent.kind, "EnrollmentRequest")?;
    let name: DeviceName =
        sent.metadata.name.parse().map_err(|error| ApiError::bad_request(format!("metadata.name: {error}")))?;
    let spec = &sent.spec;
    let csr = DeviceCsr::parse(&spec.csr).map_err(|error| ApiError::bad_request(format!("spec.csr: {error}")))?;
    let device = csr.require_device().map_err(|error| ApiError::bad_request(format!("spec.csr: {error}")))?;
    if *device != name {
        let message = format!("metadata.name is {name}, but the request's key is that of device {device}");
        return Err(ApiError::bad_request(message));
    }
    if spec.csr.contains('\0') {
        return Err(ApiError::bad_request("spec.csr holds a NUL character"));
    }
    check_labels(spec.labels.as_ref())?;
    match &spec.device_status {
        None => {}
        Some(status) if !status.is_object() => {
            return Err(ApiError::bad_request("spec.deviceStatus is not an object"));
        }
        Some(status) if has_nul(&status.to_string()) => {
            return Err(ApiError::bad_request("spec.deviceStatus holds a NUL character (\\u0000)"));
        }
        Some(_) => {}
    }
    if let Some(known) = spec.known_rendered_version.as_deref().filter(|known| !known.is_empty()) {
        known
            .parse::<RenderedVersion>()
            .map_err(|error| ApiError::bad_request(format!("spec.knownRenderedVersion: {error}")))
            .and_then(|version| {
                let above = || ApiError::bad_request("spec.knownRenderedVersion is too large");
                if version.get() <= crate::poll::MAX_VERSION { Ok(()) } else { Err(above()) }
            })?;
    }
    match spec.os_mode.as_deref() {
        None | Some("" | "image" | "package") => Ok(name),
        Some(_) => Err(ApiError::bad_request("spec.osMode is neither image nor package")),
    }
}

fn check_labels(labels: Option<&Labels>) -> Result<(), ApiError> {
    let Some(labels) = labels else { return Ok(()) };
    if labels.len() > MAX_LABELS {
        return Err(ApiError::bad_request(format!("spec.labels has {} labels; at most {MAX_LABELS}", labels.len())));
    }
    for (key, value) in labels {
        validate_label_key(key)
            .and_then(|()| validate_label_value(value))
            .map_err(|error| ApiError::bad_request(format!("spec.labels: {error}")))?;
    }
    Ok(())
}
