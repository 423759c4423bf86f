//! From a checked commit to rows: manifests, fleets, revisions with their pinned files, and further sources.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use fleet_git::GitError;
use fleet_lint::codes::{self, Code};
use fleet_lint::{PlacedManifest, TreeReport};
use fleet_model::{
    ConfigProvider, ConfigSource, DeviceSpec, Diagnostic, Digest, Fleet, Kind, LabelSelector, Labels, Manifest,
    ResourceSync, SELF_REPOSITORY,
};
use fleet_render::plan::Revision;
use fleet_render::{PinnedInputs, Prepared, canonical};
use fleet_store::{
    FleetRow, InputKind, InputValueRow, ManifestRow, PinnedInput, RevisionRow, SourceDefinition, TreeFile,
};

use crate::absent::Place;
use crate::inputs::{InputProblem, InputReader, Inputs, ResolvedInput};
use crate::repositories::Repositories;
use crate::revisions::{RevisionKey, input_facts, stand_alone_owner};

/// Everything a commit says, ready to be written.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    /// All manifests.
    pub(crate) manifests: Vec<ManifestRow>,
    /// All fleets.
    pub(crate) fleets: Vec<FleetRow>,
    /// Their revisions, and those of devices with a specification of their own.
    pub(crate) revisions: Vec<RevisionRow>,
    /// The same, ready to render.
    pub(crate) prepared: HashMap<RevisionKey, Arc<Revision>>,
    /// Labels of the devices among the manifests, by name.
    pub(crate) device_labels: BTreeMap<String, Labels>,
    /// Fleets with a rollout policy.
    pub(crate) rollout_policies: BTreeSet<String>,
    /// Pinned directories, by digest.
    pub(crate) trees: BTreeMap<Digest, Vec<TreeFile>>,
    /// Contents of pinned files.
    pub(crate) blobs: BTreeMap<Digest, Arc<[u8]>>,
    /// Sources that ResourceSyncs bring in.
    pub(crate) child_sources: Vec<SourceDefinition>,
    /// What it takes content from: names of Repositories and revisions, `HEAD` for any.
    pub(crate) takes: BTreeSet<(String, String)>,
    /// Values of placeholders that nothing could be pinned for, and those for which nothing was when the look began.
    pub(crate) missing_values: Vec<InputValueRow>,
    pub(crate) missing_before: Vec<InputValueRow>,
    /// Where those were looked for.
    pub(crate) absent: Vec<Place>,
    /// Why secrets that are in use could not be read: what was pinned last stays.
    pub(crate) unreadable: BTreeSet<String>,
    /// Objects that wait for other repositories.
    pub(crate) problems: usize,
    /// Objects that wait for a version of the service that can carry them out.
    pub(crate) waiting: usize,
}

/// Why no rows could be made of a commit.
#[derive(Debug)]
pub(crate) enum BuildError {
    /// The commit is wrong.
    Refused(Vec<Diagnostic>),
    /// Our own reading failed; try again later.
    Retry(GitError),
}

/// A finding at a value of a manifest.
pub(crate) fn finding_at(
    placed: &PlacedManifest,
    code: Code,
    pointer: &str,
    message: impl Into<String>,
    hint: Option<String>,
) -> Diagnostic {
    let parsed = placed.parsed();
    let (line, column, end_line, end_column) = match parsed.span(pointer).or_else(|| parsed.span("")) {
        Some(span) => (span.line, span.column, span.end_line, span.end_column),
        None => (parsed.line, parsed.column, parsed.line, parsed.column),
    };
    Diagnostic {
        code: code.code.to_owned(),
        severity: code.severity,
        message: message.into(),
        file: placed.path().to_owned(),
        line,
        column,
        end_line,
        end_column,
        pointer: pointer.to_owned(),
        hint,
    }
}

/// A finding about a file as a whole.
pub(crate) fn finding_in_file(file: &str, code: Code, message: impl Into<String>) -> Diagnostic {
    Diagnostic {
        code: code.code.to_owned(),
        severity: code.severity,
        message: message.into(),
        file: file.to_owned(),
        line: 1,
        column: 1,
        end_line: 1,
        end_column: 1,
        pointer: String::new(),
        hint: None,
    }
}

/// Makes rows of a checked commit, pinning every input.
///
/// # Errors
/// When an input in the commit itself is wrong, or the worker fails.
pub(crate) async fn build(
    report: &TreeReport,
    source: &str,
    reader: &mut InputReader<'_>,
) -> Result<Desired, BuildError> {
    let built = rows(report, source, reader).await;
    reader.contents.end_of_build();
    built
}

