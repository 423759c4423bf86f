//! From a tree to desired state: what the service would make of it, with the files of every `gitRef` pinned from the tree
//! itself or from local clones of other repositories.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use fleet_lint::codes::{self, Code};
use fleet_lint::{LintConfig, PlacedManifest, TreeReport, check_tree};
use fleet_model::{
    ConfigProvider, ConfigSource, DeviceSpec, Diagnostic, Digest, GitRef, HttpRef, LabelSelector, Labels, Manifest,
    Repository, RepositorySpec, SECRET_REPOSITORY, SELF_REPOSITORY, SecretRef, Severity,
};
use fleet_render::ownership::labels_in_force;
use fleet_render::plan::{DeviceState, FleetState, InputFacts, ObjectState, Revision, State, Target};
use fleet_render::{
    InputValue, PinnedFile, PinnedInputs, PinnedTree, Prepared, Seal, Subject, canonical, literal_prefix, tree_digest,
};

use super::Tree;
use super::clones::Clones;
use super::pins::{Pinned, Unusable, files, own_files};

/// What can be done about files that cannot be taken.
const FIX: &str = "a gitRef takes regular files that Git itself holds: put the file in the place of a link or submodule, and \
    take it out of Git LFS";
/// The file that stands for all files of a secret.
const STAND_IN_KEY: &str = "KEYS-OF-THE-SECRET";

/// What was made of a tree.
#[derive(Debug)]
pub(crate) struct Built {
    /// Desired state. Complete only when no finding is an error.
    pub(crate) state: State,
    /// The manifests.
    pub(crate) report: TreeReport,
    /// Everything that lint and the service would say.
    pub(crate) findings: Vec<Diagnostic>,
    /// What only the service knows, and what it would not find, one sentence each.
    pub(crate) remarks: Vec<String>,
}

/// Devices that placeholders are evaluated for besides those with a manifest: names with labels of their enrolment.
pub(crate) type Thought = Vec<(String, Labels)>;

/// Makes desired state of a tree. `config` says how severe findings are: that of the tree itself, or that of the commit
/// that is in force.
pub(crate) fn build(tree: &Tree, config: Option<&[u8]>, clones: &Clones, thought: &Thought) -> Built {
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
    let (state, unusable, remarks) = with_files(tree, clones, &report, thought);
    let mut more = not_said(unusable, &findings);
    findings.append(&mut more);
    Built { state, report, findings, remarks }
}

/// What the service would refuse although the manifests are good: files that cannot be brought to devices.
pub(crate) fn unusable_files(tree: &Tree, report: &TreeReport) -> Vec<Diagnostic> {
    not_said(with_files(tree, &Clones::default(), report, &Thought::new()).1, &report.diagnostics)
}

