//! From a tree to desired state: what the service would make of it, with the files of every `gitRef` pinned from the tree
//! itself or from local clones of other repositories.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use fleet_lint::codes::{self, Code};
use fleet_lint::{LintConfig, PlacedManifest, TreeReport, check_tree};
use fleet_model::{
    ConfigSource, DeviceSpec, Diagnostic, Digest, GitRef, Manifest, Repository, RepositorySpec, SELF_REPOSITORY,
    Severity,
};
use fleet_render::plan::{DeviceState, FleetState, InputFacts, ObjectState, Revision, State, Target};
use fleet_render::{PinnedInputs, Prepared, canonical, literal_prefix};

use super::Tree;
use super::clones::Clones;
use super::pins::{Pinned, Unusable, files, own_files};

/// What can be done about files that cannot be taken.
const FIX: &str = "a gitRef takes regular files that Git itself holds: put the file in the place of a link or submodule, and \
    take it out of Git LFS";

/// What was made of a tree.
#[derive(Debug)]
pub(crate) struct Built {
    /// Desired state. Complete only when no finding is an error.
    pub(crate) state: State,
    /// The manifests.
    pub(crate) report: TreeReport,
    /// Everything that lint and the service would say.
    pub(crate) findings: Vec<Diagnostic>,
}

/// Makes desired state of a tree. `config` says how severe findings are: that of the tree itself, or that of the commit
/// that is in force.
pub(crate) fn build(tree: &Tree, config: Option<&[u8]>, clones: &Clones) -> Built {
    let (in_force, own) = match (config, tree.lint_config.as_deref()) {
        (None, None) => (LintConfig::default(), Vec::new()),
        (Some(in_force), own) => {
            let of_own = own.map(|bytes| LintConfig::parse(bytes).1);
            (LintConfig::parse(in_force).0, of_own.unwrap_or_default())
        }
        (None, Some(own)) => LintConfig::parse(own),
    };
    let mut report = check_tree(&tree.files, tree.all_paths.as_ref(), &in_force);
    let mut findings = own;
    findings.append(&mut report.diagnostics);
    let (state, unusable) = with_files(tree, clones, &report);
    let mut more = not_said(unusable, &findings);
    findings.append(&mut more);
    Built { state, report, findings }
}

/// What the service would refuse although the manifests are good: files that cannot be brought to devices.
pub(crate) fn unusable_files(tree: &Tree, report: &TreeReport) -> Vec<Diagnostic> {
    not_said(with_files(tree, &Clones::default(), report).1, &report.diagnostics)
}

fn with_files(tree: &Tree, clones: &Clones, report: &TreeReport) -> (State, Vec<Diagnostic>) {
    let mut builder =
        Builder { tree, clones, repositories: repositories(report), known: HashMap::new(), findings: Vec::new() };
    let mut state = State::default();
    for placed in &report.manifests {
        builder.add(placed, &mut state);
    }
    (state, builder.findings)
}

/// Without findings at places of which an error is known: that says the same, and more.
fn not_said(findings: Vec<Diagnostic>, known: &[Diagnostic]) -> Vec<Diagnostic> {
    let errors = known.iter().filter(|finding| finding.severity == Severity::Error);
    let said: HashSet<(&str, u32)> = errors.map(|finding| (finding.file.as_str(), finding.line)).collect();
    findings.into_iter().filter(|finding| !said.contains(&(finding.file.as_str(), finding.line))).collect()
}

struct Builder<'a> {
    tree: &'a Tree,
    clones: &'a Clones,
    /// The Repositories of the tree; the error says why one is of no use.
    repositories: BTreeMap<String, Result<(), String>>,
    /// What was pinned before, by repository, revision and path.
    known: HashMap<(String, String, String), Result<Pinned, Unusable>>,
    findings: Vec<Diagnostic>,
}

