//! The vocabulary of Shorebase: identifiers, resources, selectors, conditions and diagnostics.
//!
//! Every other crate speaks these types. They are also the wire types of both HTTP interfaces and of
//! manifests in Git. No I/O, no async, no clock: serde only.
#![forbid(unsafe_code)]

mod access;
mod application;
mod condition;
mod device;
mod diagnostic;
mod enrollment;
mod fleet;
mod ids;
mod labels;
mod manifest;
mod meta;
mod monitor;
mod os;
mod policy;
mod repository;
mod rollout;
mod secret_files;
mod selector;
mod source;
mod status_body;
mod sync_policy;
mod sync_trust;
mod update;

pub use access::{Role, local_token};
pub use application::{
    AppType, Application, ApplicationFile, ApplicationResources, ApplicationVolume, ComposeApplication,
    ContainerApplication, DesiredState, HelmApplication, PullPolicy, QuadletApplication, ReclaimPolicy, ResourceLimits,
    VmApplication, VolumeImage, VolumeMount,
};
pub use condition::{Condition, ConditionStatus, set_condition};
pub use device::{
    ConfigProvider, ConfigSource, ConfigStatus, ContentEncoding, Device, DeviceSpec, DeviceStatus, FileSpec, GitRef,
    HttpRef, RenderedDevice, SecretRef, StatusWord, SystemInfo, annotations,
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
pub use monitor::{AlertRule, AlertSeverity, DiskMonitor, LoadMonitor, ResourceMonitor, SystemdSpec};
pub use os::{CatalogItemRef, OsSpec};
pub use policy::{EnrollmentPolicy, EnrollmentPolicySpec, EnrollmentRule, RuleMatch};
pub use repository::{
    AccessMode, BaseImage, ConditionsStatus, HttpConfig, OciAuth, OciScheme, Repository, RepositorySpec, ResourceSync,
    ResourceSyncSpec, SELF_REPOSITORY, SshConfig, SyncType,
};
pub use rollout::{Batch, BatchLimit, BatchSequence, DeviceSelection, DisruptionBudget, RolloutPolicy};
pub use secret_files::{MASK, SECRET_FILES_PREFIX, SECRET_REPOSITORY, mask_secret_files, may_hold_secret_files};
pub use selector::{LabelSelector, MatchExpression, MatchOperator, SelectorError};
pub use source::{
    AppliedPlan, AppliedPlanSpec, AppliedPlanStatus, ResumeSource, Source, SourceApproval, SourceDecision,
    SourceDevices, SourceHold, SourcePlan, SourceRejection, SourceSpec, SourceStatus, SourceSuspension, SuspendSource,
};
pub use status_body::StatusBody;
pub use sync_policy::{
    CountLimit, ForcedPush, Limit, Limits, MAX_GRACE, PercentLimit, PolicyPlace, SyncLimits, SyncPolicy,
    SyncPolicySpec, SyncRules,
};
pub use sync_trust::{SignerSet, SyncTrust, TrustEffect, TrustRule};
pub use update::{DecommissionTarget, DeviceConsole, DeviceDecommission, UpdatePolicy, UpdateSchedule};
