//! Comments that suppress findings.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use fleet_lint::{LintConfig, TreeReport, check_tree, codes, has_errors, parse_file};
use fleet_model::{Diagnostic, Severity};
use proptest::prelude::*;

const KIOSKS: &str = "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata: {name: kiosks}\nspec:\n  selector: {matchLabels: {role: kiosk}}\n  template: {spec: {}}\n";
/// Overlaps with [`KIOSKS`]; its selector is on line 5.
const MORE: &str = "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata: {name: more}\nspec:\n  selector: {matchLabels: {role: kiosk}}\n  template: {spec: {}}\n";

fn lint_with(text: &str, config: &str) -> TreeReport {
    let files = [("a.yaml", KIOSKS), ("b.yaml", text)];
    let paths: BTreeSet<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    let parsed: BTreeMap<_, _> =
        files.iter().map(|(path, text)| ((*path).to_owned(), Arc::new(parse_file(path, text.as_bytes())))).collect();
    check_tree(&parsed, Some(&paths), &LintConfig::parse(config.as_bytes()).0)
}

fn lint(text: &str) -> TreeReport {
    lint_with(text, "")
}

fn found(report: &TreeReport) -> Vec<(&str, u32, u32)> {
    report.diagnostics.iter().map(|d| (d.code.as_str(), d.line, d.column)).collect()
}

fn suppressed(report: &TreeReport) -> Vec<(&str, u32, &str)> {
    report.suppressed.iter().map(|s| (s.diagnostic.code.as_str(), s.diagnostic.line, s.reason.as_str())).collect()
}

/// `MORE` with a comment at the end of a line.
fn behind(line: usize, comment: &str) -> String {
    let lines = MORE.lines().enumerate();
    lines.fold(String::new(), |mut text, (at, here)| {
        let _ = writeln!(text, "{here}{}", if at + 1 == line { comment } else { "" });
        text
    })
}

/// `MORE` with lines above a line.
fn above(line: usize, comment: &str) -> String {
    let lines = MORE.lines().enumerate();
    lines.fold(String::new(), |mut text, (at, here)| {
        if at + 1 == line {
            text.push_str(comment);
        }
        text.push_str(here);
        text.push('\n');
        text
    })
}

#[test]
fn a_comment_behind_a_line_suppresses_what_is_on_it() {
    assert_eq!(found(&lint(MORE)), [("SB0505", 5, 3)]);
    let report = lint(&behind(5, " # fleetlint: ignore SB0505 -- one fleet until March -- or April"));
    assert_eq!(found(&report), []);
    assert_eq!(suppressed(&report), [("SB0505", 5, "one fleet until March -- or April")]);
    let other_line = lint(&behind(4, " # fleetlint: ignore SB0505 -- why"));
    assert_eq!(found(&other_line), [("SB0707", 4, 27), ("SB0505", 5, 3)]);
}

#[test]
fn a_comment_above_a_line_suppresses_what_is_on_it() {
    let comment = "  # fleetlint: ignore SB0505 -- why\n";
    assert_eq!(suppressed(&lint(&above(5, comment))), [("SB0505", 6, "why")]);
    let with_more = format!("{comment}  # another comment\n\n  #\n");
    assert_eq!(suppressed(&lint(&above(5, &with_more))), [("SB0505", 9, "why")]);
    assert_eq!(found(&lint(&above(4, comment))), [("SB0707", 4, 23), ("SB0505", 6, 3)]);
}

#[test]
fn several_codes_stand_behind_one_comment() {
    let text = behind(5, " # fleetlint: ignore SB0505,SB0506 , SB0419 -- why");
    let report = lint(&text);
    assert_eq!(suppressed(&report), [("SB0505", 5, "why")]);
    let codes: Vec<&str> = report.diagnostics.iter().map(|d| d.code.as_str()).collect();
    assert_eq!(codes, ["SB0707", "SB0707"]);
    let columns: Vec<u32> = report.diagnostics.iter().map(|d| d.column).collect();
    assert_eq!(columns, [70, 79].map(|column| column - 1), "each at its own code");
}

#[test]
fn a_comment_above_the_first_document_suppresses_in_the_whole_file() {
    for start in ["", "---\n"] {
        let report = lint(&format!("# fleetlint: ignore-file SB0505 -- why\n{start}{MORE}"));
        assert_eq!((found(&report), report.suppressed.len()), (vec![], 1));
    }
    let late = lint(&behind(1, " # fleetlint: ignore-file SB0505 -- why"));
    assert_eq!(found(&late), [("SB0705", 1, 34), ("SB0505", 5, 3)]);
}