fn with_files(
    tree: &Tree,
    clones: &Clones,
    report: &TreeReport,
    thought: &Thought,
) -> (State, Vec<Diagnostic>, Vec<String>) {
    let mut builder = Builder {
        tree,
        clones,
        repositories: repositories(report),
        subjects: subjects(report, thought),
        known: HashMap::new(),
        findings: Vec::new(),
        remarks: Vec::new(),
    };
    let mut state = State::default();
    for placed in &report.manifests {
        builder.add(placed, &mut state);
    }
    (state, builder.findings, builder.remarks)
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
    /// The devices that are known, with their labels.
    subjects: BTreeMap<String, Labels>,
    /// What was pinned before, by repository, revision and path.
    known: HashMap<(String, String, String), Result<Pinned, Unusable>>,
    findings: Vec<Diagnostic>,
    remarks: Vec<String>,
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
                    target: self.target(
                        placed,
                        template,
                        "/spec/template/spec",
                        Some(fleet.spec.selector.as_ref()),
                        Prepared::new,
                    ),
                    has_rollout_policy: fleet.spec.rollout_policy.is_some(),
                };
                state.fleets.insert(name.clone(), fleet);
            }
            Manifest::Device(device) => {
                let own = device.spec.as_ref();
                let device = DeviceState {
                    labels: device.metadata.labels.clone(),
                    target: own.map(|spec| self.target(placed, spec, "/spec", None, Prepared::stand_alone)),
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
        fleet: Option<Option<&LabelSelector>>,
        prepare: impl Fn(&DeviceSpec, PinnedInputs) -> Result<Prepared, E>,
    ) -> Target {
        if let Some(reason) = &placed.parsed().waits {
            return Target::Waits(reason.clone());
        }
        let (mut facts, mut pinned) = (Vec::new(), PinnedInputs::new());
        for (index, provider) in spec.config.iter().flatten().enumerate() {
            let sources = match self.sources(provider, fleet) {
                Ok(sources) => sources,
                Err(reason) => return Target::Waits(reason),
            };
            for (value, source) in sources {
                let found = match &source {
                    ConfigSource::Inline(_) => continue,
                    ConfigSource::GitRef(git_ref) => self.pin(git_ref),
                    ConfigSource::HttpRef(http) => self.unknown_file(placed, provider, http),
                    ConfigSource::SecretRef(secret) => self.unknown_secret(placed, secret),
                };
                let (files, commit, tree) = match (found, &value) {
                    (Ok(pinned), _) => pinned,
                    (Err(Unusable::Elsewhere(reason)), Some(value)) if self.is_at_hand(&source) => {
                        // Only the devices with this value are concerned.
                        let (kind, name) = (placed.manifest().kind(), placed.manifest().name());
                        self.remark(format!("{kind} {name}, {value:?} of provider {:?}: {reason}", provider.name));
                        continue;
                    }
                    (Err(Unusable::Elsewhere(reason)), _) => return Target::Waits(reason),
                    (Err(Unusable::Wrong(reason)), _) => {
                        let pointer = format!("{at}/config/{index}/gitRef/path");
                        self.findings.push(finding_at(placed, codes::UNUSABLE_INPUT, &pointer, reason.clone()));
                        return Target::Waits(reason);
                    }
                };
                let (repository, revision) = match source {
                    ConfigSource::GitRef(git) if git.repository == SELF_REPOSITORY => {
                        (git.repository, "HEAD".to_owned())
                    }
                    ConfigSource::GitRef(git) => (git.repository, git.target_revision.unwrap_or_default()),
                    ConfigSource::HttpRef(http) => (http.repository, http.suffix.unwrap_or_default()),
                    ConfigSource::SecretRef(secret) => {
                        (SECRET_REPOSITORY.to_owned(), format!("{}/{}", secret.namespace, secret.name))
                    }
                    ConfigSource::Inline(_) => continue,
                };
                let provider = provider.name.clone();
                pinned.insert_value(provider.clone(), value.clone(), files);
                facts.push(InputFacts { provider, value, repository, revision, commit, tree });
            }
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

    /// The provider as it is for each value of its placeholders; once and without a value where it has none.
    fn sources(
        &self,
        provider: &ConfigProvider,
        fleet: Option<Option<&LabelSelector>>,
    ) -> Result<Vec<(Option<String>, ConfigSource)>, String> {
        let value = fleet.and_then(|_| InputValue::of(&provider.source).ok().flatten());
        let Some(value) = value else { return Ok(vec![(None, provider.source.clone())]) };
        let selector = fleet.flatten();
        let meant =
            self.subjects.iter().filter(|(_, labels)| selector.is_some_and(|selector| selector.matches(labels)));
        let values: BTreeSet<String> =
            meant.filter_map(|(name, labels)| value.evaluate(&Subject { name, labels }).ok()).collect();
        if values.len() > fleet_render::MAX_VALUES {
            return Err(fleet_render::too_many_values(&provider.name, values.len()));
        }
        let source = |value: String| {
            let source = InputValue::apply(&provider.source, &value);
            (Some(value), source)
        };
        Ok(values.into_iter().map(source).collect())
    }

    /// Whether the contents can be looked for here at all.
    fn is_at_hand(&self, source: &ConfigSource) -> bool {
        match source {
            ConfigSource::GitRef(git) => self.clones.by_name.contains_key(&git.repository),
            ConfigSource::HttpRef(_) | ConfigSource::SecretRef(_) => true,
            ConfigSource::Inline(_) => false,
        }
    }

    /// Stands for a file whose contents only the service reads.
    fn unknown_file(
        &mut self,
        placed: &PlacedManifest,
        provider: &ConfigProvider,
        http: &HttpRef,
    ) -> Result<Pinned, Unusable> {
        let (kind, name) = (placed.manifest().kind(), placed.manifest().name().to_owned());
        let suffix = http.suffix.as_deref().unwrap_or_default();
        self.remark(format!(
            "{kind} {name}: the contents of {} come from a web server (Repository {}) and are known to the service \
             alone; a line that says so stands for them here",
            http.file_path, http.repository
        ));
        let content =
            format!("(contents of {suffix:?} of Repository {}, provider {:?})\n", http.repository, provider.name);
        stand_in("content", &content, false)
    }

    /// Stands for the files of a secret, of which not even the names are known.
    fn unknown_secret(&mut self, placed: &PlacedManifest, secret: &SecretRef) -> Result<Pinned, Unusable> {
        let (kind, name) = (placed.manifest().kind(), placed.manifest().name().to_owned());
        let place = format!("{}/{}", secret.namespace, secret.name);
        self.remark(format!(
            "{kind} {name}: keys and contents of the secret {place} are known to the service alone; one file \
             {}/{STAND_IN_KEY} stands for them here",
            secret.mount_path.trim_end_matches('/')
        ));
        stand_in(STAND_IN_KEY, &format!("(keys of the secret {place})\n"), true)
    }

    fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
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

/// Devices with a manifest, and those that are thought of.
fn subjects(report: &TreeReport, thought: &Thought) -> BTreeMap<String, Labels> {
    let mut manifests = BTreeMap::new();
    for placed in &report.manifests {
        if let Manifest::Device(device) = placed.manifest() {
            manifests.insert(placed.manifest().name().to_owned(), device.metadata.labels.clone());
        }
    }
    let mut all: BTreeMap<String, Labels> =
        manifests.iter().map(|(name, labels)| (name.clone(), labels_in_force(&Labels::new(), Some(labels)))).collect();
    for (name, labels) in thought {
        all.insert(name.clone(), labels_in_force(labels, manifests.get(name)));
    }
    all
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

/// One file with a line that stands for what only the service reads.
fn stand_in(path: &str, line: &str, secret: bool) -> Result<Pinned, Unusable> {
    let seal = secret.then(|| Seal::new(*Digest::of(line.as_bytes()).as_bytes()));
    let file = PinnedFile { path: path.to_owned(), mode: 0o644, content: Arc::from(line.as_bytes()), seal };
    let tree = PinnedTree::new(vec![file]).map_err(|problem| Unusable::Elsewhere(problem.to_string()))?;
    let digest = tree_digest(&tree);
    Ok((tree, String::new(), digest))
}
