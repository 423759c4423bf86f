//! All files of a repository together: which files are manifests and which are content, and what refers to what.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
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

/// For how many missing paths something like them is looked for, in so many files.
const MAX_SEARCHES: usize = 20;
const MAX_FILES: usize = 20_000;
/// How many names are compared with those of Repositories that are not here; the rest is taken to be elsewhere.
const MAX_COMPARED: usize = 2_000_000;

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
    check(files, all_paths, false, config)
}

/// As [`check_tree`], where only a part of the repository was read: `paths` are those of all files in the places that
/// manifests are read from, and that `files` takes content from ([`ParsedFile::content_paths`]). What only somebody who
/// knows all manifests can say is not said.
pub fn check_part(
    files: &BTreeMap<String, Arc<ParsedFile>>,
    paths: &BTreeSet<String>,
    config: &LintConfig,
) -> TreeReport {
    check(files, Some(paths), true, config)
}

fn check(
    files: &BTreeMap<String, Arc<ParsedFile>>,
    all_paths: Option<&BTreeSet<String>>,
    is_part: bool,
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
    let all_read = |all: &BTreeSet<String>| all.iter().filter(|path| is_candidate(path)).all(|path| is_read(&path));
    let is_whole = !is_part && all_paths.is_some_and(all_read);
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
    let search = ContentSearch::new(files);
    let (content, open) = search.settle();
    let mut diagnostics = Vec::new();
    for namer in &open {
        let Some(file) = files.get(*namer) else { continue };
        for (place, reference) in own_paths(file) {
            // One finding for each reference, however many files it covers.
            let mut covered = range_below(&open, place);
            let Some(first) = covered.next() else { continue };
            let name = if place.is_empty() { "the whole repository" } else { place };
            let message = if is_below(namer, place) {
                format!("the path takes {name} as content, and this manifest lies in it")
            } else {
                format!("the path takes {name} as content, and the manifest {first} that lies in it takes this file")
            };
            let finding = Finding::new(codes::MANIFEST_IS_CONTENT, reference.span, message)
                .at_pointer(reference.pointer.clone())
                .hint("keep manifests and the content they refer to in separate directories");
            diagnostics.push(finding.into_diagnostic(namer));
        }
    }
    (content, diagnostics)
}

/// The paths at or below a place.
fn range_below<'s, 'p>(paths: &'s BTreeSet<&'p str>, place: &'s str) -> impl Iterator<Item = &'p str> + 's {
    // Paths such as `a-b` lie between `a` and `a/b`.
    let below = if place.is_empty() { String::new() } else { format!("{place}/") };
    let own = paths.get(place).copied().filter(|own| !own.is_empty());
    let first = paths.range::<str, _>((Bound::Included(&*below), Bound::Unbounded)).next().copied();
    let rest = first.into_iter().flat_map(|first| paths.range(first..)).copied();
    own.into_iter().chain(rest.take_while(move |path| path.starts_with(&*below)))
}

/// A place that manifests name as content.
#[derive(Debug, Default)]
struct Place {
    /// How many of the files that name it may still be manifests.
    namers: usize,
    /// A manifest names it for certain.
    is_content: bool,
}

/// Finds out step by step which files are manifests and which are content: what a manifest names is content, and what
/// only content names is a manifest.
struct ContentSearch<'f> {
    /// The places that each file names, each once.
    named: HashMap<&'f str, BTreeSet<&'f str>>,
    places: BTreeMap<&'f str, Place>,
    /// Files below some place that are not settled, with the number of places that may make them content.
    open: BTreeSet<&'f str>,
    covering: HashMap<&'f str, usize>,
    /// Files that were settled as manifests.
    manifests: Vec<&'f str>,
    content: BTreeSet<&'f str>,
}