#[test]
fn comments_that_say_nothing_clear_are_findings() {
    for (comment, code, column) in [
        ("# fleetlint: ignore SB0505", "SB0706", 42),
        ("# fleetlint: ignore SB0505 --", "SB0706", 42),
        ("# fleetlint: ignore SB0505 --  ", "SB0706", 42),
        ("# fleetlint: ignore SB0599 -- why", "SB0702", 62),
        ("# fleetlint: ignore SB0103 -- why", "SB0703", 62),
        ("# fleetlint: ignore SB0707 -- why", "SB0703", 62),
        ("# fleetlint: ignore -- why", "SB0705", 42),
        ("# fleetlint: ignore SB0505 why", "SB0706", 42),
        ("# fleetlint: ignore SB0505 SB0506 -- why", "SB0705", 42),
        ("# fleetlint: disable SB0505 -- why", "SB0705", 42),
        ("# fleetlint:", "SB0705", 42),
        ("#fleetlint:ignore-line SB0505 -- why", "SB0705", 42),
    ] {
        let report = lint(&behind(5, &format!(" {comment}")));
        assert!(found(&report).contains(&(code, 5, column)), "{comment}: {:?}", found(&report));
        assert!(found(&report).contains(&("SB0505", 5, 3)), "{comment}: nothing is suppressed");
        assert!(has_errors(&report.diagnostics), "{comment}");
    }
}

#[test]
fn what_looks_like_a_comment_inside_a_value_is_none() {
    let mark = "# fleetlint: ignore SB0505 -- why";
    for metadata in [
        format!("{{name: more, annotations: {{a: \"{mark}\"}}}}"),
        format!("{{name: more, annotations: {{a: 'x {mark}'}}}}"),
        format!(
            "\n  name: more\n  annotations:\n    a: |\n      text\n      {mark}\n    b: x#fleetlint:ignore SB0505 -- why"
        ),
    ] {
        let text = MORE.replace("{name: more}", &metadata);
        let report = lint(&text);
        assert!(report.suppressed.is_empty() && found(&report).iter().all(|f| f.0 == "SB0505"), "{:?}", found(&report));
        assert_eq!(report.diagnostics.len(), 1, "{metadata}");
    }
    let json = serde_json::json!({
        "apiVersion": "v1beta1", "kind": "Fleet", "metadata": {"name": "x", "annotations": {"a": mark}},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {}}},
    });
    assert!(parse_file("a.json", json.to_string().as_bytes()).diagnostics.is_empty());
}

#[test]
fn the_line_that_opens_a_block_stands_for_the_block() {
    let file = |behind: &str, above: &str| {
        let config = format!(
            "\n      config:\n        - name: a\n          inline:\n            - path: /etc/key\n{above}              content: |{behind}\n\n                \
             text\n                -----BEGIN PRIVATE KEY-----\n              mode: 0600"
        );
        MORE.replace("role: kiosk", "role: other")
            .replace("  template: {spec: {}}", &format!("  template:\n    spec:{config}"))
    };
    let plain = lint(&file("", ""));
    assert_eq!(found(&plain), [("SB0512", 15, 17)]);
    let comment = "# fleetlint: ignore SB0512 -- a key for tests";
    let behind = lint(&file(&format!(" {comment}"), ""));
    assert_eq!((found(&behind), suppressed(&behind)), (vec![], vec![("SB0512", 15, "a key for tests")]));
    let above = lint(&file("", &format!("              {comment}\n")));
    assert_eq!((found(&above), suppressed(&above)), (vec![], vec![("SB0512", 16, "a key for tests")]));
}

#[test]
fn an_error_that_can_be_lowered_can_be_suppressed() {
    let text = MORE.replace("role: kiosk", "role: other").replace("spec: {}", "spec: {colour: red}");
    assert!(has_errors(&lint(&text).diagnostics));
    let report = lint(&text.replace("red}}", "red}} # fleetlint: ignore SB0301 -- read by another tool"));
    assert_eq!(found(&report), []);
    assert_eq!(report.suppressed[0].diagnostic.severity, Severity::Error);
    assert_eq!(report.manifests.len(), 2, "the manifest counts without the field");
}

#[test]
fn a_code_that_is_off_is_neither_a_finding_nor_an_unused_suppression() {
    let text = behind(5, " # fleetlint: ignore SB0505 -- why");
    let report = lint_with(&text, "severity: {SB0505: off}");
    assert_eq!((found(&report), report.suppressed.len()), (vec![], 0));
    let unused = behind(4, " # fleetlint: ignore SB0505 -- why");
    assert_eq!(found(&lint_with(&unused, "severity: {SB0505: off, SB0707: off}")), []);
}

#[test]
fn nothing_is_called_unused_where_rules_across_files_could_not_look() {
    let text = behind(5, " # fleetlint: ignore SB0505 -- why");
    let parsed = BTreeMap::from([("b.yaml".to_owned(), Arc::new(parse_file("b.yaml", text.as_bytes())))]);
    assert!(check_tree(&parsed, None, &LintConfig::default()).diagnostics.is_empty());
}

