//! Manifests: the resources that may come from Git.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Device, EnrollmentPolicy, Fleet, ObjectMeta, Repository, ResourceSync, SyncPolicy};

/// API group and version of the compatible kinds.
pub const API_VERSION: &str = "flightctl.io/v1beta1";
/// API group and version of our own kinds.
pub const SHOREBASE_API_VERSION: &str = "shorebase/v1alpha1";

/// The kinds that may come from Git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Devices that follow one template.
    Fleet,
    /// One device's labels and stand-alone specification.
    Device,
    /// A place that content comes from.
    Repository,
    /// One more source of manifests.
    ResourceSync,
    /// Who is enrolled without a human.
    EnrollmentPolicy,
    /// Limits and trust of a source.
    SyncPolicy,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Fleet, Self::Device, Self::Repository, Self::ResourceSync, Self::EnrollmentPolicy, Self::SyncPolicy];

    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "Fleet",
            Self::Device => "Device",
            Self::Repository => "Repository",
            Self::ResourceSync => "ResourceSync",
            Self::EnrollmentPolicy => "EnrollmentPolicy",
            Self::SyncPolicy => "SyncPolicy",
        }
    }

    /// The `apiVersion` that manifests of this kind carry.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Fleet | Self::Device | Self::Repository | Self::ResourceSync => API_VERSION,
            Self::EnrollmentPolicy | Self::SyncPolicy => SHOREBASE_API_VERSION,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|k| k.as_str() == text).ok_or_else(|| format!("unknown kind {text:?}"))
    }
}

/// A typed manifest.
#[derive(Debug, Clone, PartialEq)]
pub enum Manifest {
    /// A fleet.
    Fleet(Box<Fleet>),
    /// A device.
    Device(Box<Device>),
    /// A repository.
    Repository(Box<Repository>),
    /// A resource sync.
    ResourceSync(Box<ResourceSync>),
    /// An enrolment policy.
    EnrollmentPolicy(Box<EnrollmentPolicy>),
    /// A sync policy.
    SyncPolicy(Box<SyncPolicy>),
}

impl Manifest {
    /// Reads a JSON document as a manifest of a known kind.
    ///
    /// # Errors
    /// The first field that does not fit, as serde words it.
    pub fn from_document(kind: Kind, document: serde_json::Value) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Fleet => Self::Fleet(serde_json::from_value(document)?),
            Kind::Device => Self::Device(serde_json::from_value(document)?),
            Kind::Repository => Self::Repository(serde_json::from_value(document)?),
            Kind::ResourceSync => Self::ResourceSync(serde_json::from_value(document)?),
            Kind::EnrollmentPolicy => Self::EnrollmentPolicy(serde_json::from_value(document)?),
            Kind::SyncPolicy => Self::SyncPolicy(serde_json::from_value(document)?),
        })
    }

    /// The same as [`Self::from_document`], of a document that is kept.
    ///
    /// # Errors
    ///
    /// The document does not fit the kind.
    pub fn from_value(kind: Kind, document: &serde_json::Value) -> Result<Self, serde_json::Error> {
        use serde::Deserialize as _;
        Ok(match kind {
            Kind::Fleet => Self::Fleet(Box::new(Fleet::deserialize(document)?)),
            Kind::Device => Self::Device(Box::new(Device::deserialize(document)?)),
            Kind::Repository => Self::Repository(Box::new(Repository::deserialize(document)?)),
            Kind::ResourceSync => Self::ResourceSync(Box::new(ResourceSync::deserialize(document)?)),
            Kind::EnrollmentPolicy => Self::EnrollmentPolicy(Box::new(EnrollmentPolicy::deserialize(document)?)),
            Kind::SyncPolicy => Self::SyncPolicy(Box::new(SyncPolicy::deserialize(document)?)),
        })
    }

    /// The manifest's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Fleet(_) => Kind::Fleet,
            Self::Device(_) => Kind::Device,
            Self::Repository(_) => Kind::Repository,
            Self::ResourceSync(_) => Kind::ResourceSync,
            Self::EnrollmentPolicy(_) => Kind::EnrollmentPolicy,
            Self::SyncPolicy(_) => Kind::SyncPolicy,
        }
    }

    /// The manifest's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Fleet(r) => &r.metadata,
            Self::Device(r) => &r.metadata,
            Self::Repository(r) => &r.metadata,
            Self::ResourceSync(r) => &r.metadata,
            Self::EnrollmentPolicy(r) => &r.metadata,
            Self::SyncPolicy(r) => &r.metadata,
        }
    }

    /// The manifest's name; empty when it has none, which lint refuses.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }
}
