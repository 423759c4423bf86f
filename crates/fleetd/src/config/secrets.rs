//! Where secrets come from that manifests take.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_fetch::check_secret_namespace;

use super::fields::Fields;

/// Where secrets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsConfig {
    /// The store.
    pub store: SecretStore,
    /// The namespaces that manifests may name; empty: all that the store lets the service read.
    pub namespaces: BTreeSet<String>,
    /// How often a secret is read.
    pub poll_interval: Duration,
}

/// A store of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretStore {
    /// Files: `DIR/<namespace>/<name>/<key>`.
    Directory(PathBuf),
    /// The Kubernetes cluster that the service runs in.
    Kubernetes,
}

pub(super) fn read_secrets(root: &mut Fields, beside: &Path) -> Option<SecretsConfig> {
    let mut section = root.optional_section("secrets")?;
    let directory = section.text("directory");
    let kubernetes = section.flag("kubernetes").unwrap_or(false);
    let store = match (directory, kubernetes) {
        (Some(directory), false) => Some(SecretStore::Directory(beside.join(directory))),
        (None, true) => Some(SecretStore::Kubernetes),
        (Some(_), true) => {
            section.problem("kubernetes", "directory is given too; use one of them");
            None
        }
        (None, false) => {
            section.problem("directory", "is missing; say where secrets come from: directory, or kubernetes: true");
            None
        }
    };
    let namespaces = section.texts("namespaces");
    if namespaces.as_ref().is_some_and(Vec::is_empty) {
        section.problem("namespaces", "is empty; name at least one, or leave it out to allow all");
    }
    let namespaces: BTreeSet<String> = namespaces.into_iter().flatten().collect();
    for namespace in &namespaces {
        if let Err(error) = check_secret_namespace(namespace) {
            section.problem("namespaces", error);
        }
    }
    let (low, high) = (Duration::from_secs(1), Duration::from_secs(86_400));
    let poll_interval = section.duration("pollInterval", low, high).unwrap_or(Duration::from_secs(60));
    section.finish();
    Some(SecretsConfig { store: store?, namespaces, poll_interval })
}
