//! Devices renew their management certificate: signed at once, for the same key, by the certificate they still have.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use fleet_http::{ApiError, PeerConnection, json, read_json};
use fleet_model::{
    API_VERSION, CertificateSigningRequest, Condition, ConditionStatus, CsrSpec, CsrStatus, ObjectMeta, ResourceName,
};
use fleet_pki::{DeviceCsr, DeviceSigner, Issued};
use fleet_store::read_enrollments::{CsrRecord, get_csr};
use fleet_store::{
    IssuedCertificate, SignedRequest, complete_enrollment, has_revoked_certificate, insert_signed_request,
    lock_device_certificates, record_certificate,
};
use jiff::Timestamp;
use tracing::info;

use crate::caller::DeviceCaller;
use crate::failure::{check_kind, path_name, store_failure};
use crate::{AgentApi, Shared};

/// The largest request.
const MAX_BODY: usize = 64 * 1024;

/// `POST /certificatesigningrequests`: 201 with the signed request.
pub(crate) async fn submit(
    State(api): State<AgentApi>,
    peer: PeerConnection,
    request: Request,
) -> Result<Response, ApiError> {
    let api = &*api.0;
    let caller = api.live_device(&peer).await?;
    let sent: CertificateSigningRequest = read_json(request, MAX_BODY).await?;
    let name = check(&sent)?;
    let csr = DeviceCsr::parse_base64(&sent.spec.request)
        .map_err(|error| ApiError::bad_request(format!("spec.request: {error}")))?;
    let device = csr.require_device().map_err(|error| ApiError::bad_request(format!("spec.request: {error}")))?;
    if *device != caller.key.1 {
        let message = "spec.request: the key is not that of the device that asks; a device keeps its key for ever";
        return Err(ApiError::bad_request(message));
    }
    let now = api.clock.now();
    let lifetime = api
        .config
        .certificate_lifetime
        .lowered_to(sent.spec.expiration_seconds)
        .map_err(|error| ApiError::bad_request(format!("spec.expirationSeconds: {error}")))?;
    let issued = api
        .authority
        .sign_device(&csr, DeviceSigner::DeviceRenewal, caller.key.0, now, lifetime)
        .map_err(ApiError::internal)?;
    api.store_signed(&caller, &sent, &name, &issued, now).await?;
    api.metrics.certificates_renewed.inc();
    info!(device = %caller.key.1, serial = issued.serial_hex, not_after = %issued.not_after, "Renewed a certificate");
    api.answer_csr(&caller, &name, StatusCode::CREATED).await
}

/// `GET /certificatesigningrequests/{name}`: for the device that asked.
pub(crate) async fn read(
    State(api): State<AgentApi>,
    path: Result<Path<String>, PathRejection>,
    peer: PeerConnection,
) -> Result<Response, ApiError> {
    let api = &*api.0;
    let caller = api.live_device(&peer).await?;
    let name = path_name(path)?.parse::<ResourceName>().map_err(|error| ApiError::bad_request(error.to_string()))?;
    api.answer_csr(&caller, &name, StatusCode::OK).await
}

fn check(sent: &CertificateSigningRequest) -> Result<ResourceName, ApiError> {
    check_kind(&sent.api_version, &sent.kind, "CertificateSigningRequest")?;
    let name = sent.metadata.name.as_deref().unwrap_or_default();
    let name = name.parse().map_err(|error| ApiError::bad_request(format!("metadata.name: {error}")))?;
    let spec = &sent.spec;
    if spec.signer_name != DeviceSigner::DeviceRenewal.name() {
        let wanted = DeviceSigner::DeviceRenewal.name();
        return Err(ApiError::bad_request(format!("spec.signerName: a device can only ask for {wanted}")));
    }
    let usable = spec.usages.len() <= 16 && spec.usages.iter().all(|usage| usage.len() <= 64 && !usage.contains('\0'));
    let has = |wanted: &str| spec.usages.iter().any(|usage| usage == wanted);
    if !usable || !has("clientAuth") || !has("CA:false") {
        return Err(ApiError::bad_request("spec.usages must hold clientAuth and CA:false, and at most 16 short words"));
    }
    Ok(name)
}

