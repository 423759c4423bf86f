//! The vocabulary of Shorebase: identifiers, resources, selectors, conditions and diagnostics.
//!
//! Every other crate speaks these types. They are also the wire types of both HTTP interfaces and of
//! manifests in Git. No I/O, no async, no clock: serde only.
#![forbid(unsafe_code)]

mod access;
mod condition;
mod device;
mod diagnostic;
mod enrollment;
mod fleet;
mod ids;
mod labels;
mod manifest;
mod meta;
mod policy;
mod repository;
mod selector;
mod source;
mod status_body;

pub use access::{Role, local_token};
pub use condition::{Condition, ConditionStatus, set_condition};
pub use device::{
    ConfigProvider, ConfigSource, ConfigStatus, ContentEncoding, Device, DeviceSpec, DeviceStatus, FileSpec, GitRef,
    RenderedDevice, StatusWord, SystemInfo, annotations,
};
pub use diagnostic::{Diagnostic, Severity};
pub use enrollment::{
    CertificateSigningRequest, CsrSpec, CsrStatus, EnrollmentApproval, EnrollmentApprovalStatus, EnrollmentConfig,
    EnrollmentRequest, EnrollmentRequestSpec, EnrollmentRequestStatus, EnrollmentService, EnrollmentServiceAuth,
    EnrollmentServiceServer, signer,
};
pub use fleet::{Fleet, FleetSpec, FleetStatus, FleetTemplate};
pub use ids::{CommitId, DeviceName, Digest, IdError, OrgId, RenderedVersion, ResourceName};
pub use labels::{LabelError, Labels, validate_label_key, validate_label_value};
pub use manifest::{API_VERSION, Kind, Manifest, SHOREBASE_API_VERSION};
pub use meta::{ListMeta, ObjectMeta, ResourceList};
pub use policy::{EnrollmentPolicy, EnrollmentPolicySpec, EnrollmentRule, RuleMatch, SyncPolicy, SyncPolicySpec};
pub use repository::{
    ConditionsStatus, HttpConfig, Repository, RepositorySpec, ResourceSync, ResourceSyncSpec, SELF_REPOSITORY,
    SshConfig,
};
pub use selector::{LabelSelector, MatchExpression, MatchOperator, SelectorError};
pub use source::{Source, SourceSpec, SourceStatus};
pub use status_body::StatusBody;
