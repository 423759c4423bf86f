//! Certificate signing requests of users: enrolment certificates, and the agent configuration that goes with one.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_http::{ApiError, json, read_json};
use fleet_model::{
    API_VERSION, CertificateSigningRequest, Condition, ConditionStatus, CsrSpec, CsrStatus, EnrollmentConfig,
    EnrollmentService, EnrollmentServiceAuth, EnrollmentServiceServer, Labels, ObjectMeta, ResourceList, ResourceName,
    Role, signer,
};
use fleet_pki::{DeviceCsr, IssueError, Issued};
use fleet_store::read_enrollments::{self, CsrRecord};
use fleet_store::{
    IssuedCertificate, NewEvent, SignedRequest, Ts, insert_signed_request, record_certificate, record_event,
};

use super::whole_seconds;
use crate::api::{Api, Caller, Inner, checked_name, failed, no_such};
use crate::listing::{Params, envelope, next_after};
use crate::permissions::Action;

const KIND: &str = "CertificateSigningRequest";
const MAX_BODY: usize = 256 * 1024;

fn owner(caller: &Caller) -> String {
    format!("User/{}", caller.0.name)
}

/// Whether the caller may have the certificate: the owner, or an administrator.
fn may_take(caller: &Caller, record: &CsrRecord) -> bool {
    record.owner == owner(caller) || caller.0.roles.contains(&Role::Admin)
}

fn resource(record: CsrRecord, caller: &Caller) -> CertificateSigningRequest {
    let at = whole_seconds(record.created_at);
    let certificate = record.certificate.clone().filter(|_| may_take(caller, &record));
    let conditions = match &record.certificate {
        Some(_) => vec![Condition::new("Approved", ConditionStatus::True, "Approved", "Approved automatically", &at)],
        None => Vec::new(),
    };
    CertificateSigningRequest {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: ObjectMeta {
            name: Some(record.name),
            owner: Some(record.owner.clone()),
            creation_timestamp: Some(at),
            ..ObjectMeta::default()
        },
        spec: CsrSpec {
            request: record.request,
            signer_name: record.signer_name,
            usages: record.usages,
            expiration_seconds: record.expiration_seconds,
            username: record.owner.strip_prefix("User/").map(str::to_owned),
        },
        status: Some(CsrStatus { conditions, certificate }),
    }
}

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    params: Params,
) -> Result<Json<ResourceList<CertificateSigningRequest>>, ApiError> {
    caller.require(Action::ReadEnrollment)?;
    let query = params.list(read_enrollments::CSR_FIELDS, false)?;
    let page = read_enrollments::list_csrs(inner.pool(), Inner::ORG, &query).await.map_err(failed)?;
    let next = next_after(&page, |request| &request.name);
    let items = page.items.into_iter().map(|record| resource(record, &caller)).collect();
    Ok(Json(envelope(KIND, items, next.as_deref(), None)))
}

async fn find(inner: &Inner, name: &str) -> Result<CsrRecord, ApiError> {
    let name = checked_name(KIND, name)?;
    let found = read_enrollments::get_csr(inner.pool(), Inner::ORG, name).await.map_err(failed)?;
    found.ok_or_else(|| no_such(KIND, name))
}

