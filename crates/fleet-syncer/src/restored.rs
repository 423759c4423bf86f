//! What the commit in force had from elsewhere, when desired state is made again: exactly that or nothing. Other
//! repositories, web servers and secrets may have moved since, and the guard may have held that.
//!
//! A repository still has its old commits, mostly. Web servers and secrets have no history: their contents come back only
//! as long as they are the same. What does not come back waits with a reason: its devices keep their documents, and what is
//! there now is judged as any change is, against those documents.

use std::collections::HashMap;

use fleet_model::{ConfigProvider, ConfigSource, DeviceSpec, OrgId, SECRET_REPOSITORY, SELF_REPOSITORY};
use fleet_render::{InputValue, literal_prefix};
use fleet_store::{InputKind, PgConnection, PinnedInput, SourcePins, Store, StoreError, record_pins, source_pins};
use tracing::warn;

use crate::desired::Desired;
use crate::inputs::{InputProblem, InputReader, Inputs, ResolvedInput};
use crate::revisions::stand_alone_owner;
use crate::values::value_of;

/// What was in force with the position of a source, by owner.
#[derive(Debug, Default)]
pub(crate) struct PositionPins(HashMap<String, SourcePins>);

impl PositionPins {
    /// Reads what was noted when the position's commit was applied.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn read(store: &Store, org: OrgId, source: &str) -> Result<Self, StoreError> {
        let mut transaction = store.begin().await?;
        let pins = source_pins(&mut transaction, org, source).await?;
        Ok(Self(pins.into_iter().map(|pins| (pins.owner.clone(), pins)).collect()))
    }

    /// Why a revision that was made now is not the one that was in force. Its name follows from its content.
    pub(crate) fn differs(&self, owner: &str, spec: &DeviceSpec, revision: &str) -> Option<String> {
        if !spec.config.iter().flatten().any(|provider| is_elsewhere(&provider.source)) {
            return None;
        }
        let before = self.0.get(owner)?;
        (before.revision != revision).then(|| {
            format!(
                "revision {} of {owner}, which was in force, cannot be made again from what is there now",
                before.revision
            )
        })
    }
}

/// Whether a provider's content is not of the source's own commit.
fn is_elsewhere(source: &ConfigSource) -> bool {
    match source {
        ConfigSource::Inline(_) => false,
        ConfigSource::GitRef(git) => git.repository != SELF_REPOSITORY,
        ConfigSource::HttpRef(_) | ConfigSource::SecretRef(_) => true,
    }
}

/// Notes what is in force of content from elsewhere, in the transaction that moves the position.
///
/// # Errors
/// When the database fails.
pub(crate) async fn note_pins(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    desired: &Desired,
) -> Result<(), StoreError> {
    let elsewhere = |input: &&PinnedInput| input.repository != SELF_REPOSITORY;
    let pins: Vec<SourcePins> = desired
        .revisions
        .iter()
        .map(|row| SourcePins {
            owner: row.fleet.clone(),
            revision: row.name.clone(),
            inputs: row.inputs.iter().filter(elsewhere).cloned().collect(),
        })
        .filter(|pins| !pins.inputs.is_empty())
        .collect();
    // In force is what they had, here or before desired state was dropped.
    let fleets = desired.fleets.iter().filter(|fleet| fleet.revision.is_none()).map(|fleet| fleet.name.clone());
    let devices = desired.manifests.iter().filter(|row| row.revision.is_none() && row.problem.is_some());
    let waiting: Vec<String> = fleets.chain(devices.map(|row| stand_alone_owner(&row.name))).collect();
    record_pins(connection, org, source, &pins, &waiting).await
}

impl InputReader<'_> {
    /// As [`InputReader::resolve`], with what was pinned for `owner` and nothing else.
    pub(crate) async fn resolve_restored(
        &mut self,
        pins: &PositionPins,
        owner: &str,
        spec: &DeviceSpec,
        is_template: bool,
    ) -> Result<Inputs, (usize, InputProblem)> {
        let mut inputs = Inputs::default();
        for (index, provider) in spec.config.iter().flatten().enumerate() {
            let at = |problem| (index, problem);
            if !is_elsewhere(&provider.source) {
                inputs.pinned.extend(self.resolve_one(provider, &provider.source).await.map_err(at)?);
                continue;
            }
            let unknown = || at(InputProblem::Away(format!("what {owner} had of {} is not known", provider.name)));
            let before = pins.0.get(owner).ok_or_else(unknown)?;
            let of_provider: Vec<&PinnedInput> =
                before.inputs.iter().filter(|input| input.provider == provider.name).collect();
            let has_values = value_of(provider, is_template).is_some();
            if !has_values && of_provider.len() != 1 {
                return Err(unknown());
            }
            for record in of_provider {
                let source = match (&record.value, has_values) {
                    (Some(value), true) => InputValue::apply(&provider.source, value),
                    (None, false) => provider.source.clone(),
                    (Some(_), false) | (None, true) => return Err(unknown()),
                };
                let restored = self.restore_one(provider, &source, record).await;
                inputs.pinned.push(restored.map_err(|problem| {
                    warn!(
                        owner,
                        repository = record.repository,
                        revision = record.revision,
                        commit = record.commit,
                        ?problem,
                        "What was in force cannot be brought back; devices keep what they have"
                    );
                    at(problem)
                })?);
            }
        }
        Ok(inputs)
    }

    async fn restore_one(
        &mut self,
        provider: &ConfigProvider,
        source: &ConfigSource,
        record: &PinnedInput,
    ) -> Result<ResolvedInput, InputProblem> {
        let (kind, repository, revision) = match source {
            ConfigSource::Inline(_) => (InputKind::Git, SELF_REPOSITORY, String::new()),
            ConfigSource::GitRef(git) => {
                (InputKind::Git, git.repository.as_str(), git.target_revision.clone().unwrap_or_default())
            }
            ConfigSource::HttpRef(http) => {
                (InputKind::Http, http.repository.as_str(), http.suffix.clone().unwrap_or_default())
            }
            ConfigSource::SecretRef(secret) => {
                (InputKind::Secret, SECRET_REPOSITORY, format!("{}/{}", secret.namespace, secret.name))
            }
        };
        let url = self.repositories.shown_url(repository, kind);
        let asked = (kind, repository, revision.as_str());
        if asked != (record.kind, &record.repository, &record.revision) || record.url.is_some() && record.url != url {
            let what = format!(
                "what was in force of {} came from {} at {:?}",
                provider.name, record.repository, record.revision
            );
            return Err(InputProblem::Away(what));
        }
        let restored = match source {
            ConfigSource::GitRef(git) => {
                let path = literal_prefix(&git.path).map_err(|problem| InputProblem::Commit(problem.to_string()))?;
                self.resolve_git_at(provider, git, &path, &record.commit).await
            }
            ConfigSource::HttpRef(_) | ConfigSource::SecretRef(_) | ConfigSource::Inline(_) => {
                match self.resolve_one(provider, source).await? {
                    Some(now) => Ok(now),
                    None => Err(InputProblem::Away(format!("{} has no content elsewhere", provider.name))),
                }
            }
        }?;
        if restored.record.tree != record.tree {
            let what = match kind {
                InputKind::Git => format!("Repository {repository} has other files at commit {}", record.commit),
                InputKind::Http => format!("Repository {repository} has other contents at {revision:?} by now"),
                InputKind::Secret => format!("the secret {revision} has other contents by now"),
            };
            return Err(InputProblem::Away(format!("{what}; those in force cannot be brought back")));
        }
        Ok(ResolvedInput { record: record.clone(), ..restored })
    }
}

#[cfg(test)]
mod tests;