impl<'f> ContentSearch<'f> {
    fn new(files: &'f BTreeMap<String, Arc<ParsedFile>>) -> Self {
        let mut search = Self {
            named: HashMap::new(),
            places: BTreeMap::new(),
            open: BTreeSet::new(),
            covering: HashMap::new(),
            manifests: Vec::new(),
            content: BTreeSet::new(),
        };
        for (path, file) in files {
            let named: BTreeSet<&str> = own_paths(file).map(|(place, _)| place).collect();
            for place in &named {
                search.places.entry(place).or_default().namers += 1;
            }
            search.named.insert(path, named);
        }
        for path in files.keys() {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]).chain(["", path.as_str()]);
            match above.filter(|place| search.places.contains_key(place)).count() {
                0 => search.manifests.push(path),
                count => {
                    search.open.insert(path);
                    search.covering.insert(path, count);
                }
            }
        }
        search
    }

    /// The files that are content, and those that nothing settles.
    fn settle(mut self) -> (BTreeSet<&'f str>, BTreeSet<&'f str>) {
        while let Some(manifest) = self.manifests.pop() {
            for place in self.named.remove(manifest).unwrap_or_default() {
                let Some(state) = self.places.get_mut(place).filter(|state| !state.is_content) else { continue };
                state.is_content = true;
                let below: Vec<&str> = range_below(&self.open, place).collect();
                for path in below {
                    self.now_content(path);
                }
            }
        }
        (self.content, self.open)
    }

    fn now_content(&mut self, path: &'f str) {
        let mut queue = vec![path];
        while let Some(path) = queue.pop() {
            if !self.open.remove(path) {
                continue;
            }
            self.content.insert(path);
            // What it names, it does not name as a manifest.
            for place in self.named.remove(path).unwrap_or_default() {
                let Some(state) = self.places.get_mut(place) else { continue };
                state.namers = state.namers.saturating_sub(1);
                if state.namers > 0 || state.is_content {
                    continue;
                }
                let below: Vec<&str> = range_below(&self.open, place).collect();
                for path in below {
                    let count = self.covering.entry(path).or_default();
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.open.remove(path);
                        self.manifests.push(path);
                    }
                }
            }
        }
    }
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
    let (mut searches, mut compared, nothing) = (MAX_SEARCHES, 0, BTreeSet::new());
    // Many manifests refer to the same few things: each is looked at once.
    let mut own: HashMap<(&str, bool), Option<Finding>> = HashMap::new();
    let mut others: HashMap<(&str, &str), Option<Finding>> = HashMap::new();
    for file in files {
        for reference in &file.references {
            let finding = match &reference.target {
                Target::OwnPath(path) | Target::OwnDirectory(path) => {
                    let Some(all) = all_paths else { continue };
                    let is_directory = matches!(reference.target, Target::OwnDirectory(_));
                    own.entry((path, is_directory)).or_insert_with(|| own_path(path, is_directory, all, &mut searches))
                }
                Target::Repository(name) | Target::WebServer(name) => {
                    let wanted = if matches!(reference.target, Target::WebServer(_)) { "http" } else { "git" };
                    others.entry((name, wanted)).or_insert_with(|| match types.get(name.as_str()) {
                        Some(of_type) if *of_type != wanted => {
                            let message = format!("the Repository {name:?} is of type {of_type}, not {wanted}");
                            Some(Finding::new(codes::REPOSITORY_TYPE, Span::START, message))
                        }
                        Some(_) => None,
                        None => (!repositories.contains(name.as_str())).then(|| {
                            compared += repositories.len();
                            let known = if compared > MAX_COMPARED { &nothing } else { &repositories };
                            unknown_repository(name, known)
                        }),
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
fn own_path(path: &str, needs_directory: bool, all: &BTreeSet<String>, searches: &mut usize) -> Option<Finding> {
    let directory = if path.is_empty() { String::new() } else { format!("{path}/") };
    let mut below = all.range(directory.clone()..).map_while(|file| file.strip_prefix(&directory)).peekable();
    if below.peek().is_none() && (needs_directory || !all.contains(path)) {
        let is_searched = *searches > 0;
        *searches = searches.saturating_sub(1);
        return Some(missing_path(path, needs_directory, all.iter().take(if is_searched { MAX_FILES } else { 0 })));
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

fn missing_path<'a>(path: &str, needs_directory: bool, all: impl Iterator<Item = &'a String>) -> Finding {
    let is_like = |other: &str| other.len().abs_diff(path.len()) <= 2;
    let known: BTreeSet<&str> = all
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
