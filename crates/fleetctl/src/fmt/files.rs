//! Which files are laid out: the manifests that lint would look at, in YAML.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fleet_lint::{LintConfig, check_tree, is_candidate};

use crate::tree::{self, Tree, is_at_or_below};

/// A file to lay out.
pub(super) struct Candidate {
    /// Where it is.
    pub(super) path: PathBuf,
    /// As the user would write it.
    pub(super) shown: String,
    /// What it says now.
    pub(super) text: String,
}

/// All files to lay out.
#[derive(Default)]
pub(super) struct Found {
    pub(super) files: Vec<Candidate>,
    /// What is left alone although it was named or looks like a manifest.
    pub(super) remarks: Vec<String>,
}

/// A repository, or a directory outside any.
struct Repository {
    tree: Tree,
    config: LintConfig,
    /// Files and directories that manifests take content from.
    content: Vec<String>,
    /// A file that cannot be read: it might name more content.
    unreadable: Option<String>,
}

/// The files that `paths` name, each once.
///
/// # Errors
/// What cannot be read, with its name.
pub(super) fn find(paths: &[PathBuf]) -> anyhow::Result<Found> {
    let mut repositories: BTreeMap<PathBuf, Repository> = BTreeMap::new();
    let (mut found, mut seen) = (Found::default(), std::collections::BTreeSet::new());
    for path in paths {
        let metadata = fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        // A directory may be named through a link; a file that is one is not followed.
        let is_dir = metadata.is_dir() || (metadata.is_symlink() && path.is_dir());
        if !is_dir && !metadata.is_file() {
            found.remarks.push(format!("{} is no regular file; it is left alone", path.display()));
            continue;
        }
        let (root, below) = place(path, is_dir)?;
        let repository = match repositories.entry(root) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let repository = Repository::load(new.key())?;
                new.insert(repository)
            }
        };
        let root = repository.tree.shown_root.clone();
        let before = found.files.len();
        for (file, text) in &repository.tree.texts {
            if !is_at_or_below(file, &below) || !seen.insert(root.join(file)) {
                continue;
            }
            let rest = file.strip_prefix(&below).unwrap_or(file).trim_start_matches('/');
            let shown = if rest.is_empty() { path.clone() } else { path.join(rest) };
            let shown = shown.strip_prefix(".").unwrap_or(&shown).display().to_string();
            match repository.objection(file, text) {
                None => found.files.push(Candidate { path: root.join(file), shown, text: text.to_string() }),
                Some(why) if !is_dir => found.remarks.push(format!("{shown} {why}; it is left alone")),
                Some(_) => {}
            }
        }
        let links = repository.tree.remarks.iter().filter(|remark| is_dir && is_at_or_below_words(remark, &below));
        found.remarks.extend(links.cloned());
        if !is_dir && found.files.len() == before && !is_candidate(&below) {
            found.remarks.push(format!("{} is no manifest by its name; it is left alone", path.display()));
        }
    }
    Ok(found)
}

/// Whether a remark is about something at or below a path.
fn is_at_or_below_words(remark: &str, below: &str) -> bool {
    remark.split(" is ").next().is_some_and(|file| is_at_or_below(file, below))
}

/// The repository around a path, or the directory itself, and the path below it with `/`.
fn place(path: &Path, is_dir: bool) -> anyhow::Result<(PathBuf, String)> {
    let failed = || format!("cannot read {}", path.display());
    let (dir, name) = if is_dir {
        (fs::canonicalize(path).with_context(failed)?, None)
    } else {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (fs::canonicalize(parent).with_context(failed)?, path.file_name())
    };
    let root = dir.ancestors().find(|above| above.join(".git").exists()).unwrap_or(&dir).to_owned();
    let full = name.map_or_else(|| dir.clone(), |name| dir.join(name));
    let below = full.strip_prefix(&root).unwrap_or(&full);
    let below = below.to_str().with_context(|| format!("{}: the path is not UTF-8", path.display()))?.to_owned();
    Ok((root, below))
}

impl Repository {
    fn load(root: &Path) -> anyhow::Result<Self> {
        let tree = tree::load_checkout(root, "", None)?;
        let (config, _) = LintConfig::parse(tree.lint_config.as_deref().unwrap_or_default());
        let report = check_tree(&tree.files, None, &config);
        let mut repository =
            Self { tree, config, content: report.config_paths.into_iter().collect(), unreadable: None };
        let mut unreadable = repository.tree.files.keys().filter(|file| {
            let text = repository.tree.texts.get(*file);
            !repository.is_content(file)
                && !repository.config.is_excluded(file)
                && text.is_none_or(|text| fleet_fmt::check(text).is_err())
        });
        repository.unreadable = unreadable.next().cloned();
        Ok(repository)
    }

    fn is_content(&self, file: &str) -> bool {
        self.content.iter().any(|place| is_at_or_below(file, place))
    }

    /// Why a file is not laid out, if it is not.
    fn objection(&self, file: &str, text: &str) -> Option<String> {
        let has_kind = || text.lines().any(|line| line.starts_with("kind:"));
        if file.ends_with(".json") {
            return Some("is JSON".to_owned());
        }
        if self.config.is_excluded(file) {
            return Some("is excluded by .fleetlint.yaml".to_owned());
        }
        if self.is_content(file) {
            return Some("is content that a gitRef takes".to_owned());
        }
        match &self.unreadable {
            Some(other) if other != file && !has_kind() => {
                Some(format!("may be content: {other} cannot be read and may refer to it"))
            }
            Some(_) | None => None,
        }
    }
}