fn owner_of(caller: &DeviceCaller) -> String {
    format!("Device/{}", caller.key.1)
}

impl Shared {
    /// The device that calls; its certificate is valid now and not revoked.
    async fn live_device(&self, peer: &PeerConnection) -> Result<std::sync::Arc<DeviceCaller>, ApiError> {
        let caller = self.device_caller(peer, None)?;
        let slot = self.slot(&caller.key).await?;
        self.check_device(peer, &caller, &slot.device())?;
        self.heard_of(&slot, None);
        Ok(caller)
    }

    async fn store_signed(
        &self,
        caller: &DeviceCaller,
        sent: &CertificateSigningRequest,
        name: &ResourceName,
        issued: &Issued,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let request = SignedRequest {
            name: name.as_str(),
            owner: &owner_of(caller),
            request: &sent.spec.request,
            signer_name: &sent.spec.signer_name,
            usages: &sent.spec.usages,
            expiration_seconds: sent.spec.expiration_seconds,
            certificate: &data_encoding::BASE64.encode(issued.chain_pem.as_bytes()),
        };
        let certificate = IssuedCertificate {
            serial: issued.serial_hex.clone(),
            device: Some(caller.key.1.as_str().to_owned()),
            signer: sent.spec.signer_name.clone(),
            fingerprint: issued.sha256,
            not_before: issued.not_before.into(),
            not_after: issued.not_after.into(),
        };
        let mut transaction = self.store.begin().await.map_err(store_failure)?;
        let (org, device) = (caller.key.0, &caller.key.1);
        lock_device_certificates(&mut transaction, org, device).await.map_err(store_failure)?;
        if has_revoked_certificate(&mut transaction, org, device).await.map_err(store_failure)? {
            return Err(ApiError::unauthorized("the certificate was revoked"));
        }
        let new =
            insert_signed_request(&mut transaction, caller.key.0, &request, now.into()).await.map_err(store_failure)?;
        if !new {
            return Err(ApiError::conflict(format!("CertificateSigningRequest of name \"{name}\" exists already")));
        }
        record_certificate(&mut transaction, caller.key.0, &certificate).await.map_err(store_failure)?;
        // What a device that lost its certificate is answered is the newest one.
        complete_enrollment(&mut transaction, org, device.as_str(), &issued.chain_pem).await.map_err(store_failure)?;
        transaction.commit().await.map_err(|error| store_failure(error.into()))
    }

    async fn answer_csr(
        &self,
        caller: &DeviceCaller,
        name: &ResourceName,
        code: StatusCode,
    ) -> Result<Response, ApiError> {
        match get_csr(self.store.pool(), caller.key.0, name.as_str()).await.map_err(store_failure)? {
            None => Err(ApiError::not_found(format!("CertificateSigningRequest of name \"{name}\" not found"))),
            Some(record) if record.owner != owner_of(caller) => {
                Err(ApiError::unauthorized("the certificate signing request is not this device's"))
            }
            Some(record) => Ok(json(code, &resource(record))),
        }
    }
}

fn resource(record: CsrRecord) -> CertificateSigningRequest {
    let created = record.created_at.to_jiff();
    let created = Timestamp::from_second(created.as_second()).unwrap_or(created).to_string();
    let mut conditions = Vec::new();
    if record.certificate.is_some() {
        let message = "Signed for the device's own key";
        conditions.push(Condition::new("Approved", ConditionStatus::True, "Renewal", message, &created));
    }
    CertificateSigningRequest {
        api_version: API_VERSION.to_owned(),
        kind: "CertificateSigningRequest".to_owned(),
        metadata: ObjectMeta {
            name: Some(record.name),
            owner: Some(record.owner),
            creation_timestamp: Some(created),
            ..ObjectMeta::default()
        },
        spec: CsrSpec {
            request: record.request,
            signer_name: record.signer_name,
            usages: record.usages,
            expiration_seconds: record.expiration_seconds,
            username: None,
        },
        status: Some(CsrStatus { conditions, certificate: record.certificate }),
    }
}
