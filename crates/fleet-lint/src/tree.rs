//! All files of a repository together: which files are manifests and which are content, and what refers to what.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub(crate) mod inventory;
mod placeholders;
mod settle;

use fleet_model::{Diagnostic, Kind, Manifest, RepositorySpec};

use crate::codes;
use crate::config::LintConfig;
use crate::finding::{Finding, Span, in_order, nearest};
use crate::overlap;
use crate::parse::{ParsedFile, ParsedManifest};
use crate::rules::{Reference, Target};
use crate::walk::is_candidate;

use inventory::Inventory;
use settle::Settling;
pub use settle::Suppressed;

/// A manifest and the file it stands in.
#[derive(Debug, Clone)]
pub struct PlacedManifest {
    /// The file.
    pub file: Arc<ParsedFile>,
    /// The manifest's place in `file.manifests`.
    pub index: usize,
}

impl PlacedManifest {
    /// The manifest with its document and places.
    pub fn parsed(&self) -> &ParsedManifest {
        &self.file.manifests[self.index]
    }

    /// The typed manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.parsed().manifest
    }

    /// The file's path from the repository's root.
    pub fn path(&self) -> &str {
        &self.file.path
    }
}

/// What is known of a repository.
#[derive(Debug, Default)]
pub struct TreeReport {
    /// The manifests of all files that are not content, by path and place in the file. Complete only when no diagnostic
    /// is an error.
    pub manifests: Vec<PlacedManifest>,
    /// The files and directories of this repository whose content manifests refer to, without outer slashes; for a path
    /// with placeholders the directory before the first one.
    pub config_paths: BTreeSet<String>,
    /// All findings: of each file that is not content, and across files, with the severities that the repository wants.
    /// In the order of file, line, column and code.
    pub diagnostics: Vec<Diagnostic>,
    /// Findings that comments suppress, in the same order.
    pub suppressed: Vec<Suppressed>,
}

/// Checks all files of a repository together.
///
/// `files` holds what [`parse_file`](crate::parse_file) made of every candidate, by path from the repository's root.
/// `all_paths` are the paths of all files of the commit, candidates or not; without them the existence of paths is not
/// checked. A file at or below a path that a `gitRef` with repository `.` names is content: it gives neither manifests
/// nor findings. `config` is what the repository wants; findings about the configuration itself come from
/// [`LintConfig::parse`] and are not repeated here.
pub fn check_tree(
    files: &BTreeMap<String, Arc<ParsedFile>>,
    all_paths: Option<&BTreeSet<String>>,
    config: &LintConfig,
) -> TreeReport {
    let mut files = Cow::Borrowed(files);
    if config.excludes_anything() {
        files.to_mut().retain(|path, _| !config.is_excluded(path));
    }
    let (content, mut diagnostics) = content_files(&files);
    let manifest_files: Vec<&Arc<ParsedFile>> =
        files.iter().filter(|(path, _)| !content.contains(path.as_str())).map(|(_, file)| file).collect();
    // With a part of the repository, nobody knows what the rest of it says.
    let is_read = |path: &&String| files.contains_key(*path) || config.is_excluded(path);
    let is_whole = all_paths.is_some_and(|all| all.iter().filter(|path| is_candidate(path)).all(|path| is_read(&path)));
    let mut report = TreeReport::default();
    // While a file is unreadable, nobody knows which others are content; those that name no kind may well be.
    let unsure = manifest_files.iter().any(|file| file.is_unreadable);
    for file in &manifest_files {
        if !unsure || file.has_kinds || file.is_unreadable {
            diagnostics.extend(file.diagnostics.iter().cloned());
        }
        for index in 0..file.manifests.len() {
            report.manifests.push(PlacedManifest { file: Arc::clone(file), index });
        }
        for reference in &file.references {
            if let Target::OwnPath(path) | Target::OwnDirectory(path) = &reference.target {
                report.config_paths.insert(path.clone());
            }
        }
    }
    duplicates(&manifest_files, &mut diagnostics);
    references(&manifest_files, all_paths, &mut diagnostics);
    let inventory = Inventory::new(&report.manifests);
    overlap::check(&inventory, &mut diagnostics);
    // What a fleet that cannot be read selects, nobody knows.
    let all_fleets = manifest_files.iter().flat_map(|file| &file.declared).filter(|d| d.kind == Kind::Fleet).count();
    let read_fleets = report.manifests.iter().filter(|placed| placed.manifest().kind() == Kind::Fleet).count();
    if !unsure && is_whole && all_fleets == read_fleets {
        inventory.not_selected(&mut diagnostics);
    }
    placeholders::check(&inventory, &mut diagnostics);
    if manifest_files.iter().all(|file| file.declared.is_empty() && file.diagnostics.is_empty()) {
        let message = "there is no manifest here";
        let hint = "add a .yaml file with a Fleet, or correct the source's path";
        diagnostics.push(Finding::new(codes::NOTHING_HERE, Span::START, message).hint(hint).into_diagnostic("."));
    }
    in_order(&mut diagnostics);
    let settling = Settling::new(config, &manifest_files);
    (report.diagnostics, report.suppressed) = settling.settle(diagnostics, is_whole);
    in_order(&mut report.diagnostics);
    report
}

