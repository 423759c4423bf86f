//! Sources that this one brings in and whose Repositories another source defines: they follow those.

use fleet_model::{Kind, Manifest};
use fleet_store::{PgConnection, StoreError, list_sources, manifest_documents};
use tracing::info;

use super::Source;
use crate::desired::child_source;
use crate::repositories::Repositories;

impl Source {
    /// Whether a ResourceSync of this source leads elsewhere by now, because its Repository changed in another source. One
    /// that leads nowhere any more changed nothing.
    pub(super) async fn children_moved(&self, connection: &mut PgConnection) -> Result<bool, StoreError> {
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
