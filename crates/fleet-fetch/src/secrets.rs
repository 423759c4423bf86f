//! Where secrets come from: one question, several stores.

use std::collections::BTreeMap;

use crate::error::FetchError;
use crate::files::FilesSecrets;
use crate::kubernetes::KubernetesSecrets;
use crate::secret::SecretBytes;

/// The most that one secret may hold, all keys together: what Kubernetes allows.
pub const MAX_SECRET_BYTES: usize = 1 << 20;

/// A store of secrets.
#[derive(Debug)]
pub enum SecretProvider {
    /// Files below a directory.
    Files(FilesSecrets),
    /// The API of a Kubernetes cluster.
    Kubernetes(KubernetesSecrets),
}

impl SecretProvider {
    /// All keys of one secret, of one version: never half of an old and half of a new one.
    ///
    /// # Errors
    /// `NotFound` when there is no such secret, `Denied` when it may not be read, `TooLarge` above [`MAX_SECRET_BYTES`],
    /// `Invalid` for names and keys that are none, and what the store's transport gives.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, SecretBytes>, FetchError> {
        match self {
            Self::Files(files) => files.read(namespace, name).await,
            Self::Kubernetes(kubernetes) => kubernetes.read(namespace, name).await,
        }
    }
}