/// Whether `path` is `place` or lies below it.
pub(crate) fn is_below(path: &str, place: &str) -> bool {
    place.is_empty() || path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn own_paths(file: &ParsedFile) -> impl Iterator<Item = (&str, &Reference)> {
    file.references.iter().filter_map(|reference| match &reference.target {
        Target::OwnPath(path) | Target::OwnDirectory(path) => Some((path.as_str(), reference)),
        Target::Repository(_) | Target::WebServer(_) => None,
    })
}

/// The files that are content of others. A file that only its own reference, or a circle of references, makes content
/// is an error.
fn content_files(files: &BTreeMap<String, Arc<ParsedFile>>) -> (BTreeSet<&str>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut content: BTreeSet<&str> = BTreeSet::new();
    // Places by path, with the files that name them.
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, file) in files {
        for (place, _) in own_paths(file) {
            places.entry(place).or_default().push(path);
        }
    }
    let namers = |path: &str| -> Vec<&str> {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]).chain(["", path]);
        above.filter_map(|place| places.get(place)).flatten().copied().collect()
    };
    // Only files that some place covers are in question; all others are manifests for certain.
    let mut open: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in files.keys() {
        let by = namers(path);
        if !by.is_empty() {
            open.insert(path, by);
        }
    }
    loop {
        let is_settled = |path: &str, open: &BTreeMap<&str, Vec<&str>>| !open.contains_key(path);
        let settled: Vec<(&str, bool)> = open
            .iter()
            .filter_map(|(path, by)| {
                let by_manifest = by.iter().any(|n| n != path && is_settled(n, &open) && !content.contains(n));
                let only_content = by.iter().all(|n| n != path && is_settled(n, &open) && content.contains(n));
                (by_manifest || only_content).then_some((*path, by_manifest))
            })
            .collect();
        if settled.is_empty() {
            break;
        }
        for (path, is_content) in settled {
            open.remove(path);
            if is_content {
                content.insert(path);
            }
        }
    }
    for (path, by) in &open {
        for namer in by {
            let Some(file) = files.get(*namer).filter(|_| open.contains_key(namer)) else { continue };
            for (place, reference) in own_paths(file).filter(|(place, _)| is_below(path, place)) {
                let name = if place.is_empty() { "the whole repository" } else { place };
                let message = if namer == path {
                    format!("the path takes {name} as content, and this manifest lies in it")
                } else {
                    format!("the path takes {name} as content, and the manifest {path} that lies in it takes this file")
                };
                let finding = Finding::new(codes::MANIFEST_IS_CONTENT, reference.span, message)
                    .at_pointer(reference.pointer.clone())
                    .hint("keep manifests and the content they refer to in separate directories");
                diagnostics.push(finding.into_diagnostic(namer));
            }
        }
    }
    (content, diagnostics)
}

fn duplicates(files: &[&Arc<ParsedFile>], diagnostics: &mut Vec<Diagnostic>) {
    let mut first: HashMap<(Kind, &str), (&str, Span)> = HashMap::new();
    for file in files {
        for declared in &file.declared {
            let key = (declared.kind, declared.name.as_str());
            if let Some((path, span)) = first.get(&key) {
                let message = format!(
                    "{} {:?} is defined twice; the first is {path}:{}:{}",
                    declared.kind, declared.name, span.line, span.column
                );
                let hint = if declared.kind == Kind::Device {
                    "a device is named by its key, so both manifests are about one machine: keep one, with all labels"
                } else {
                    "rename one of the two, or remove it"
                };
                let finding = Finding::new(codes::DUPLICATE_RESOURCE, declared.span, message)
                    .at_pointer("/metadata/name")
                    .hint(hint);
                diagnostics.push(finding.into_diagnostic(&file.path));
            } else {
                first.insert(key, (&file.path, declared.span));
            }
        }
    }
}

