//! What builds and code hosts read: each output of `fleetctl lint` on one repository with everything that is awkward.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use fleet_runtime::SystemClock;
use fleetctl::{Io, Terminal};
use serde_json::Value;

/// A name with everything that some format has a meaning for.
const AWKWARD: &str = "fleets/50% a,b::c]]> \"q\"\n<&'ü🚢.yaml";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A repository with errors, warnings, a suppressed warning, a good file and awkward characters.
fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fleet = |name: &str, more: &str| {
        format!(
            "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: {name}\nspec:\n  selector:\n    matchLabels:\n      \
             role: {name}\n  template:\n    spec:\n      config:\n        - name: motd\n          inline:\n            - path: /etc/motd\n              \
             content: hello\n{more}"
        )
    };
    write(dir.path(), "fleets/good.yaml", &fleet("good", ""));
    let suppressed = "              mode: 644 # fleetlint: ignore SB0418 -- it is \"decimal\", really <&>\n            - path: /etc/b\n              content: x\n              mode: 755\n";
    write(dir.path(), "fleets/pos.yaml", &fleet("pos", suppressed).replace("  selector", "  selctor"));
    write(
        dir.path(),
        AWKWARD,
        &fleet("awkward", "").replace("spec:\n  sel", "\"]]>%0A::error::\\n\\e[31m<b>&🚢\\\"\": 1\nspec:\n  sel"),
    );
    dir
}

fn lint(root: &Path, args: &[&str]) -> (u8, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    let args = ["fleetctl", "lint"].iter().chain(args).map(OsString::from).chain([root.into()]);
    let code = fleetctl::run(args, &mut io);
    assert_eq!(String::from_utf8(err).unwrap(), "");
    (code, String::from_utf8(out).unwrap().replace(root.to_str().unwrap(), "DIR"))
}

#[test]
fn every_output_of_an_awkward_repository() {
    let dir = repository();
    for format in ["human", "json", "sarif", "github", "gitlab", "junit"] {
        let (code, out) = lint(dir.path(), &["-o", format]);
        assert_eq!(code, 1, "{format}");
        assert!(!out.chars().any(|c| c.is_control() && c != '\n'), "{format} has control characters");
        insta::assert_snapshot!(format, out.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    }
    let (_, out) = lint(dir.path(), &["--show-suppressed"]);
    assert!(out.contains("suppressed: ") && out.contains("(reason: it is \"decimal\", really <&>)"), "{out}");
}

#[test]
fn a_repository_without_findings_gives_valid_reports() {
    let dir = tempfile::tempdir().unwrap();
    let repository = repository();
    write(dir.path(), "fleets/good.yaml", &fs::read_to_string(repository.path().join("fleets/good.yaml")).unwrap());
    let out = |format: &str| lint(dir.path(), &["-o", format]);
    assert_eq!(out("github"), (0, "checked 1 file: no findings\n".to_owned()));
    assert_eq!(out("gitlab"), (0, "[]\n".to_owned()));
    let sarif: Value = serde_json::from_str(&out("sarif").1).unwrap();
    assert_eq!(sarif["runs"][0]["results"], Value::Array(Vec::new()));
    assert!(out("junit").1.contains("<testsuite name=\"fleets/good.yaml\" tests=\"1\" failures=\"0\""));
}

#[test]
fn sarif_has_what_the_standard_and_code_scanning_require() {
    let dir = repository();
    for args in [&["-o", "sarif"][..], &["-o", "sarif", "--show-suppressed"]] {
        let log: Value = serde_json::from_str(&lint(dir.path(), args).1).unwrap();
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(run["tool"]["driver"]["name"], "fleetctl");
        for rule in rules {
            for text in ["/id", "/shortDescription/text", "/fullDescription/text", "/help/text", "/help/markdown"] {
                assert!(!rule.pointer(text).unwrap().as_str().unwrap().is_empty(), "{text} of {rule}");
            }
            assert!(rule["fullDescription"]["text"].as_str().unwrap().len() <= 1_024);
        }
        let results = run["results"].as_array().unwrap();
        let mut fingerprints = BTreeSet::new();
        for result in results {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert!(matches!(result["level"].as_str().unwrap(), "error" | "warning"));
            assert!(!result["message"]["text"].as_str().unwrap().is_empty());
            let place = &result["locations"][0]["physicalLocation"];
            let uri = place["artifactLocation"]["uri"].as_str().unwrap();
            assert!(uri.starts_with("fleets/") && uri.bytes().all(|b| b.is_ascii_graphic()), "{uri}");
            assert!(!uri.contains([':', ',', '<', '"', ' ']), "{uri}");
            assert_eq!(place["artifactLocation"]["uriBaseId"], "%SRCROOT%");
            let at = |field: &str| place["region"][field].as_u64().unwrap();
            assert!(at("startLine") >= 1 && at("startColumn") >= 1);
            assert!((at("startLine"), at("startColumn")) <= (at("endLine"), at("endColumn")));
            let print = result["partialFingerprints"].as_object().unwrap().values().next().unwrap();
            assert!(fingerprints.insert(print.as_str().unwrap().to_owned()), "{print} is there twice");
        }
        let suppressed: Vec<&Value> = results.iter().filter(|r| r.get("suppressions").is_some()).collect();
        assert_eq!(suppressed.len(), usize::from(args.len() == 3));
        for result in suppressed {
            assert_eq!(result["suppressions"][0]["kind"], "inSource");
            assert_eq!(result["suppressions"][0]["justification"], "it is \"decimal\", really <&>");
        }
    }
}

#[test]
fn gitlab_issues_are_unique_and_survive_lines_that_move() {
    let dir = repository();
    let prints = || -> Vec<String> {
        let issues: Vec<Value> = serde_json::from_str(&lint(dir.path(), &["-o", "gitlab"]).1).unwrap();
        for issue in &issues {
            assert!(matches!(issue["severity"].as_str().unwrap(), "info" | "minor" | "major" | "critical" | "blocker"));
            assert!(issue["location"]["lines"]["begin"].as_u64().unwrap() >= 1);
            assert!(issue["location"]["path"].as_str().unwrap().starts_with("fleets/"));
            assert!(!issue["description"].as_str().unwrap().is_empty() && issue["check_name"].is_string());
        }
        issues.iter().map(|issue| issue["fingerprint"].as_str().unwrap().to_owned()).collect()
    };
    let before = prints();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), before.len());
    for path in [AWKWARD, "fleets/pos.yaml"] {
        let path = dir.path().join(path);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("# a new line\n\n{text}")).unwrap();
    }
    assert_eq!(prints(), before);
}