impl Builder<'_> {
    fn add(&mut self, placed: &PlacedManifest, state: &mut State) {
        let (parsed, manifest) = (placed.parsed(), placed.manifest());
        let name = manifest.name().to_owned();
        let object = ObjectState {
            digest: Digest::of(&canonical::to_vec(&parsed.document)),
            file: placed.path().to_owned(),
            line: parsed.line,
        };
        match manifest {
            Manifest::Fleet(fleet) => {
                let template = &fleet.spec.template.spec;
                let fleet = FleetState {
                    selector: fleet.spec.selector.clone(),
                    target: self.target(placed, template, "/spec/template/spec", Prepared::new),
                    has_rollout_policy: fleet.spec.rollout_policy.is_some(),
                };
                state.fleets.insert(name.clone(), fleet);
            }
            Manifest::Device(device) => {
                let own = device.spec.as_ref();
                let device = DeviceState {
                    labels: device.metadata.labels.clone(),
                    target: own.map(|spec| self.target(placed, spec, "/spec", Prepared::stand_alone)),
                };
                state.devices.insert(name.clone(), device);
            }
            Manifest::Repository(_)
            | Manifest::ResourceSync(_)
            | Manifest::EnrollmentPolicy(_)
            | Manifest::SyncPolicy(_) => {}
        }
        state.objects.insert((manifest.kind(), name), object);
    }

    fn target<E: std::fmt::Display>(
        &mut self,
        placed: &PlacedManifest,
        spec: &DeviceSpec,
        at: &str,
        prepare: impl Fn(&DeviceSpec, PinnedInputs) -> Result<Prepared, E>,
    ) -> Target {
        if let Some(reason) = &placed.parsed().waits {
            return Target::Waits(reason.clone());
        }
        let (mut facts, mut pinned) = (Vec::new(), PinnedInputs::new());
        for (index, provider) in spec.config.iter().flatten().enumerate() {
            let ConfigSource::GitRef(git_ref) = &provider.source else { continue };
            let (files, commit, tree) = match self.pin(git_ref) {
                Ok(pinned) => pinned,
                Err(Unusable::Elsewhere(reason)) => return Target::Waits(reason),
                Err(Unusable::Wrong(reason)) => {
                    let pointer = format!("{at}/config/{index}/gitRef/path");
                    self.findings.push(finding_at(placed, codes::UNUSABLE_INPUT, &pointer, reason.clone()));
                    return Target::Waits(reason);
                }
            };
            let revision = match git_ref.repository == SELF_REPOSITORY {
                true => "HEAD".to_owned(),
                false => git_ref.target_revision.clone().unwrap_or_default(),
            };
            let (provider, repository) = (provider.name.clone(), git_ref.repository.clone());
            pinned.insert(provider.clone(), files);
            facts.push(InputFacts { provider, repository, revision, commit, tree });
        }
        match prepare(spec, pinned) {
            Ok(prepared) => Target::Revision(Arc::new(Revision::new(spec, Arc::new(prepared), facts))),
            Err(error) => {
                let reason = error.to_string();
                // Files of another repository are not this tree's fault.
                if facts.iter().all(|input| input.repository == SELF_REPOSITORY) {
                    self.findings.push(finding_at(placed, codes::NOT_RENDERABLE, at, reason.clone()));
                }
                Target::Waits(reason)
            }
        }
    }

    fn pin(&mut self, git_ref: &GitRef) -> Result<Pinned, Unusable> {
        let path = literal_prefix(&git_ref.path).map_err(|problem| Unusable::Wrong(problem.to_string()))?;
        let revision = git_ref.target_revision.clone().unwrap_or_default();
        let own = git_ref.repository == SELF_REPOSITORY;
        let key = (git_ref.repository.clone(), if own { String::new() } else { revision.clone() }, path.clone());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let pinned =
            if own { own_files(self.tree, &path) } else { self.elsewhere(&git_ref.repository, &revision, &path) };
        self.known.insert(key, pinned.clone());
        pinned
    }

    fn elsewhere(&self, name: &str, revision: &str, path: &str) -> Result<Pinned, Unusable> {
        if let Some(Err(reason)) = self.repositories.get(name) {
            return Err(Unusable::Elsewhere(reason.clone()));
        }
        let Some(clone) = self.clones.by_name.get(name) else {
            let known = if self.repositories.contains_key(name) { "" } else { ", which is not defined here," };
            let reason = format!(
                "it takes files from Repository {name:?}{known} and no local clone of that is named; \
                 name one: --repository {name}=DIR"
            );
            return Err(Unusable::Elsewhere(reason));
        };
        let at = clone.revision.as_deref().unwrap_or(revision);
        let failed = |why: String| Unusable::Elsewhere(format!("Repository {name} at {at}: {why}"));
        let commit = clone.resolve(revision).map_err(|error| failed(error.to_string()))?;
        let tree = super::revision::entries_only(&clone.repo, &commit).map_err(|error| failed(error.to_string()))?;
        files(&tree, path, commit.short(), commit.as_str()).map_err(failed)
    }
}

fn repositories(report: &TreeReport) -> BTreeMap<String, Result<(), String>> {
    let of = |repository: &Repository| {
        let name = repository.metadata.name.clone()?;
        let usable = match repository.spec {
            RepositorySpec::Git { .. } => Ok(()),
            RepositorySpec::Http { .. } | RepositorySpec::Oci { .. } => {
                Err(format!("Repository {name} is not of type git"))
            }
        };
        Some((name, usable))
    };
    report
        .manifests
        .iter()
        .filter_map(|placed| match placed.manifest() {
            Manifest::Repository(repository) => of(repository),
            Manifest::Fleet(_)
            | Manifest::Device(_)
            | Manifest::ResourceSync(_)
            | Manifest::EnrollmentPolicy(_)
            | Manifest::SyncPolicy(_) => None,
        })
        .collect()
}

fn finding_at(placed: &PlacedManifest, code: Code, pointer: &str, message: String) -> Diagnostic {
    let parsed = placed.parsed();
    let (line, column, end_line, end_column) = match parsed.span(pointer).or_else(|| parsed.span("")) {
        Some(span) => (span.line, span.column, span.end_line, span.end_column),
        None => (parsed.line, parsed.column, parsed.line, parsed.column),
    };
    Diagnostic {
        code: code.code.to_owned(),
        severity: code.severity,
        message,
        file: placed.path().to_owned(),
        line,
        column,
        end_line,
        end_column,
        pointer: pointer.to_owned(),
        hint: (code == codes::UNUSABLE_INPUT).then(|| FIX.to_owned()),
    }
}
