//! Enrolment requests, certificate signing requests, and the enrolment part of an agent's configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Condition, DeviceStatus, Labels, ObjectMeta};

/// Signer names, as certificates and requests carry them.
pub mod signer {
    /// Enrolment certificates: may only enrol.
    pub const ENROLLMENT: &str = "flightctl.io/enrollment";
    /// First management certificate of a device.
    pub const DEVICE_ENROLLMENT: &str = "flightctl.io/device-enrollment";
    /// Renewed management certificate of a device.
    pub const DEVICE_RENEWAL: &str = "flightctl.io/device-management-renewal";
}

/// A device that asks to be managed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentRequest {
    /// `v1beta1`, `flightctl.io/v1beta1` or empty; answers carry `flightctl.io/v1beta1`.
    #[serde(default)]
    pub api_version: String,
    /// `EnrollmentRequest`.
    pub kind: String,
    /// The name is the device's name.
    pub metadata: ObjectMeta,
    /// The request.
    pub spec: EnrollmentRequestSpec,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnrollmentRequestStatus>,
}

/// The request itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentRequestSpec {
    /// PEM of a PKCS#10 request whose common name is the device's name.
    pub csr: String,
    /// The device's status at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_status: Option<DeviceStatus>,
    /// Labels the device asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// The version the device is at, when it was managed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_rendered_version: Option<String>,
    /// `image` or `package`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_mode: Option<String>,
}

/// What became of the request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentRequestStatus {
    /// `Approved`, `Denied`, `Failed`. Always present, empty while nobody decided.
    pub conditions: Vec<Condition>,
    /// PEM chain of the management certificate, once approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<EnrollmentApprovalStatus>,
}

/// A decision on a request, as a person sends it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrollmentApproval {
    /// Yes or no.
    pub approved: bool,
    /// Labels for the device; they win over those it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Use only these labels, none of those the device asked for.
    #[serde(default)]
    pub replace_labels: bool,
}

/// A decision on a request, as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollmentApprovalStatus {
    /// Yes or no.
    pub approved: bool,
    /// Labels given with the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// A user's name, or `EnrollmentPolicy/<name>`.
    pub approved_by: String,
    /// When (RFC 3339).
    pub approved_at: String,
}

/// A request for a certificate that is not a first management certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSigningRequest {
    /// `v1beta1`, `flightctl.io/v1beta1` or empty; answers carry `flightctl.io/v1beta1`.
    #[serde(default)]
    pub api_version: String,
    /// `CertificateSigningRequest`.
    pub kind: String,
    /// Any name; a device uses `<device>-<8 hex digits>`.
    pub metadata: ObjectMeta,
    /// The request.
    pub spec: CsrSpec,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<CsrStatus>,
}

/// The request itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CsrSpec {
    /// Base64 of the PEM of a PKCS#10 request.
    pub request: String,
    /// One of [`signer`].
    pub signer_name: String,
    /// Must hold `clientAuth` and `CA:false`.
    #[serde(default)]
    pub usages: Vec<String>,
    /// A shorter life than the signer's default, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_seconds: Option<i64>,
    /// Who asked; filled in by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// What became of the request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CsrStatus {
    /// `Approved`, `Denied`, `Failed`.
    pub conditions: Vec<Condition>,
    /// Base64 of the PEM certificate chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// The part of an agent's configuration that lets it enrol. The key names are those of the agent's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentConfig {
    /// Where and how to enrol.
    #[serde(rename = "enrollment-service")]
    pub enrollment_service: EnrollmentService,
    /// Labels the device asks for.
    #[serde(default, rename = "default-labels", skip_serializing_if = "BTreeMap::is_empty")]
    pub default_labels: Labels,
}

/// Where and how to enrol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EnrollmentService {
    /// The enrolment certificate and key.
    pub authentication: EnrollmentServiceAuth,
    /// The agent interface.
    pub service: EnrollmentServiceServer,
    /// Base URL for the link and QR code that a person follows to approve.
    #[serde(default)]
    pub enrollment_ui_endpoint: String,
}

/// Enrolment certificate and key, base64 of PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EnrollmentServiceAuth {
    /// Base64 of the certificate's PEM.
    pub client_certificate_data: String,
    /// Base64 of the key's PEM.
    pub client_key_data: String,
}

impl std::fmt::Debug for EnrollmentServiceAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollmentServiceAuth").finish_non_exhaustive()
    }
}

/// The agent interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EnrollmentServiceServer {
    /// `https://host:7443`.
    pub server: String,
    /// Base64 of the PEM certificates to trust; nothing else is trusted.
    pub certificate_authority_data: String,
}
