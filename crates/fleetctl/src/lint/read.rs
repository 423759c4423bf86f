//! What `lint` is asked to look at: directories, single files, a revision, or standard input; and how each repository
//! wants to be linted.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use fleet_lint::{CONFIG_FILE, LintConfig, MAX_FILE_BYTES, codes};
use fleet_model::Diagnostic;

use super::report::{Finding, Report, Suppressed};
use super::source::Source;
use crate::cli::LintArgs;
use crate::tree::{self, Tree, state};

/// No configuration is read further, in bytes; the library says so of those that are too large.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A tree and what its paths are called elsewhere.
struct Input {
    tree: Tree,
    /// What stands before the tree's paths to count them from the root of the Git repository; ends in `/`.
    above: String,
    /// Paths as people gave them, where they gave single files.
    given: BTreeMap<String, String>,
    config: Option<ConfigText>,
}

/// The bytes of a configuration, and the name it is shown with.
struct ConfigText {
    shown: String,
    bytes: Vec<u8>,
}

/// Reads everything that was asked for and checks it; remarks go to `remark`.
pub(super) fn report(args: &LintArgs, remark: &mut dyn FnMut(&str) -> std::io::Result<()>) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for input in inputs(args)? {
        for text in &input.tree.remarks {
            remark(text)?;
        }
        input.check(&mut report);
    }
    Ok(report)
}

/// One tree for each directory, and one for all single files of a repository together.
fn inputs(args: &LintArgs) -> anyhow::Result<Vec<Input>> {
    let named_config = match &args.lint_config {
        Some(path) => {
            Some(read_config(path)?.with_context(|| format!("cannot read {}: there is no such file", path.display()))?)
        }
        None => None,
    };
    let mut inputs = Vec::new();
    let mut singles: BTreeMap<Option<PathBuf>, BTreeMap<String, PathBuf>> = BTreeMap::new();
    for path in &args.paths {
        if path.as_os_str() == "-" {
            if args.paths.len() > 1 || args.rev.is_some() {
                bail!("`-` reads one document from standard input; give no other path and no --rev with it");
            }
            inputs.push(standard_input(args)?);
            continue;
        }
        let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if metadata.is_dir() {
            inputs.push(directory(path, args)?);
        } else if args.rev.is_some() {
            bail!("{} is a file; --rev takes directories", path.display());
        } else {
            let (root, name) = place(path, args.root.as_deref())?;
            singles.entry(root).or_default().insert(name, path.clone());
        }
    }
    for (root, files) in singles {
        let tree = tree::load_named(&files)?;
        let given = files.into_iter().map(|(name, path)| (name, shown(&path))).collect();
        inputs.push(Input { tree, above: String::new(), given, config: root_config(root.as_deref())? });
    }
    for input in &mut inputs {
        if args.no_lint_config {
            input.config = None;
        } else if let Some(ConfigText { shown, bytes }) = &named_config {
            input.config = Some(ConfigText { shown: shown.clone(), bytes: bytes.clone() });
        }
    }
    Ok(inputs)
}

fn directory(path: &Path, args: &LintArgs) -> anyhow::Result<Input> {
    let mut tree = tree::load(path, args.root.as_deref(), args.rev.as_deref())?;
    let bytes = tree.lint_config.take();
    let config = bytes.map(|bytes| ConfigText { shown: tree.shown(CONFIG_FILE), bytes });
    let mut above = String::new();
    if tree.commit().is_none() {
        let root = canonical(args.root.as_deref().unwrap_or(path))?;
        if let Some(prefix) =
            repository_around(&root).and_then(|repository| root.strip_prefix(repository).ok()?.to_str())
        {
            above = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        }
    }
    Ok(Input { tree, above, given: BTreeMap::new(), config })
}

