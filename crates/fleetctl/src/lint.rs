//! `fleetctl lint`: walks directories, hands the files to the library and shows what it found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use anyhow::{Context as _, bail};
use fleet_lint::{MAX_FILE_BYTES, ParsedFile, check_tree, is_candidate, parse_file};
use fleet_model::{Diagnostic, Severity};

use crate::cli::{LintArgs, LintFormat};
use crate::output::{Terminal, printable};
use crate::{Io, Outcome};

/// No repository has more files.
const MAX_FILES: usize = 1_000_000;
/// No directory lies deeper.
const MAX_DEPTH: usize = 64;

/// What was read of one tree.
#[derive(Default)]
struct Tree {
    files: BTreeMap<String, Arc<ParsedFile>>,
    /// Contents by path, to show lines of.
    texts: BTreeMap<String, String>,
    /// Every file of the repository; `None` when only some were looked at.
    all_paths: Option<BTreeSet<String>>,
    /// The tree's root, as people see it.
    shown_root: PathBuf,
    remarks: Vec<String>,
}

/// A finding with the lines it is about.
struct Finding {
    diagnostic: Diagnostic,
    text: Option<Arc<str>>,
}

pub(crate) fn run(args: &LintArgs, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let (mut findings, mut files) = (Vec::new(), 0);
    for tree in read_trees(&args.paths, args.root.as_deref())? {
        for remark in &tree.remarks {
            writeln!(io.err, "note: {}", printable(remark))?;
        }
        files += tree.files.len();
        findings.extend(check(&tree));
    }
    let errors = findings.iter().filter(|f| f.diagnostic.severity == Severity::Error).count();
    let warnings = findings.len() - errors;
    match args.output {
        LintFormat::Human => {
            for finding in &findings {
                writeln!(io.out, "{}\n", render(finding, io.terminal))?;
            }
            writeln!(io.out, "checked {}: {}", count(files, "file"), verdict(errors, warnings))?;
        }
        LintFormat::Json => {
            let diagnostics: Vec<&Diagnostic> = findings.iter().map(|f| &f.diagnostic).collect();
            let report = serde_json::json!({
                "files": files, "errors": errors, "warnings": warnings, "diagnostics": diagnostics,
            });
            writeln!(io.out, "{report:#}")?;
        }
    }
    Ok(if errors > 0 { Outcome::Negative } else { Outcome::Good })
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn verdict(errors: usize, warnings: usize) -> String {
    match (errors, warnings) {
        (0, 0) => "no findings".to_owned(),
        (errors, 0) => count(errors, "error"),
        (0, warnings) => count(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}

/// One tree for each directory, and one for all single files together.
fn read_trees(paths: &[PathBuf], root: Option<&Path>) -> anyhow::Result<Vec<Tree>> {
    let mut trees = Vec::new();
    let mut singles = Tree::default();
    for path in paths {
        let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if metadata.is_dir() {
            trees.push(read_directory(path, root)?);
        } else {
            let name = slashed(path)?;
            read_file(&mut singles, path, name.trim_start_matches("./"))?;
        }
    }
    if !singles.files.is_empty() {
        trees.push(singles);
    }
    Ok(trees)
}

/// Reads the manifests below `dir`, a repository or a part of the one that is named.
fn read_directory(dir: &Path, named_root: Option<&Path>) -> anyhow::Result<Tree> {
    let root = named_root.unwrap_or(dir);
    let canonical = |path: &Path| fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()));
    let (inner, outer) = (canonical(dir)?, canonical(root)?);
    let Ok(below) = inner.strip_prefix(&outer) else {
        bail!("{} does not lie in {}, which --root names", dir.display(), root.display());
    };
    let below = slashed(below)?;
    let mut tree = Tree { shown_root: root.to_owned(), ..Tree::default() };
    let mut all = BTreeSet::new();
    walk(&outer, "", 0, &mut all, &mut tree.remarks, &below)?;
    for path in &all {
        let wanted = below.is_empty() || path.strip_prefix(&below).is_some_and(|rest| rest.starts_with('/'));
        let file = outer.join(path);
        if wanted && is_candidate(path) && !file.is_symlink() {
            read_file(&mut tree, &file, path)?;
        }
    }
    let is_repository = |path: &Path| path.join(".git").exists();
    match outer.ancestors().skip(1).find(|above| is_repository(above)) {
        // Paths may count from the repository around it: nobody can tell whether they exist.
        Some(above) if !is_repository(&outer) && named_root.is_none() => tree.remarks.push(format!(
            "{} is a part of the repository {}: that the paths of gitRefs exist is not checked; name the root with --root",
            dir.display(),
            above.display()
        )),
        _ => tree.all_paths = Some(all),
    }
    Ok(tree)
}

/// Collects the paths of all files below `root`. Symbolic links are listed, not followed; those that would be manifests
/// below `below` are remarked upon.
fn walk(
    root: &Path,
    relative: &str,
    depth: usize,
    all: &mut BTreeSet<String>,
    remarks: &mut Vec<String>,
    below: &str,
) -> anyhow::Result<()> {
    if depth > MAX_DEPTH {
        bail!("{}: directories are nested deeper than {MAX_DEPTH}", root.join(relative).display());
    }
    let dir = root.join(relative);
    let failed = || format!("cannot read directory {}", dir.display());
    for entry in fs::read_dir(&dir).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name();
        if name == ".git" {
            continue;
        }
        let name = name.to_str().with_context(|| format!("{}: the name is not UTF-8", entry.path().display()))?;
        let path = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
        let kind = entry.file_type().with_context(failed)?;
        if kind.is_dir() {
            walk(root, &path, depth + 1, all, remarks, below)?;
            continue;
        }
        if kind.is_symlink() && is_candidate(&path) && path.starts_with(below) {
            remarks.push(format!("{path} is a symbolic link; it is not followed"));
        }
        if kind.is_file() || kind.is_symlink() {
            all.insert(path);
        }
        if all.len() > MAX_FILES {
            bail!("{}: more than {MAX_FILES} files", root.display());
        }
    }
    Ok(())
}