pub(crate) async fn get(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<CertificateSigningRequest>, ApiError> {
    caller.require(Action::ReadEnrollment)?;
    find(&inner, &name).await.map(|record| Json(resource(record, &caller)))
}

/// Signs a request for an enrolment certificate at once.
pub(crate) async fn create(State(inner): Api, caller: Caller, request: Request) -> Result<Response, ApiError> {
    caller.require(Action::RequestEnrollmentCertificate)?;
    let wanted: CertificateSigningRequest = read_json(request, MAX_BODY).await?;
    let name = check(&wanted)?;
    let spec = &wanted.spec;
    let csr = DeviceCsr::parse_base64(&spec.request)
        .map_err(|error| ApiError::bad_request(format!("spec.request: {error}")))?;
    let life = inner
        .enrollment_life()
        .lowered_to(spec.expiration_seconds)
        .map_err(|error| ApiError::bad_request(format!("spec.expirationSeconds: {error}")))?;
    let issued = inner.ca.sign_enrollment(&csr, Inner::ORG, inner.clock.now(), life).map_err(|error| {
        if let IssueError::Csr(problem) = &error {
            return ApiError::bad_request(format!("spec.request: {problem}"));
        }
        ApiError::internal(error)
    })?;
    store(&inner, &caller, name.as_str(), spec, &issued).await?;
    let record = find(&inner, name.as_str()).await?;
    Ok(json(StatusCode::CREATED, &resource(record, &caller)))
}

fn check(wanted: &CertificateSigningRequest) -> Result<ResourceName, ApiError> {
    let bad = ApiError::bad_request;
    if !["", "v1beta1", API_VERSION].contains(&wanted.api_version.as_str()) || wanted.kind != KIND {
        return Err(bad(format!("apiVersion must be {API_VERSION} and kind {KIND}")));
    }
    if wanted.spec.signer_name != signer::ENROLLMENT {
        return Err(bad(format!("spec.signerName must be {}: users get no other certificates", signer::ENROLLMENT)));
    }
    for usage in ["clientAuth", "CA:false"] {
        if !wanted.spec.usages.iter().any(|given| given == usage) {
            return Err(bad(format!("spec.usages must hold {usage}")));
        }
    }
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    name.parse().map_err(|error| bad(format!("metadata.name: {error}")))
}

async fn store(inner: &Inner, caller: &Caller, name: &str, spec: &CsrSpec, issued: &Issued) -> Result<(), ApiError> {
    let reason = "EnrollmentCertificateIssued";
    let now = Ts::from(inner.clock.now());
    let mut transaction = inner.store.begin().await.map_err(failed)?;
    let signed = SignedRequest {
        name,
        owner: &owner(caller),
        request: &spec.request,
        signer_name: &spec.signer_name,
        usages: &spec.usages,
        expiration_seconds: spec.expiration_seconds,
        certificate: &STANDARD.encode(&issued.chain_pem),
    };
    if !insert_signed_request(&mut transaction, Inner::ORG, &signed, now).await.map_err(failed)? {
        return Err(ApiError::conflict(format!("{KIND} {name:?} exists already; choose another name")));
    }
    let certificate = IssuedCertificate {
        serial: issued.serial_hex.clone(),
        device: None,
        signer: spec.signer_name.clone(),
        fingerprint: issued.sha256,
        not_before: Ts::from(issued.not_before),
        not_after: Ts::from(issued.not_after),
    };
    record_certificate(&mut transaction, Inner::ORG, &certificate).await.map_err(failed)?;
    let event = NewEvent {
        kind: KIND,
        name,
        reason,
        warning: false,
        message: "An enrollment certificate was issued",
        actor: &caller.0.as_event_actor(),
        details: Some(serde_json::json!({"serial": issued.serial_hex, "notAfter": issued.not_after.to_string()})),
    };
    record_event(&mut transaction, Inner::ORG, &event).await.map_err(failed)?;
    transaction.commit().await.map_err(|error| failed(error.into()))?;
    inner.metrics.wrote(reason);
    Ok(())
}

/// The part of an agent's configuration that goes with an issued enrolment certificate. The key is not in it: whoever
/// made the request has it.
pub(crate) async fn enrollment_config(
    State(inner): Api,
    caller: Caller,
    params: Params,
) -> Result<Json<EnrollmentConfig>, ApiError> {
    caller.require(Action::RequestEnrollmentCertificate)?;
    let name = params.get("csr").ok_or_else(|| ApiError::bad_request("csr must name a certificate signing request"))?;
    let record = find(&inner, name).await?;
    if record.signer_name != signer::ENROLLMENT || !may_take(&caller, &record) {
        return Err(no_such(KIND, name));
    }
    let certificate = record.certificate.ok_or_else(|| ApiError::conflict(format!("{KIND} {name:?} is not signed")))?;
    let ca = inner.config.agent_ca_pem.clone().unwrap_or_else(|| inner.ca.ca_bundle_pem());
    Ok(Json(EnrollmentConfig {
        enrollment_service: EnrollmentService {
            authentication: EnrollmentServiceAuth {
                client_certificate_data: certificate,
                client_key_data: String::new(),
            },
            service: EnrollmentServiceServer {
                server: inner.config.agent_url.clone(),
                certificate_authority_data: STANDARD.encode(ca),
            },
            enrollment_ui_endpoint: inner.config.enrollment_ui_url.clone(),
        },
        default_labels: Labels::new(),
    }))
}
