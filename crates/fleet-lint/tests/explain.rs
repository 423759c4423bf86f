//! The pages of codes are true: their wrong examples give the code and their right ones have no error.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_lint::{CONFIG_FILE, LintConfig, codes, explain, parse_file};
use fleet_model::{Diagnostic, Severity};

/// Codes that no YAML on a page can show, with the reason.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("SB0001", "a page is UTF-8 itself"),
    ("SB0003", "it takes more than 4 MiB"),
    ("SB0004", "it takes more than 10,000 documents"),
    ("SB0005", "a byte-order mark cannot be seen"),
    ("SB0308", "schema and types are made from one source"),
    ("SB0421", "it takes more than 1 MiB"),
    ("SB0601", "only the service sees it"),
    ("SB0602", "only the service sees it"),
    ("SB0603", "only the service sees it"),
    ("SB0604", "a page has no symbolic links"),
    ("SB0605", "only the service sees it"),
    ("SB0606", "only the service sees it"),
];

/// The sections of a page by heading; the text before the first has the heading "".
fn sections(page: &str) -> Vec<(&str, String)> {
    let mut sections = vec![("", String::new())];
    for line in page.lines().skip(1) {
        match line.strip_prefix("## ") {
            Some(heading) => sections.push((heading, String::new())),
            None => {
                let text = &mut sections.last_mut().unwrap().1;
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    sections
}

/// The contents of the fenced blocks of a section.
fn blocks(section: &str) -> Vec<String> {
    section.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The files of a block: each starts with a line `# file: path`; without one there is a single manifest.
fn files(block: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut path = "fleets/example.yaml".to_owned();
    for line in block.split_inclusive('\n') {
        if let Some(named) = line.strip_prefix("# file: ") {
            named.trim_end().clone_into(&mut path);
            assert!(files.insert(path.clone(), String::new()).is_none(), "{path} is there twice");
        } else {
            files.entry(path.clone()).or_default().push_str(line);
        }
    }
    files
}

fn lint(block: &str) -> Vec<Diagnostic> {
    let files = files(block);
    let paths: BTreeSet<String> = files.keys().cloned().collect();
    let candidates = files.iter().filter(|(path, _)| fleet_lint::is_candidate(path));
    let parsed: BTreeMap<_, _> =
        candidates.map(|(path, text)| (path.clone(), Arc::new(parse_file(path, text.as_bytes())))).collect();
    let (config, mut diagnostics) =
        files.get(CONFIG_FILE).map(|text| LintConfig::parse(text.as_bytes())).unwrap_or_default();
    diagnostics.extend(fleet_lint::check_tree(&parsed, Some(&paths), &config).diagnostics);
    diagnostics
}

#[test]
fn every_page_has_its_form() {
    for code in codes::ALL {
        let Some(page) = explain(code.code) else { continue };
        assert_eq!(page.lines().next().unwrap(), format!("# {}: {}", code.code, code.title));
        let sections = sections(page);
        let headings: Vec<&str> = sections.iter().map(|(heading, _)| *heading).collect();
        if NOT_SHOWN.iter().any(|(other, _)| *other == code.code) {
            assert_eq!(headings, ["", "Example", "Fix"], "{}", code.code);
        } else {
            assert_eq!(headings, ["", "Wrong", "Right", "Fix"], "{}", code.code);
        }
        for (heading, text) in sections {
            assert!(!text.trim().is_empty(), "{}: {heading} is empty", code.code);
            assert!(!text.contains('\u{2014}'), "{}: {heading} has a long dash", code.code);
        }
    }
}

#[test]
fn examples_give_what_their_page_says() {
    let mut wrong: Vec<String> = Vec::new();
    for code in codes::ALL {
        for (heading, text) in sections(explain(code.code).unwrap_or_default()) {
            let is_wrong = match heading {
                "Wrong" => true,
                "Right" => false,
                _ => continue,
            };
            let blocks = blocks(&text);
            assert!(!blocks.is_empty(), "{}: {heading} has no block", code.code);
            for block in blocks {
                let found = lint(&block);
                let has = found.iter().any(|d| d.code == code.code);
                let has_error = found.iter().any(|d| d.severity == Severity::Error);
                if has != is_wrong || (!is_wrong && has_error) {
                    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                    wrong.push(format!("{} {heading}: {found:#?}", code.code));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_example_shows_its_code_and_little_else() {
    for code in codes::ALL {
        for (heading, text) in sections(explain(code.code).unwrap_or_default()) {
            for block in blocks(&text).iter().filter(|_| heading == "Wrong") {
                let others: BTreeSet<String> =
                    lint(block).into_iter().map(|d| d.code).filter(|other| other != code.code).collect();
                assert!(others.len() <= 1, "{}: {others:?}", code.code);
            }
        }
    }
}
