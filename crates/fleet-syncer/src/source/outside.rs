//! Whether something changes what a source gives while its own commit stays: other repositories, web servers and secrets that
//! its objects use, and Repositories of other sources that its ResourceSyncs lead to.

use std::sync::Arc;

use fleet_model::{Kind, Manifest};
use fleet_store::{
    InputKind, PgConnection, PinnedInput, StoreError, input_values, list_sources, manifest_documents,
    source_dependencies, source_has_problems,
};
use tracing::info;

use super::Source;
use crate::desired::child_source;
use crate::repositories::Repositories;
use crate::web::file_url;

impl Source {
    /// Whether another repository that this source's objects use has moved, or some object still waits for one.
    pub(super) async fn outside_changed(&mut self) -> Result<bool, StoreError> {
        let (shared, org, name) = (Arc::clone(&self.shared), self.shared.config.org, self.definition.name.clone());
        let name = name.as_str();
        let mut transaction = shared.store.begin().await?;
        let used = source_dependencies(&mut transaction, org, name).await?;
        self.uses_web = used.iter().any(|input| input.kind == InputKind::Http);
        self.uses_secrets = used.iter().any(|input| input.kind == InputKind::Secret);
        if !self.only_waits && source_has_problems(&mut transaction, org, name).await? {
            return Ok(true);
        }
        let missing = input_values(&mut transaction, org, Some(name)).await?;
        if missing.iter().any(|row| row.reason.is_none())
            || !missing.is_empty() && self.absent.is_old(shared.clock.now())
        {
            return Ok(true);
        }
        if self.children_moved(&mut transaction).await? {
            return Ok(true);
        }
        if used.is_empty() && missing.is_empty() {
            self.quiet_since = Some(shared.clock.now());
            return Ok(false);
        }
        let local = shared.config.allow_local_repositories;
        let repositories = Repositories::stored(&mut transaction, org, local, None).await?;
        drop(transaction);
        for PinnedInput { repository, revision, commit, kind, tree, .. } in used {
            if kind == InputKind::Secret {
                if self.secret_moved(&revision, tree).await {
                    // Until it is applied: what was heard is not heard as news again.
                    self.stale = true;
                    return Ok(true);
                }
                continue;
            }
            // It was redefined or removed: find out what that means for the fleets.
            let Ok(url) = repositories.url(&repository, kind) else { return Ok(true) };
            let credential = repositories.credential(&repository);
            let moved = match kind {
                InputKind::Git => {
                    let (place, at) = ((url, credential), (revision.as_str(), commit.as_str()));
                    shared.dependencies.moved(&shared.git, &repository, place, at, &self.errand).await
                }
                InputKind::Http => match file_url(url, &revision) {
                    Ok(url) => shared.web.moved((&url, credential), &commit, &self.errand).await,
                    Err(_) => true,
                },
                InputKind::Secret => continue,
            };
            if moved {
                return Ok(true);
            }
        }
        let appeared = !missing.is_empty() && self.absent.may_be_there(&shared, &self.errand, &repositories).await;
        if !appeared {
            shared.web.names(name, self.errand.files());
        }
        Ok(appeared)
    }

    /// Whether a ResourceSync of this source leads elsewhere by now, because its Repository changed in another source. One
    /// that leads nowhere any more changed nothing.
    async fn children_moved(&self, connection: &mut PgConnection) -> Result<bool, StoreError> {
        let (shared, org) = (&self.shared, self.shared.config.org);
        let stored = manifest_documents(&mut *connection, org, Kind::ResourceSync, None).await?;
        let own = stored.into_iter().filter(|stored| stored.source == self.definition.name && !stored.leaving);
        let own: Vec<Manifest> =
            own.filter_map(|stored| Manifest::from_document(Kind::ResourceSync, stored.document).ok()).collect();
        if own.is_empty() {
            return Ok(false);
        }
        let repositories =
            Repositories::stored(&mut *connection, org, shared.config.allow_local_repositories, None).await?;
        let present = list_sources(&mut *connection, org).await?;
        for manifest in &own {
            let Manifest::ResourceSync(sync) = manifest else { continue };
            let Ok(child) = child_source(sync, &repositories) else { continue };
            let moved = present.iter().find(|row| row.definition.name == child.name && !row.leaving);
            if moved.is_some_and(|row| row.definition.origin == child.origin && row.definition != child) {
                info!(source = child.name, "The Repository of a source that a ResourceSync brings in has changed");
                return Ok(true);
            }
        }
        Ok(false)
    }
}