fn references(files: &[&Arc<ParsedFile>], all_paths: Option<&BTreeSet<String>>, diagnostics: &mut Vec<Diagnostic>) {
    let declared = files.iter().flat_map(|file| &file.declared).filter(|d| d.kind == Kind::Repository);
    let repositories: BTreeSet<&str> = declared.map(|d| d.name.as_str()).collect();
    let manifests = files.iter().flat_map(|file| &file.manifests);
    let types: HashMap<&str, &str> = manifests
        .filter_map(|parsed| {
            let Manifest::Repository(repository) = &parsed.manifest else { return None };
            let of_type = match repository.spec {
                RepositorySpec::Git { .. } => "git",
                RepositorySpec::Http { .. } => "http",
                RepositorySpec::Oci { .. } => "oci",
            };
            Some((repository.metadata.name.as_deref()?, of_type))
        })
        .collect();
    // Many manifests refer to the same few things: each is looked at once.
    let mut own: HashMap<(&str, bool), Option<Finding>> = HashMap::new();
    let mut others: HashMap<(&str, &str), Option<Finding>> = HashMap::new();
    for file in files {
        for reference in &file.references {
            let finding = match &reference.target {
                Target::OwnPath(path) | Target::OwnDirectory(path) => {
                    let Some(all) = all_paths else { continue };
                    let is_directory = matches!(reference.target, Target::OwnDirectory(_));
                    own.entry((path, is_directory)).or_insert_with(|| own_path(path, is_directory, all))
                }
                Target::Repository(name) | Target::WebServer(name) => {
                    let wanted = if matches!(reference.target, Target::WebServer(_)) { "http" } else { "git" };
                    others.entry((name, wanted)).or_insert_with(|| match types.get(name.as_str()) {
                        Some(of_type) if *of_type != wanted => {
                            let message = format!("the Repository {name:?} is of type {of_type}, not {wanted}");
                            Some(Finding::new(codes::REPOSITORY_TYPE, Span::START, message))
                        }
                        Some(_) => None,
                        None => {
                            (!repositories.contains(name.as_str())).then(|| unknown_repository(name, &repositories))
                        }
                    })
                }
            };
            if let Some(mut finding) = finding.clone() {
                finding.span = reference.span;
                diagnostics.push(finding.at_pointer(reference.pointer.clone()).into_diagnostic(&file.path));
            }
        }
    }
}

/// What is wrong with a path in this repository, if anything.
fn own_path(path: &str, needs_directory: bool, all: &BTreeSet<String>) -> Option<Finding> {
    let directory = if path.is_empty() { String::new() } else { format!("{path}/") };
    let mut below = all.range(directory.clone()..).map_while(|file| file.strip_prefix(&directory)).peekable();
    if below.peek().is_none() && (needs_directory || !all.contains(path)) {
        return Some(missing_path(path, needs_directory, all));
    }
    if needs_directory {
        // Where the files will lie depends on the device.
        return None;
    }
    let name = path.rsplit('/').next().filter(|_| all.contains(path));
    below.chain(name).find_map(|file| {
        let problem = fleet_render::check_device_path(&format!("/{file}")).err()?;
        Some(Finding::new(
            codes::BAD_CONTENT_PATH,
            Span::START,
            format!("a file below `{path}` cannot be used: {problem}"),
        ))
    })
}

fn missing_path(path: &str, needs_directory: bool, all: &BTreeSet<String>) -> Finding {
    let is_like = |other: &str| other.len().abs_diff(path.len()) <= 2;
    let known: BTreeSet<&str> = all
        .iter()
        .take(20_000)
        .flat_map(|file| file.match_indices('/').map(|(slash, _)| &file[..slash]).chain([file.as_str()]))
        .filter(|other| is_like(other))
        .collect();
    let distances = known.into_iter().map(|other| (strsim::osa_distance(other, path), other));
    let near = distances.filter(|(distance, _)| *distance <= 2).min();
    let what = if needs_directory { "directory" } else { "file or directory" };
    let message = format!("there is no {what} `{path}` in this repository");
    let hint = near.map(|(_, near)| format!("did you mean `{near}`?"));
    Finding::new(codes::PATH_NOT_FOUND, Span::START, message).maybe_hint(hint)
}

fn unknown_repository(name: &str, repositories: &BTreeSet<&str>) -> Finding {
    let is_like = |known: &&str| known.len().abs_diff(name.len()) <= 4;
    let one_typo_away =
        repositories.iter().copied().filter(is_like).find(|known| strsim::osa_distance(known, name) == 1);
    if let Some(known) = one_typo_away {
        let message = format!("there is no Repository {name:?} here, but one named {known:?}");
        return Finding::new(codes::REPOSITORY_TYPO, Span::START, message).hint(format!("write `{known}`"));
    }
    let message = format!("there is no Repository {name:?} here; it must be defined in another source");
    let hint = nearest(name, repositories.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    Finding::new(codes::REPOSITORY_NOT_HERE, Span::START, message).maybe_hint(hint)
}
