//! Applications: workloads on a device, by their type.
//!
//! The types say which fields each type has. What the values must look like is the work of lint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{CatalogItemRef, ContentEncoding};

/// A workload on a device, by its type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "appType", rename_all = "lowercase")]
pub enum Application {
    /// Containers described by a compose file.
    Compose(ComposeApplication),
    /// Containers described by quadlet files of Podman.
    Quadlet(QuadletApplication),
    /// One container.
    Container(ContainerApplication),
    /// A Helm chart for the Kubernetes of the device.
    Helm(HelmApplication),
    /// A virtual machine.
    Vm(VmApplication),
}

/// Containers described by a compose file. Exactly one of `image`, `catalogItemRef` and `inline` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComposeApplication {
    /// The application's name, unique on the device; the image reference when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An image that holds the application. May have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// An item of a catalogue that names the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_item_ref: Option<CatalogItemRef>,
    /// The application's files, written in the manifest itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Vec<ApplicationFile>>,
    /// Environment variables. Values may have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Volumes of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<ApplicationVolume>>,
    /// Set by the service only: whether the application is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub desired_state: Option<DesiredState>,
    /// Set by the service only: grows with every restart that somebody asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub restart_generation: Option<i64>,
    /// Set by the service only: notes for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Containers described by quadlet files. Exactly one of `image`, `catalogItemRef` and `inline` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuadletApplication {
    /// The application's name, unique on the device; the image reference when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An image that holds the application. May have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// An item of a catalogue that names the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_item_ref: Option<CatalogItemRef>,
    /// The application's files, written in the manifest itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Vec<ApplicationFile>>,
    /// Environment variables. Values may have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// The user that the application runs as; `root` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Volumes of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<ApplicationVolume>>,
    /// Set by the service only: whether the application is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub desired_state: Option<DesiredState>,
    /// Set by the service only: grows with every restart that somebody asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub restart_generation: Option<i64>,
    /// Set by the service only: notes for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// One container. Exactly one of `image` and `catalogItemRef` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerApplication {
    /// The application's name, unique on the device; the image reference when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The container's image. May have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// An item of a catalogue that names the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_item_ref: Option<CatalogItemRef>,
    /// Environment variables. Values may have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// The user that the application runs as; `root` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Ports to publish, each `host:container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<String>>,
    /// What the container may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ApplicationResources>,
    /// Volumes of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<ApplicationVolume>>,
    /// Set by the service only: whether the application is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub desired_state: Option<DesiredState>,
    /// Set by the service only: grows with every restart that somebody asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub restart_generation: Option<i64>,
    /// Set by the service only: notes for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A Helm chart. Exactly one of `image` and `catalogItemRef` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelmApplication {
    /// The application's name, unique on the device; the image reference when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The chart, as an image reference. May have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// An item of a catalogue that names the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_item_ref: Option<CatalogItemRef>,
    /// The namespace to install into; `flightctl-<name>` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Values for the chart; they win over those of `valuesFiles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<serde_json::Map<String, serde_json::Value>>,
    /// Files of the chart with values, relative to its root; later ones win.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values_files: Option<Vec<String>>,
    /// Set by the service only: whether the application is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub desired_state: Option<DesiredState>,
    /// Set by the service only: grows with every restart that somebody asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub restart_generation: Option<i64>,
    /// Set by the service only: notes for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A virtual machine. Exactly one of `image` and `inline` is given; `inline` is one file, `vm.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmApplication {
    /// The application's name, unique on the device; the image reference when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An image that holds the application. May have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The application's files, written in the manifest itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<Vec<ApplicationFile>>,
    /// Ports to publish, each `host:machine` with `/tcp`, `/udp` or `/sctp` behind it when it is not TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_ports: Option<Vec<String>>,
    /// Set by the service only: whether the application is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub desired_state: Option<DesiredState>,
    /// Set by the service only: grows with every restart that somebody asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub restart_generation: Option<i64>,
    /// Set by the service only: notes for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a container may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationResources {
    /// The most it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceLimits>,
}

/// The most a container may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceLimits {
    /// Processors, as text: `"0.5"` is half of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Memory in bytes, or with `k`, `m` or `g` behind it: `512m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// One file of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationFile {
    /// The path, relative to the application's directory. May have placeholders in a fleet's template.
    pub path: String,
    /// The contents, encoded as `contentEncoding` says; empty when absent. May have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// How `content` is encoded; plain text when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<ContentEncoding>,
}

/// A volume of an application; at least one of `image` and `mount` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationVolume {
    /// The volume's name, unique in the application.
    pub name: String,
    /// What becomes of the volume when the application is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<ReclaimPolicy>,
    /// An image or artifact that fills the volume, again with every update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<VolumeImage>,
    /// Where the volume appears in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<VolumeMount>,
}

/// What becomes of a volume when its application is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ReclaimPolicy {
    /// It stays.
    Retain,
}

/// An image or artifact that fills a volume; exactly one of `reference` and `catalogItemRef` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeImage {
    /// The image reference. May have placeholders in a fleet's template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// An item of a catalogue that names the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_item_ref: Option<CatalogItemRef>,
    /// When the image is pulled; `IfNotPresent` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PullPolicy {
    /// With every update.
    Always,
    /// When the device does not have it.
    IfNotPresent,
    /// Never: it must be there.
    Never,
}