fn standard_input(args: &LintArgs) -> anyhow::Result<Input> {
    let path = args.stdin_path.as_deref().unwrap_or(Path::new("stdin.yaml"));
    // The file need not exist, nor its directory.
    let (root, name) = match place(path, args.root.as_deref()) {
        Ok(found) => found,
        Err(error) if args.root.is_some() => return Err(error),
        Err(_) => (None, utf8(path)?),
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin().lock().take(limit).read_to_end(&mut bytes).context("cannot read standard input")?;
    let tree = tree::load_text(&name, bytes)?;
    Ok(Input { tree, above: String::new(), given: [(name, shown(path))].into(), config: root_config(root.as_deref())? })
}

/// The root of the repository that a file lies in and the file's path from there; outside of any its path as given.
fn place(path: &Path, named_root: Option<&Path>) -> anyhow::Result<(Option<PathBuf>, String)> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = canonical(parent)?;
    let full = parent.join(path.file_name().with_context(|| format!("{} is no file", path.display()))?);
    let root = match named_root {
        Some(root) => Some(canonical(root)?),
        None => repository_around(&parent).map(Path::to_owned),
    };
    let Some(root) = root else { return Ok((None, utf8(path)?.trim_start_matches("./").to_owned())) };
    let Ok(name) = full.strip_prefix(&root) else {
        bail!("{} does not lie in {}, which --root names", path.display(), root.display());
    };
    let name = utf8(name)?;
    Ok((Some(root), name))
}

/// The nearest directory at or above this one that is the root of a Git repository.
fn repository_around(directory: &Path) -> Option<&Path> {
    directory.ancestors().find(|above| above.join(".git").exists())
}

fn root_config(root: Option<&Path>) -> anyhow::Result<Option<ConfigText>> {
    root.map_or(Ok(None), |root| read_config(&root.join(CONFIG_FILE)))
}

/// `None` when there is no such file.
fn read_config(path: &Path) -> anyhow::Result<Option<ConfigText>> {
    let failed = || format!("cannot read {}", path.display());
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(failed),
    };
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG_BYTES).read_to_end(&mut bytes).with_context(failed)?;
    Ok(Some(ConfigText { shown: shown(path), bytes }))
}

fn canonical(path: &Path) -> anyhow::Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))
}

fn utf8(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().with_context(|| format!("{}: the path is not UTF-8", path.display()))?.to_owned())
}

fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    text.strip_prefix("./").map(str::to_owned).unwrap_or(text)
}

impl Input {
    fn check(self, report: &mut Report) {
        let config = match &self.config {
            Some(text) => {
                let (config, diagnostics) = LintConfig::parse(&text.bytes);
                let source = std::str::from_utf8(&text.bytes).ok().map(|text| Arc::new(Source::new(text.into())));
                report.findings.extend(diagnostics.into_iter().map(|mut diagnostic| {
                    let artifact = format!("{}{}", self.above, diagnostic.file);
                    diagnostic.file.clone_from(&text.shown);
                    Finding { diagnostic, artifact, source: source.clone() }
                }));
                config
            }
            None => LintConfig::default(),
        };
        let mut found = fleet_lint::check_tree(&self.tree.files, self.tree.all_paths.as_ref(), &config);
        if self.tree.all_paths.is_some() {
            let unusable = state::unusable_files(&self.tree, &found);
            // A file that cannot lie on a device is told where it is named; the document as a whole says no more.
            let is_told = |one: &Diagnostic| {
                one.code == codes::NOT_RENDERABLE.code
                    && found.diagnostics.iter().any(|d| d.code == codes::BAD_CONTENT_PATH.code && d.file == one.file)
            };
            let unusable: Vec<Diagnostic> = unusable.into_iter().filter(|one| !is_told(one)).collect();
            found.diagnostics.extend(unusable);
        }
        let mut sources = BTreeMap::new();
        let mut finding = |diagnostic| self.finding(diagnostic, &mut sources);
        report.findings.extend(found.diagnostics.into_iter().map(&mut finding));
        report.suppressed.extend(
            found.suppressed.into_iter().map(|one| Suppressed { finding: finding(one.diagnostic), reason: one.reason }),
        );
        let files = self.tree.files.keys().filter(|path| !config.is_excluded(path));
        report.files.extend(files.map(|path| self.artifact(path)));
    }

    fn artifact(&self, path: &str) -> String {
        format!("{}{path}", self.above).trim_start_matches('/').to_owned()
    }

    fn finding(&self, mut diagnostic: Diagnostic, sources: &mut BTreeMap<String, Arc<Source>>) -> Finding {
        let source = match sources.get(&diagnostic.file) {
            Some(known) => Some(Arc::clone(known)),
            None => self.tree.texts.get(&diagnostic.file).map(|text| {
                let source = Arc::new(Source::new(Arc::clone(text)));
                sources.insert(diagnostic.file.clone(), Arc::clone(&source));
                source
            }),
        };
        let artifact = self.artifact(&diagnostic.file);
        let given = self.given.get(&diagnostic.file).cloned();
        diagnostic.file = given.unwrap_or_else(|| self.tree.shown(&diagnostic.file));
        Finding { diagnostic, artifact, source }
    }
}