async fn rows(report: &TreeReport, source: &str, reader: &mut InputReader<'_>) -> Result<Desired, BuildError> {
    let mut desired = Desired { missing_before: reader.subjects.missing.clone(), ..Desired::default() };
    let mut findings = Vec::new();
    let commit = reader.snapshot.commit.to_string();
    for placed in &report.manifests {
        let mut row = manifest_row(placed);
        desired.takes.extend(taken_from(placed.manifest()));
        let waits = placed.parsed().waits.as_ref();
        if let Some(waits) = waits {
            desired.waiting += 1;
            row.problem = Some(waits.clone());
        }
        match placed.manifest() {
            Manifest::Fleet(fleet) => {
                if fleet.spec.rollout_policy.is_some() {
                    desired.rollout_policies.insert(row.name.clone());
                }
                let (revision, problem) = match waits {
                    Some(waits) => (None, Some(waits.clone())),
                    None => {
                        let spec = &fleet.spec.template.spec;
                        let audience = Some(fleet.spec.selector.as_ref());
                        let made = make_revision(
                            placed,
                            spec,
                            "/spec/template/spec",
                            &row.name,
                            audience,
                            reader,
                            Prepared::new,
                        )
                        .await?;
                        desired.take(made, &row.name, source, &commit, &mut findings)
                    }
                };
                // A fleet's problem stands in its own row.
                row.problem = None;
                desired.fleets.push(fleet_row(fleet, source, revision, problem));
            }
            Manifest::Device(device) => {
                desired.device_labels.insert(row.name.clone(), device.metadata.labels.clone());
                if let (Some(spec), None) = (&device.spec, waits) {
                    let owner = stand_alone_owner(&row.name);
                    let made =
                        make_revision(placed, spec, "/spec", &owner, None, reader, Prepared::stand_alone).await?;
                    (row.revision, row.problem) = desired.take(made, &owner, source, &commit, &mut findings);
                }
            }
            Manifest::ResourceSync(_) if waits.is_some() => {}
            Manifest::ResourceSync(sync) => match child_source(sync, reader.repositories) {
                Ok(child) => desired.child_sources.push(child),
                Err(problem) => {
                    desired.problems += 1;
                    row.problem = Some(problem);
                }
            },
            Manifest::Repository(_) | Manifest::EnrollmentPolicy(_) | Manifest::SyncPolicy(_) => {}
        }
        desired.manifests.push(row);
    }
    desired.unreadable = std::mem::take(&mut reader.unreadable);
    if findings.is_empty() { Ok(desired) } else { Err(BuildError::Refused(findings)) }
}

/// What became of one specification.
enum Made {
    Revision { revision: Arc<Revision>, template: serde_json::Value, inputs: Inputs },
    Problem(String),
    Finding(Box<Diagnostic>),
}

async fn make_revision<E: std::fmt::Display>(
    placed: &PlacedManifest,
    spec: &DeviceSpec,
    at: &str,
    owner: &str,
    fleet: Option<Option<&LabelSelector>>,
    reader: &mut InputReader<'_>,
    prepare: impl Fn(&DeviceSpec, PinnedInputs) -> Result<Prepared, E>,
) -> Result<Made, BuildError> {
    let inputs = match reader.resolve(owner, spec, fleet).await {
        Ok(inputs) => inputs,
        Err((index, InputProblem::Commit(reason))) => {
            let pointer = format!("{at}/config/{index}/gitRef/path");
            return Ok(Made::Finding(Box::new(finding_at(placed, codes::UNUSABLE_INPUT, &pointer, reason, None))));
        }
        Err((_, InputProblem::Elsewhere(reason) | InputProblem::Away(reason))) => return Ok(Made::Problem(reason)),
        Err((_, InputProblem::Retry(error))) => return Err(BuildError::Retry(error)),
    };
    let mut pinned = PinnedInputs::new();
    for ResolvedInput { record, tree } in &inputs.pinned {
        pinned.insert_value(record.provider.clone(), record.value.clone(), tree.clone());
    }
    let prepared = match prepare(spec, pinned) {
        Ok(prepared) => Arc::new(prepared),
        Err(error) => {
            // Files of another repository are not this commit's fault.
            let own = inputs.pinned.iter().all(|input| input.record.repository == fleet_model::SELF_REPOSITORY);
            let reason = error.to_string();
            return Ok(match own {
                true => Made::Finding(Box::new(finding_at(placed, codes::NOT_RENDERABLE, at, reason, None))),
                false => Made::Problem(reason),
            });
        }
    };
    let facts = inputs.pinned.iter().map(|input| input_facts(&input.record)).collect();
    let revision = Arc::new(Revision::new(spec, prepared, facts));
    if let Some(problem) = reader.restored.and_then(|pins| pins.differs(owner, spec, &revision.name)) {
        return Ok(Made::Problem(problem));
    }
    let template = serde_json::to_value(spec).map_err(|error| {
        BuildError::Refused(vec![finding_at(placed, codes::NOT_RENDERABLE, at, error.to_string(), None)])
    })?;
    Ok(Made::Revision { revision, template, inputs })
}

impl Desired {
    /// Whether files of web servers are part of it.
    pub(crate) fn uses_web(&self) -> bool {
        self.revisions.iter().flat_map(|row| &row.inputs).any(|input| input.kind == InputKind::Http)
    }