/// Where a volume appears in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeMount {
    /// An absolute path, with mount options behind a `:` when there are any.
    pub path: String,
}

/// Whether an application is to run. Only the service writes it, into rendered documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredState {
    /// It is to run.
    Running,
    /// It is to stand still.
    Stopped,
}

/// The type of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppType {
    /// `compose`.
    Compose,
    /// `quadlet`.
    Quadlet,
    /// `container`.
    Container,
    /// `helm`.
    Helm,
    /// `vm`.
    Vm,
}

impl AppType {
    /// The type as manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compose => "compose",
            Self::Quadlet => "quadlet",
            Self::Container => "container",
            Self::Helm => "helm",
            Self::Vm => "vm",
        }
    }
}

impl Application {
    /// The application's type.
    pub fn app_type(&self) -> AppType {
        match self {
            Self::Compose(_) => AppType::Compose,
            Self::Quadlet(_) => AppType::Quadlet,
            Self::Container(_) => AppType::Container,
            Self::Helm(_) => AppType::Helm,
            Self::Vm(_) => AppType::Vm,
        }
    }

    /// The name as written.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Compose(app) => app.name.as_deref(),
            Self::Quadlet(app) => app.name.as_deref(),
            Self::Container(app) => app.name.as_deref(),
            Self::Helm(app) => app.name.as_deref(),
            Self::Vm(app) => app.name.as_deref(),
        }
    }

    /// The image as written.
    pub fn image(&self) -> Option<&str> {
        match self {
            Self::Compose(app) => app.image.as_deref(),
            Self::Quadlet(app) => app.image.as_deref(),
            Self::Container(app) => app.image.as_deref(),
            Self::Helm(app) => app.image.as_deref(),
            Self::Vm(app) => app.image.as_deref(),
        }
    }

    /// The item of a catalogue, when the type may have one.
    pub fn catalog_item_ref(&self) -> Option<&CatalogItemRef> {
        match self {
            Self::Compose(app) => app.catalog_item_ref.as_ref(),
            Self::Quadlet(app) => app.catalog_item_ref.as_ref(),
            Self::Container(app) => app.catalog_item_ref.as_ref(),
            Self::Helm(app) => app.catalog_item_ref.as_ref(),
            Self::Vm(_) => None,
        }
    }

    /// The files in the manifest itself, when the type may have them.
    pub fn inline(&self) -> Option<&[ApplicationFile]> {
        match self {
            Self::Compose(app) => app.inline.as_deref(),
            Self::Quadlet(app) => app.inline.as_deref(),
            Self::Vm(app) => app.inline.as_deref(),
            Self::Container(_) | Self::Helm(_) => None,
        }
    }

    /// Environment variables, when the type may have them.
    pub fn env_vars(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Compose(app) => app.env_vars.as_ref(),
            Self::Quadlet(app) => app.env_vars.as_ref(),
            Self::Container(app) => app.env_vars.as_ref(),
            Self::Helm(_) | Self::Vm(_) => None,
        }
    }

    /// The user it runs as, when the type may have one.
    pub fn run_as(&self) -> Option<&str> {
        match self {
            Self::Quadlet(app) => app.run_as.as_deref(),
            Self::Container(app) => app.run_as.as_deref(),
            Self::Compose(_) | Self::Helm(_) | Self::Vm(_) => None,
        }
    }

    /// Volumes, when the type may have them.
    pub fn volumes(&self) -> &[ApplicationVolume] {
        let volumes = match self {
            Self::Compose(app) => app.volumes.as_deref(),
            Self::Quadlet(app) => app.volumes.as_deref(),
            Self::Container(app) => app.volumes.as_deref(),
            Self::Helm(_) | Self::Vm(_) => None,
        };
        volumes.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use crate::DeviceSpec;

    #[test]
    fn what_only_the_service_sets_is_read_from_rendered_documents() {
        let document = r#"{"applications":[{"annotations":{"a":"b"},"appType":"vm","desiredState":"stopped","image":"q.io/a:1","restartGeneration":2}],"consoles":[{"sessionID":"s","sessionMetadata":"{}"}],"decommissioning":{"target":"Unenroll"}}"#;
        let spec: DeviceSpec = serde_json::from_str(document).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap().to_string(), document);
    }

    #[test]
    fn a_field_of_another_type_is_refused() {
        for wrong in [
            r#"{"applications":[{"appType":"compose","image":"a","runAs":"root"}]}"#,
            r#"{"applications":[{"appType":"container","inline":[]}]}"#,
            r#"{"applications":[{"image":"a"}]}"#,
            r#"{"resources":[{"monitorType":"CPU","path":"/","samplingInterval":"1s","alertRules":[]}]}"#,
            r#"{"os":{"image":"a","tag":"b"}}"#,
            r#"{"sytemd":{}}"#,
        ] {
            assert!(serde_json::from_str::<DeviceSpec>(wrong).is_err(), "{wrong}");
        }
    }
}