fn slashed(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().with_context(|| format!("{}: the path is not UTF-8", path.display()))?.to_owned())
}

/// Reads one file, and no more of it than the library looks at.
fn read_file(tree: &mut Tree, file: &Path, name: &str) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(file)
        .and_then(|open| open.take(limit).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", file.display()))?;
    let parsed = parse_file(name, &bytes);
    tree.files.insert(name.to_owned(), Arc::new(parsed));
    if let Ok(text) = String::from_utf8(bytes) {
        tree.texts.insert(name.to_owned(), text);
    }
    Ok(())
}

fn check(tree: &Tree) -> Vec<Finding> {
    let report = check_tree(&tree.files, tree.all_paths.as_ref());
    let mut texts: BTreeMap<&str, Arc<str>> = BTreeMap::new();
    report
        .diagnostics
        .into_iter()
        .map(|mut diagnostic| {
            let text = tree
                .texts
                .get_key_value(&diagnostic.file)
                .map(|(path, text)| Arc::clone(texts.entry(path).or_insert_with(|| Arc::from(text.as_str()))));
            diagnostic.file = shown(&tree.shown_root, &diagnostic.file);
            Finding { diagnostic, text }
        })
        .collect()
}

/// A file's path for people: below the directory that they named.
fn shown(root: &Path, file: &str) -> String {
    let path = root.join(file);
    let mut short = PathBuf::new();
    for component in path.components() {
        // `fleets/..` says nothing; `../..` does.
        if component == Component::ParentDir && matches!(short.components().next_back(), Some(Component::Normal(_))) {
            short.pop();
        } else if component != Component::CurDir {
            short.push(component);
        }
    }
    if short.as_os_str().is_empty() { ".".to_owned() } else { short.display().to_string() }
}

/// A finding in the manner of compilers.
fn render(finding: &Finding, terminal: Terminal) -> String {
    let diagnostic = &finding.diagnostic;
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let message = printable(&diagnostic.message);
    let title = level.primary_title(message.as_str()).id(diagnostic.code.as_str());
    let place = usize::try_from(diagnostic.line).unwrap_or(1);
    let column = usize::try_from(diagnostic.column).unwrap_or(1);
    // Same length in bytes, so that places stay right.
    let text: Option<String> = finding.text.as_deref().map(|text| {
        text.chars().map(|c| if c.is_ascii_control() && !matches!(c, '\n' | '\t' | '\r') { ' ' } else { c }).collect()
    });
    let mut group: Group<'_> = match &text {
        Some(text) => {
            let begin = offset(text, diagnostic.line, diagnostic.column);
            let end = offset(text, diagnostic.end_line, diagnostic.end_column).max(begin);
            // The first line tells enough: a whole mapping underlined hides the place.
            let end = text[begin..end].find('\n').map_or(end, |at| begin + at);
            let snippet = Snippet::source(text.as_str())
                .path(diagnostic.file.as_str())
                .annotation(AnnotationKind::Primary.span(begin..end));
            title.element(snippet)
        }
        None => title.element(Origin::path(diagnostic.file.as_str()).line(place).char_column(column)),
    };
    let hint = diagnostic.hint.as_deref().map(printable);
    if let Some(hint) = &hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    let renderer = if terminal.color { Renderer::styled() } else { Renderer::plain() };
    renderer.term_width(terminal.width.unwrap_or(160)).render(&[group])
}

/// The byte at a line and column, both from 1, columns in characters; the end of the line or text when it is shorter.
fn offset(text: &str, line: u32, column: u32) -> usize {
    let line = usize::try_from(line.max(1)).unwrap_or(usize::MAX) - 1;
    let mut start = 0;
    for _ in 0..line {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => return text.len(),
        }
    }
    let rest = &text[start..];
    let rest = &rest[..rest.find('\n').unwrap_or(rest.len())];
    let column = usize::try_from(column.max(1)).unwrap_or(usize::MAX) - 1;
    start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_place_in_any_text_can_be_shown(
            text in "[aé\\n\\t]{0,40}", line in 0..9_u32, column in 0..9_u32, lines in 0..3_u32, columns in 0..9_u32,
        ) {
            let diagnostic = Diagnostic {
                code: "SB0001".to_owned(), severity: Severity::Error, message: "m".to_owned(), file: "f.yaml".to_owned(),
                line, column, end_line: line + lines, end_column: columns, pointer: String::new(), hint: None,
            };
            render(&Finding { diagnostic, text: Some(Arc::from(text.as_str())) }, Terminal::PLAIN);
        }
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(offset("é=x\nab\n", 1, 3), 3);
        assert_eq!(offset("é=x\nab\n", 2, 2), 6);
        assert_eq!(offset("ab\n", 1, 99), 2);
        assert_eq!(offset("ab\n", 99, 1), 3);
    }

    #[test]
    fn paths_are_shown_as_the_user_would_write_them() {
        assert_eq!(shown(Path::new("."), "a/b.yaml"), "a/b.yaml");
        assert_eq!(shown(Path::new("./repo"), "b.yaml"), "repo/b.yaml");
        assert_eq!(shown(Path::new("./.."), "b.yaml"), "../b.yaml");
        assert_eq!(shown(Path::new("repo/fleets/.."), "fleets/b.yaml"), "repo/fleets/b.yaml");
    }
}