#[test]
fn junit_is_well_formed_and_counts_right() {
    use quick_xml::events::Event;
    let dir = repository();
    for (args, failures) in [(&["-o", "junit"][..], 2), (&["-o", "junit", "--strict"], 3)] {
        let text = lint(dir.path(), args).1;
        let mut reader = quick_xml::Reader::from_str(&text);
        let mut open = Vec::new();
        let mut seen = BTreeSet::new();
        let mut counted = [0_usize; 3];
        let mut total = None;
        loop {
            let event = reader.read_event().unwrap();
            if let Event::Start(tag) | Event::Empty(tag) = &event {
                let attribute = |name: &str| {
                    let found = tag.attributes().map(Result::unwrap).find(|a| a.key.as_ref() == name.as_bytes());
                    found.map(|a| a.unescape_value().unwrap().into_owned())
                };
                match tag.name().as_ref() {
                    b"testsuites" => {
                        total = Some(
                            ["tests", "failures", "skipped"].map(|name| attribute(name).unwrap().parse().unwrap()),
                        );
                    }
                    b"testcase" => {
                        counted[0] += 1;
                        let name = (attribute("classname").unwrap(), attribute("name").unwrap());
                        assert!(seen.insert(name.clone()), "{name:?} is there twice");
                    }
                    b"failure" => counted[1] += 1,
                    b"skipped" => counted[2] += 1,
                    _ => {}
                }
            }
            if let Event::Start(tag) = &event {
                open.push(tag.name().as_ref().to_owned());
            } else if let Event::End(tag) = &event {
                assert_eq!(open.pop().as_deref(), Some(tag.name().as_ref()));
            } else if matches!(event, Event::Eof) {
                break;
            }
        }
        assert!(open.is_empty());
        assert_eq!(total, Some(counted));
        assert_eq!(counted[1..], [failures, 1]);
        assert!(seen.iter().any(|(file, _)| file == AWKWARD), "{seen:?}");
    }
}

#[test]
fn paths_count_from_the_root_of_the_git_repository() {
    let dir = repository();
    fs::create_dir(dir.path().join(".git")).unwrap();
    let part = dir.path().join("fleets");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    fleetctl::run(["fleetctl", "lint", "-o", "gitlab", part.to_str().unwrap()].map(OsString::from), &mut io);
    let issues: Vec<Value> = serde_json::from_slice(&out).unwrap();
    assert!(
        issues.iter().all(|issue| issue["location"]["path"].as_str().unwrap().starts_with("fleets/")),
        "{issues:?}"
    );
    let file = dir.path().join("fleets/pos.yaml");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
    fleetctl::run(["fleetctl", "lint", "-o", "github", file.to_str().unwrap()].map(OsString::from), &mut io);
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("::error file=fleets/pos.yaml,line="), "{out}");
}