    /// Whether secrets are part of it.
    pub(crate) fn uses_secrets(&self) -> bool {
        self.revisions.iter().flat_map(|row| &row.inputs).any(|input| input.kind == InputKind::Secret)
    }

    /// Keeps what was made; returns the revision's name and the problem, of which at most one is there.
    fn take(
        &mut self,
        made: Made,
        owner: &str,
        source: &str,
        commit: &str,
        findings: &mut Vec<Diagnostic>,
    ) -> (Option<String>, Option<String>) {
        match made {
            Made::Finding(finding) => {
                findings.push(*finding);
                (None, None)
            }
            Made::Problem(problem) => {
                self.problems += 1;
                (None, Some(problem))
            }
            Made::Revision { revision, template, inputs } => {
                let (name, digest) = (revision.name.clone(), revision.digest);
                self.prepared.insert((owner.to_owned(), name.clone()), revision);
                for input in &inputs.pinned {
                    self.keep_tree(input);
                }
                self.absent.extend(inputs.absent);
                self.missing_values.extend(inputs.missing.into_iter().map(|(provider, value, reason)| InputValueRow {
                    fleet: owner.to_owned(),
                    provider,
                    value,
                    reason: Some(reason),
                }));
                let inputs: Vec<PinnedInput> = inputs.pinned.into_iter().map(|input| input.record).collect();
                self.revisions.push(RevisionRow {
                    fleet: owner.to_owned(),
                    name: name.clone(),
                    digest,
                    template,
                    inputs,
                    source: source.to_owned(),
                    commit: commit.to_owned(),
                });
                (Some(name), None)
            }
        }
    }

    fn keep_tree(&mut self, input: &ResolvedInput) {
        let mut files = Vec::new();
        for file in input.tree.files() {
            let digest = Digest::of(&file.content);
            let seal = file.seal.map(|seal| Digest::from(*seal.as_bytes()));
            files.push(TreeFile { path: file.path.clone(), mode: file.mode, digest, seal });
            self.blobs.entry(digest).or_insert_with(|| Arc::clone(&file.content));
        }
        self.trees.insert(input.record.tree, files);
    }
}

/// The Repositories that a manifest takes content from, with the revisions. Which ones placeholders lead to is known for each
/// device alone: those count as any.
fn taken_from(manifest: &Manifest) -> Vec<(String, String)> {
    let spec = match manifest {
        Manifest::Fleet(fleet) => Some(&fleet.spec.template.spec),
        Manifest::Device(device) => device.spec.as_ref(),
        Manifest::Repository(_)
        | Manifest::ResourceSync(_)
        | Manifest::EnrollmentPolicy(_)
        | Manifest::SyncPolicy(_) => None,
    };
    let taken = |provider: &ConfigProvider| match &provider.source {
        ConfigSource::GitRef(git_ref) if git_ref.repository != SELF_REPOSITORY => {
            let revision = git_ref.target_revision.clone().filter(|name| !name.is_empty() && !name.contains("{{"));
            Some((git_ref.repository.clone(), revision.unwrap_or_else(|| "HEAD".to_owned())))
        }
        ConfigSource::GitRef(_) | ConfigSource::HttpRef(_) | ConfigSource::SecretRef(_) | ConfigSource::Inline(_) => {
            None
        }
    };
    spec.into_iter().flat_map(|spec| spec.config.iter().flatten()).filter_map(taken).collect()
}

fn manifest_row(placed: &PlacedManifest) -> ManifestRow {
    let parsed = placed.parsed();
    ManifestRow {
        kind: placed.manifest().kind(),
        name: placed.manifest().name().to_owned(),
        file: placed.path().to_owned(),
        line: parsed.line,
        end_line: parsed.end_line,
        digest: Digest::of(&canonical::to_vec(&parsed.document)),
        document: parsed.document.clone(),
        revision: None,
        problem: None,
    }
}

fn fleet_row(fleet: &Fleet, source: &str, revision: Option<String>, problem: Option<String>) -> FleetRow {
    FleetRow {
        name: fleet.metadata.name.clone().unwrap_or_default(),
        source: source.to_owned(),
        selector: fleet.spec.selector.clone(),
        revision,
        problem,
    }
}

/// The source that a ResourceSync brings in.
///
/// # Errors
/// A sentence about its Repository.
pub(crate) fn child_source(sync: &ResourceSync, repositories: &Repositories) -> Result<SourceDefinition, String> {
    let name = sync.metadata.name.clone().unwrap_or_default();
    let url = repositories.url(&sync.spec.repository, InputKind::Git)?.to_owned();
    Ok(SourceDefinition {
        origin: format!("{}/{name}", Kind::ResourceSync),
        name,
        url,
        credential: repositories.credential(&sync.spec.repository).map(str::to_owned),
        revision: sync.spec.target_revision.clone(),
        path: sync.spec.path.clone(),
    })
}