#[test]
fn very_many_comments_cost_little_and_are_refused() {
    let comment = "# fleetlint: ignore SB0505 -- why\n";
    let text = format!("{}{MORE}", comment.repeat(100_000));
    let start = std::time::Instant::now();
    let file = parse_file("b.yaml", text.as_bytes());
    assert_eq!(file.diagnostics.iter().map(|d| (d.code.as_str(), d.line)).collect::<Vec<_>>(), [("SB0705", 1001)]);
    let blocks = format!("{comment}a:\n{}", " - |\n\n  x\n".repeat(100_000));
    parse_file("b.yaml", blocks.as_bytes());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_file_with_an_error_calls_no_suppression_unused() {
    let text = behind(4, " # fleetlint: ignore SB0419 -- why")
        .replace("template: {spec: {}}", "template: {spec: {config: 1}}");
    assert_eq!(lint(&text).diagnostics.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["SB0303"]);
}

/// Lines of a manifest with many mistakes, some of which can be suppressed.
const LINES: &[&str] = &[
    "apiVersion: flightctl.io/v1beta1",
    "apiVersion: v1",
    "kind: Fleet",
    "kind: Flet",
    "metadata: {name: more}",
    "metadata: {name: More, labels: {a: yes, 'b!': c}}",
    "spec:",
    "  selector: {matchLabels: {role: kiosk}}",
    "  colour: red",
    "  template: {spec: {config: []}}",
    "  template: {spec: {config: [{name: a, inlin: []}]}}",
    "  template: {spec: {config: [{name: a, inline: [{path: etc/x, content: a, mode: 010}]}]}}",
    "---",
    "\t- x",
    "a: [",
    "name: &a *a",
];

/// Codes of errors that stay. Which error of syntax it is may depend on what stands behind it.
fn errors(diagnostics: &[Diagnostic]) -> BTreeSet<&str> {
    let fatal = |d: &&Diagnostic| {
        d.severity == Severity::Error && !codes::find(&d.code).unwrap().can_be_lowered() && !d.code.starts_with("SB07")
    };
    let family = |code| if ["SB0101", "SB0102"].contains(&code) { "SB0101" } else { code };
    diagnostics.iter().filter(fatal).map(|d| family(d.code.as_str())).collect()
}

proptest! {
    #[test]
    fn comments_never_hide_an_error_that_cannot_be_suppressed(
        lines in prop::collection::vec(prop::sample::select(LINES), 1..12),
        comments in prop::collection::vec((0..12_usize, any::<bool>(), 0..codes::ALL.len()), 0..6),
    ) {
        let plain = lines.join("\n");
        let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
        for (at, is_file, code) in comments {
            let verb = if is_file { "ignore-file" } else { "ignore" };
            let at = if is_file { 0 } else { at % lines.len() };
            let comment = format!(" # fleetlint: {verb} {} -- why", codes::ALL[code].code);
            if is_file { lines.insert(0, comment.trim().to_owned()); } else { lines[at].push_str(&comment); }
        }
        let before = lint(&plain);
        let after = lint(&lines.join("\n"));
        prop_assert_eq!(errors(&before.diagnostics), errors(&after.diagnostics), "{}", lines.join("\n"));
        prop_assert!(after.suppressed.iter().all(|s| codes::find(&s.diagnostic.code).unwrap().can_be_suppressed()));
    }

    #[test]
    fn a_document_that_gave_no_manifest_leaves_an_error_whatever_is_suppressed(
        lines in prop::collection::vec(prop::sample::select(LINES), 1..12),
    ) {
        let all = codes::ALL.iter().filter(|c| c.can_be_suppressed()).map(|c| c.code).collect::<Vec<_>>().join(",");
        let text = format!("# fleetlint: ignore-file {all} -- why\n{}", lines.join("\n"));
        let off: String = codes::ALL.iter().filter(|c| c.can_be_lowered()).map(|c| format!("  {}: off\n", c.code)).collect();
        for report in [lint_with(&text, "severity: {SB0707: off}"), lint_with(&lines.join("\n"), &format!("severity:\n{off}"))] {
            let documents = lines.split(|line| *line == "---").filter(|part| !part.is_empty()).count();
            // `a.yaml` has one.
            prop_assert!(has_errors(&report.diagnostics) || report.manifests.len() == documents + 1, "{text}");
        }
    }

    #[test]
    fn any_text_behind_the_mark_is_read(said in "[ -~äSB0-9,]{0,60}", own_line in any::<bool>()) {
        let comment = format!("# fleetlint:{said}");
        let text = if own_line { above(5, &format!("{comment}\n")) } else { behind(5, &format!(" {comment}")) };
        lint(&text);
    }
}
