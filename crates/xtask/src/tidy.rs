//! Rules about the files of the repository: sizes, names, first lines, top-level entries, links in the documentation.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Lines of a Rust file: more is an error.
const LARGEST: usize = 800;
/// Lines of a Rust file: more is a warning.
const LARGE: usize = 500;
const TOP_LEVEL: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "crates",
    "deploy",
    "example-fleet-repo",
    "migrations",
    "schemas",
    "tests",
];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["common", "helper", "helpers", "misc", "util", "utils"];

/// Everything wrong with the files, one sentence each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let files = files(root)?;
    let mut findings = top_level_findings(&files);
    for file in &files {
        findings.extend(name_finding(file));
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        let is_markdown = file.extension().is_some_and(|extension| extension == "md");
        if !(is_rust || is_markdown) {
            continue;
        }
        let text = std::fs::read_to_string(root.join(file)).with_context(|| format!("reading {}", file.display()))?;
        if is_rust {
            findings.extend(rust_findings(file, &text));
        } else {
            findings.extend(link_findings(root, file, &text));
        }
    }
    Ok(findings)
}

/// Rust files that are worth a hard look, largest first.
pub(crate) fn large_files(root: &Path) -> Result<Vec<String>> {
    let mut large = Vec::new();
    for file in files(root)?.into_iter().filter(|file| file.extension().is_some_and(|e| e == "rs")) {
        let lines = std::fs::read_to_string(root.join(&file))?.lines().count();
        if lines > LARGE {
            large.push((lines, file));
        }
    }
    large.sort();
    Ok(large.iter().rev().map(|(lines, file)| format!("{} has {lines} lines", file.display())).collect())
}

/// Files of the repository that exist, committed or about to be.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("running git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git ls-files in {} failed: {}", root.display(), said.trim());
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let names = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    Ok(names.filter(|name| root.join(name).is_file()).collect())
}

fn top_level_findings(files: &BTreeSet<PathBuf>) -> Vec<String> {
    let entries: BTreeSet<&str> =
        files.iter().filter_map(|file| file.components().next()?.as_os_str().to_str()).collect();
    let unknown = entries.into_iter().filter(|entry| !entry.starts_with('.') && !TOP_LEVEL.contains(entry));
    unknown.map(|entry| format!("{entry}: the top level is fixed; put it where it belongs")).collect()
}

fn name_finding(file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_str()?;
    let is_rust = file.extension().is_some_and(|extension| extension == "rs");
    if is_rust && stem == "mod" {
        return Some(format!("{}: name it after its module, one directory up", file.display()));
    }
    let mut directories = file.parent()?.components().filter_map(|part| part.as_os_str().to_str());
    let is_empty_name = (is_rust && EMPTY_NAMES.contains(&stem)) || directories.any(|dir| EMPTY_NAMES.contains(&dir));
    is_empty_name.then(|| format!("{}: the name says nothing; name it after what it holds", file.display()))
}

fn rust_findings(file: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(format!("{}:1: open with `//!`: what it is for, what it does not do", file.display()));
    }
    let lines = text.lines().count();
    if lines > LARGEST {
        findings.push(format!("{}: {lines} lines; at most {LARGEST}, split it", file.display()));
    }
    findings
}

fn link_findings(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        for target in link_targets(line) {
            let path = target.split(['#', '?']).next().unwrap_or_default();
            if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let base = if path.starts_with('/') { Path::new("") } else { file.parent().unwrap_or(Path::new("")) };
            let linked = base.join(path.trim_start_matches('/'));
            if !stays_inside(&linked) || !root.join(&linked).exists() {
                findings.push(format!("{}:{}: the link {target} leads nowhere", file.display(), index + 1));
            }
        }
    }
    findings
}

/// Targets of `[text](target)` on one line, without a title.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()).map(|t| t.trim_matches(['<', '>']))
}

fn stays_inside(path: &Path) -> bool {
    let mut depth = 0_i32;
    path.components().all(|part| {
        match part {
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
        depth >= 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let findings = check(crate::root()).unwrap();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn a_stray_top_level_entry_is_found() {
        let files = ["crates/x.rs", ".ci/run", "scripts/x.sh"].map(PathBuf::from).into();
        assert_eq!(top_level_findings(&files), ["scripts: the top level is fixed; put it where it belongs"]);
    }

    #[test]
    fn empty_names_are_found() {
        for bad in ["crates/a/src/x/mod.rs", "crates/a/src/utils.rs", "crates/a/src/common/x.rs"] {
            assert!(name_finding(Path::new(bad)).is_some(), "{bad}");
        }
        for good in ["crates/a/src/model.rs", "deploy/utils.sh", "README.md"] {
            assert_eq!(name_finding(Path::new(good)), None);
        }
    }

    #[test]
    fn long_and_headless_files_are_found() {
        assert_eq!(rust_findings(Path::new("x.rs"), "//! Good.\n"), Vec::<String>::new());
        assert_eq!(rust_findings(Path::new("x.rs"), &"fn x() {}\n".repeat(801)).len(), 2);
    }

    #[test]
    fn dead_links_are_found_with_their_line() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("docs")).unwrap();
        std::fs::write(root.path().join("docs/there.md"), "").unwrap();
        let text = "[a](there.md#part) [b](https://example.com/x) [c](#here)\n[d](gone.md \"title\")\n```\n[e](code.md)\n```\n";
        let findings = link_findings(root.path(), Path::new("docs/a.md"), text);
        assert_eq!(findings, ["docs/a.md:2: the link gone.md leads nowhere"]);
        assert_eq!(link_findings(root.path(), Path::new("docs/a.md"), "[x](../../etc/passwd)").len(), 1);
    }
}
