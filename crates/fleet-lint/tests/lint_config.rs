//! `.fleetlint.yaml`: what it changes, what it cannot change, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_lint::codes::{self, Adjust};
use fleet_lint::{CONFIG_FILE, LintConfig, TreeReport, check_tree, has_errors, is_candidate, parse_file};
use fleet_model::{Diagnostic, Manifest, Severity};
use proptest::prelude::*;

const FLEET: &str = "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata: {name: kiosks}\nspec:\n  selector: {matchLabels: {role: kiosk}}\n  template: {spec: {config: []}}\n";

fn parse(text: &str) -> (LintConfig, Vec<Diagnostic>) {
    LintConfig::parse(text.as_bytes())
}

fn good(text: &str) -> LintConfig {
    let (config, diagnostics) = parse(text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    config
}

fn lint(files: &[(&str, &str)], config: &LintConfig) -> TreeReport {
    let paths: BTreeSet<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    let candidates = files.iter().filter(|(path, _)| is_candidate(path));
    let parsed: BTreeMap<_, _> =
        candidates.map(|(path, text)| ((*path).to_owned(), Arc::new(parse_file(path, text.as_bytes())))).collect();
    check_tree(&parsed, Some(&paths), config)
}

fn found(diagnostics: &[Diagnostic]) -> Vec<(&str, u32, u32, Severity)> {
    diagnostics.iter().map(|d| (d.code.as_str(), d.line, d.column, d.severity)).collect()
}

#[test]
fn an_empty_configuration_is_the_default() {
    for text in ["", "# nothing yet\n", "---\n", "{}\n", "severity: {}\nexclude: []\n"] {
        assert_eq!(good(text), LintConfig::default(), "{text:?}");
    }
    assert_ne!(good("exclude: [a]"), LintConfig::default());
    assert!(!is_candidate(CONFIG_FILE));
}

#[test]
fn each_mistake_is_named_at_its_place() {
    let error = Severity::Error;
    for (text, code, line, column) in [
        ("- a\n", "SB0701", 1, 1),
        ("severities: {}\n", "SB0701", 1, 1),
        ("severity: off\n", "SB0701", 1, 11),
        ("severity:\n  SB0505: of\n", "SB0701", 2, 11),
        ("severity:\n  SB0505: false\n", "SB0701", 2, 11),
        ("severity:\n  SB0595: off\n", "SB0702", 2, 3),
        ("severity:\n  SB0505: warning\n  SB0103: warning\n", "SB0703", 3, 3),
        ("exclude: docs\n", "SB0701", 1, 10),
        ("exclude: [a, 1]\n", "SB0701", 1, 14),
        ("exclude:\n  - '!a'\n", "SB0704", 2, 5),
        ("exclude:\n  - a\n  - 'a[b'\n", "SB0704", 3, 5),
        ("exclude: ['../a']\n", "SB0704", 1, 11),
        ("exclude: ['/']\n", "SB0704", 1, 11),
        ("severity: {SB0505: off, SB0505: warning}\n", "SB0103", 1, 25),
        ("a: [\n", "SB0101", 1, 4),
        ("{}\n---\n{}\n", "SB0701", 3, 1),
    ] {
        let (_, diagnostics) = parse(text);
        let first = found(&diagnostics).into_iter().find(|d| d.0 == code);
        assert_eq!(first, Some((code, line, column, error)), "{text:?}: {diagnostics:?}");
        assert_eq!(diagnostics[0].file, CONFIG_FILE);
    }
    let (_, typo) = parse("severiti: {}\n");
    assert_eq!(typo[0].hint.as_deref(), Some("did you mean `severity`?"));
    let (_, code) = parse("severity: {SB505: off}\n");
    assert_eq!(code[0].hint.as_deref(), Some("did you mean `SB0505`?"));
}

#[test]
fn the_right_part_of_a_wrong_configuration_counts() {
    let (config, diagnostics) = parse("severity: {SB0505: off, SB0103: off}\nexclude: [docs, '!b']\n");
    assert_eq!(diagnostics.len(), 2);
    assert_eq!(config.severity("SB0505", Severity::Warning), None);
    assert_eq!(config.severity("SB0103", Severity::Error), Some(Severity::Error));
    assert!(config.is_excluded("docs/a.yaml"));
}

#[test]
fn severities_are_changed_as_the_configuration_says() {
    let twice = FLEET.replace("name: kiosks", "name: more");
    let files = [("a.yaml", FLEET), ("b.yaml", twice.as_str())];
    let of = |config: &str| {
        let report = lint(&files, &good(config));
        report.diagnostics.iter().map(|d| (d.code.clone(), d.severity)).collect::<Vec<_>>()
    };
    let overlap = |severity| vec![("SB0505".to_owned(), severity)];
    assert_eq!(of(""), overlap(Severity::Warning));
    assert_eq!(of("severity: {SB0505: warning}"), overlap(Severity::Warning));
    assert_eq!(of("severity: {SB0505: error}"), overlap(Severity::Error));
    assert_eq!(of("severity: {SB0505: off}"), []);
}

#[test]
fn an_unknown_field_that_is_lowered_is_left_out_of_the_manifest() {
    let text = FLEET.replace("spec: {config: []}", "spec: {config: [], colour: red, nested: {a: 1}}");
    let files = [("a.yaml", text.as_str())];
    let strict = lint(&files, &LintConfig::default());
    assert_eq!(strict.diagnostics.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["SB0301", "SB0301"]);
    assert!(has_errors(&strict.diagnostics));
    let lowered = lint(&files, &good("severity: {SB0301: warning}"));
    assert_eq!(lowered.diagnostics.len(), 2);
    assert!(!has_errors(&lowered.diagnostics));
    let [only] = &lowered.manifests[..] else { panic!("{:?}", lowered.manifests) };
    assert_eq!(only.parsed().document.pointer("/spec/template/spec"), Some(&serde_json::json!({"config": []})));
    let Manifest::Fleet(fleet) = only.manifest() else { panic!("no fleet") };
    assert_eq!(fleet.spec.template.spec.config.as_deref(), Some(&[][..]));
    assert!(lint(&files, &good("severity: {SB0301: off}")).diagnostics.is_empty());
}

#[test]
fn an_unknown_field_without_which_nothing_is_left_stays_an_error() {
    // The union's only source is misspelt: without it the provider means nothing.
    let text = FLEET.replace("config: []", "config: [{name: a, inlin: []}]");
    let report = lint(&[("a.yaml", &text)], &good("severity: {SB0301: off}"));
    assert!(has_errors(&report.diagnostics), "{:?}", report.diagnostics);
    assert_eq!(report.diagnostics[0].code, "SB0301");
    assert!(report.diagnostics[0].message.contains("stays an error"), "{}", report.diagnostics[0].message);
    assert!(report.manifests.is_empty());
}

#[test]
fn a_lowered_finding_does_not_hide_one_that_stays() {
    let text = "apiVersion: shorebase/v1alpha1\nkind: EnrollmentPolicy\nmetadata: {name: yes}\nspec: {rules: [{match: {serialNumbers: [no]}, labels: {a: [1]}}]}\n";
    let report = lint(&[("a.yaml", text)], &good("severity: {SB0106: off}"));
    assert!(has_errors(&report.diagnostics), "{:?}", report.diagnostics);
    let named = text.replace("[1]", "on");
    let report = lint(&[("a.yaml", &named)], &good("severity: {SB0106: off}"));
    assert_eq!(found(&report.diagnostics), []);
    assert_eq!(report.manifests[0].manifest().name(), "yes");
}

#[test]
fn excluded_files_are_no_manifests() {
    let files = [("fleets/a.yaml", FLEET), ("docs/b.yaml", "colour: red\n"), ("fleets/c.draft.yaml", FLEET)];
    let report = lint(&files, &good("exclude: ['docs/', '*.draft.yaml']"));
    assert_eq!(found(&report.diagnostics), []);
    assert_eq!(report.manifests.len(), 1);
    let nothing = lint(&files, &good("exclude: ['*']"));
    assert_eq!(nothing.diagnostics[0].code, "SB0506");
}

#[test]
fn patterns_are_those_of_gitignore() {
    let cases = [
        ("a.yaml", &["a.yaml", "x/a.yaml", "a.yaml/b"][..], &["ba.yaml", "a.yaml.b"][..]),
        ("/a.yaml", &["a.yaml"], &["x/a.yaml"]),
        ("*.yaml", &["a.yaml", "x/y/b.yaml"], &["a.yml"]),
        ("docs/", &["docs/a", "x/docs/a/b"], &["docs", "docsa/b"]),
        ("/docs/", &["docs/a"], &["x/docs/a"]),
        ("x/docs", &["x/docs", "x/docs/a"], &["y/x/docs", "x/docsa"]),
        ("x/*/b", &["x/a/b"], &["x/a/c/b", "x/b"]),
        ("x/**/b", &["x/a/b", "x/a/c/b", "x/b"], &["b"]),
        ("**/b", &["b", "a/b", "a/b/c"], &["ab"]),
        ("[ab].yaml", &["a.yaml", "x/b.yaml"], &["c.yaml"]),
    ];
    for (pattern, inside, outside) in cases {
        let config = good(&format!("exclude: ['{pattern}']"));
        for path in inside {
            assert!(config.is_excluded(path), "{pattern} {path}");
        }
        for path in outside {
            assert!(!config.is_excluded(path), "{pattern} {path}");
        }
    }
}

#[test]
fn the_schema_allows_what_the_parser_allows() {
    let schema: serde_json::Value = serde_json::from_str(&fleet_lint::schema::generate()["fleetlint.json"]).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for code in codes::ALL {
        for level in ["off", "warning", "error", "info"] {
            let text = format!("severity:\n  {}: {level}\n", code.code);
            let value = serde_json::json!({"severity": {code.code: level}});
            let (_, diagnostics) = parse(&text);
            assert_eq!(validator.is_valid(&value), diagnostics.is_empty(), "{text}: {diagnostics:?}");
        }
    }
    assert!(!validator.is_valid(&serde_json::json!({"severities": {}})));
    assert!(validator.is_valid(&serde_json::json!({"exclude": ["a"]})));
}

#[test]
fn only_few_errors_can_be_lowered() {
    let lowerable = codes::ALL.iter().filter(|c| c.severity == Severity::Error && c.adjust == Adjust::Adjustable);
    let lowerable: Vec<&str> = lowerable.map(|code| code.code).collect();
    for code in ["SB0106", "SB0301", "SB0402", "SB0410", "SB0504"] {
        assert!(lowerable.contains(&code), "{code}");
    }
    for code in codes::ALL.iter().filter(|c| c.severity == Severity::Error && c.code < "SB0300" && c.code != "SB0106") {
        assert!(!code.can_be_lowered(), "{}", code.code);
    }
    assert!(codes::ALL.iter().filter(|c| c.severity == Severity::Warning).all(codes::Code::can_be_lowered));
}

#[test]
fn a_configuration_that_is_too_large_is_refused() {
    let (config, diagnostics) = parse(&"# x\n".repeat(100_000));
    assert_eq!((config, diagnostics[0].code.as_str()), (LintConfig::default(), "SB0701"));
    let many = format!("exclude: [{}]", "a, ".repeat(300));
    assert!(has_errors(&parse(&many).1));
    let long = format!("exclude: ['{}']", "{a,b}".repeat(200));
    assert_eq!(parse(&long).1[0].code, "SB0704");
}

/// Pieces of configurations, right and wrong.
const PIECES: &[&str] = &[
    "severity:\n",
    "exclude:\n",
    "  SB0505: off\n",
    "  SB0103: warning\n",
    "  - '*.yaml'\n",
    "  - '[a'\n",
    "  - '{a,{b,c}}'\n",
    "  - '!x'\n",
    "{",
    "}",
    "[",
    "]",
    ":",
    " ",
    "\n",
    "---\n",
    "&a ",
    "*a",
    "<<: ",
    "!t ",
    "off",
    "~",
    "1",
    "\0",
    "ä",
    "\\",
    "'",
];

proptest! {
    #[test]
    fn the_parser_of_configurations_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        LintConfig::parse(&bytes);
    }

    #[test]
    fn pieces_of_configurations_never_lower_what_stays(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..20), path in "[a-c/.*]{0,12}",
    ) {
        let (config, diagnostics) = LintConfig::parse(pieces.concat().as_bytes());
        config.is_excluded(&path);
        for code in codes::ALL.iter().filter(|code| code.adjust == Adjust::Fixed) {
            prop_assert_eq!(config.severity(code.code, code.severity), Some(code.severity));
        }
        prop_assert!(diagnostics.iter().all(|d| d.line > 0 && d.column > 0 && d.file == CONFIG_FILE));
    }

    #[test]
    fn any_pattern_compiles_or_is_a_finding(pattern in "[a-c*?/{},\\[\\]!\\\\.-]{0,30}", path in "[a-c/]{1,12}") {
        let text = serde_json::json!({"exclude": [pattern]}).to_string();
        let (config, diagnostics) = LintConfig::parse(text.as_bytes());
        prop_assert!(config.excludes_anything() != has_errors(&diagnostics), "{:?}", diagnostics);
        config.is_excluded(&path);
    }
}
