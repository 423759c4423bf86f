//! Where the Repositories lie that manifests name.

use std::collections::HashMap;

use fleet_model::{Kind, Manifest, OrgId, RepositorySpec, annotations};
use fleet_store::{InputKind, PgConnection, StoreError, manifest_documents};

/// The Repositories by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repositories(HashMap<String, Result<Place, String>>);

/// Where one lies.
#[derive(Debug, Clone)]
struct Place {
    kind: InputKind,
    url: String,
    credential: Option<String>,
}

impl Repositories {
    /// Those that stored manifests define, but for those of the source `except`: these come from the commit that is looked
    /// at.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn stored(
        connection: &mut PgConnection,
        org: OrgId,
        allow_local: bool,
        except: Option<&str>,
    ) -> Result<Self, StoreError> {
        let stored = manifest_documents(connection, org, Kind::Repository, None).await?;
        let manifests: Vec<Manifest> = stored
            .into_iter()
            .filter(|stored| except.is_none_or(|source| stored.source != source))
            .filter_map(|stored| Manifest::from_document(Kind::Repository, stored.document).ok())
            .collect();
        let mut repositories = Self::default();
        repositories.add(manifests.iter(), allow_local);
        Ok(repositories)
    }

    /// Those that manifests define. Others by the same name are replaced.
    pub(crate) fn add<'a>(&mut self, manifests: impl Iterator<Item = &'a Manifest>, allow_local: bool) {
        for manifest in manifests {
            let Manifest::Repository(repository) = manifest else { continue };
            let Some(name) = repository.metadata.name.clone() else { continue };
            let credential = repository.metadata.annotations.get(annotations::CREDENTIAL).cloned();
            let place = match &repository.spec {
                RepositorySpec::Git { url, .. } if !allow_local && is_local(url) => Err(format!(
                    "Repository {name} is on the service's own disk ({url}); \
                     set git.allowLocalRepositories in the service's configuration to permit that"
                )),
                RepositorySpec::Git { url, .. } => Ok(Place { kind: InputKind::Git, url: url.clone(), credential }),
                RepositorySpec::Http { url, .. } => Ok(Place { kind: InputKind::Http, url: url.clone(), credential }),
                RepositorySpec::Oci { .. } => Err(format!("Repository {name} is of type oci, which holds no files")),
            };
            self.0.insert(name, place);
        }
    }

    /// The URL of a Repository of this kind.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub(crate) fn url(&self, name: &str, kind: InputKind) -> Result<&str, String> {
        match self.0.get(name) {
            Some(Ok(place)) if place.kind == kind => Ok(&place.url),
            Some(Ok(_)) => {
                let wanted = if kind == InputKind::Git { "git" } else { "http" };
                Err(format!("Repository {name} is not of type {wanted}"))
            }
            Some(Err(reason)) => Err(reason.clone()),
            None => Err(format!("Repository {name:?} is not defined")),
        }
    }

    /// The same for people, without credentials.
    pub(crate) fn shown_url(&self, name: &str, kind: InputKind) -> Option<String> {
        self.url(name, kind).ok().map(fleet_git::redact_url)
    }

    /// The name of the credential that a Repository is read with, when its manifest gives one.
    pub(crate) fn credential(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_ref().ok()?.credential.as_deref()
    }
}

fn is_local(url: &str) -> bool {
    url.starts_with('/') || url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"))
}
