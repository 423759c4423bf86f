//! Broken files: each gives exactly the expected codes at the expected places, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use fleet_lint::{codes, parse_file};

#[path = "corpus/changes.rs"]
mod changes;
#[path = "corpus/elsewhere.rs"]
mod elsewhere;
#[path = "corpus/format.rs"]
mod format;
#[path = "corpus/slips.rs"]
mod slips;

use changes::{FLEET, FLEET_CHANGES};

const POLICY: &str = "\
apiVersion: shorebase/v1alpha1
kind: EnrollmentPolicy
metadata:
  name: all
spec:
  rules:
    - match:
        systemInfo:
          hostname: kiosk-*
      labels:
        role: kiosk
";

const REPOSITORY: &str = "\
apiVersion: v1beta1
kind: Repository
metadata:
  name: shared
spec:
  type: git
  url: https://git.example.com/shared.git
";

const SYNC: &str = "\
apiVersion: flightctl.io/v1beta1
kind: ResourceSync
metadata:
  name: more
spec:
  repository: shared
  targetRevision: main
  path: fleets
";

const DEVICE: &str = "\
apiVersion: flightctl.io/v1beta1
kind: Device
metadata:
  name: r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg
spec:
  config:
    - name: files
      inline:
        - path: /etc/a
          content: hello
";

fn swap(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "the case changes one place: {from:?}");
    text.replacen(from, to, 1)
}

fn found(path: &str, bytes: &[u8]) -> Vec<(String, u32, u32)> {
    parse_file(path, bytes).diagnostics.into_iter().map(|d| (d.code, d.line, d.column)).collect()
}

fn check(name: &str, path: &str, bytes: &[u8], expected: &[(&str, u32, u32)]) {
    let file = parse_file(path, bytes);
    let got: Vec<(&str, u32, u32)> = file.diagnostics.iter().map(|d| (d.code.as_str(), d.line, d.column)).collect();
    let all: Vec<String> = file.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(got, expected, "{name}: {all:#?}");
    // What a repository may lower to a warning leaves the manifest there.
    let is_final = |code: &codes::Code| code.severity == fleet_model::Severity::Error && !code.can_be_lowered();
    let refused = file.diagnostics.iter().any(|d| is_final(codes::find(&d.code).unwrap()));
    if refused && file.manifests.is_empty() {
        return;
    }
    assert!(!refused || path.starts_with("several"), "{name}: a manifest with an error that stays is left out");
}

#[test]
fn right_manifests_have_no_findings() {
    for (name, text) in
        [("fleet", FLEET), ("policy", POLICY), ("repository", REPOSITORY), ("sync", SYNC), ("device", DEVICE)]
    {
        assert_eq!(found("a.yaml", text.as_bytes()), [], "{name}");
        assert_eq!(found("crlf.yaml", text.replace('\n', "\r\n").as_bytes()), [], "{name} with CRLF");
    }
    let several = format!("# only a comment\n---\n{FLEET}---\n---\n{POLICY}...\n");
    assert_eq!(found("a.yaml", several.as_bytes()), []);
    assert_eq!(parse_file("a.yaml", several.as_bytes()).manifests.len(), 2);
    assert_eq!(found("empty.yaml", b""), []);
    let json = r#"{"apiVersion": "v1beta1", "kind": "ResourceSync", "metadata": {"name": "a"}, "spec":
	{"repository": "shared", "targetRevision": "main", "path": "\u0066leets"}}"#;
    assert_eq!(found("a.json", json.as_bytes()), []);
}

#[test]
fn every_broken_fleet_gives_its_findings_at_their_places() {
    assert!(FLEET_CHANGES.len() >= 50);
    for (name, (from, to), expected) in FLEET_CHANGES {
        check(name, "a.yaml", swap(FLEET, from, to).as_bytes(), expected);
    }
}

#[test]
fn other_kinds_have_their_own_rules() {
    for (name, text, (from, to), expected) in [
        (
            "fingerprint",
            DEVICE,
            ("r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg", "kiosk-1"),
            [("SB0209", 4, 9)],
        ),
        (
            "placeholder in a device",
            DEVICE,
            ("content: hello", "content: a {{ .metadata.name }}"),
            [("SB0420", 10, 20)],
        ),
        (
            "secret",
            DEVICE,
            ("      inline:", "      secretRef: {name: a, namespace: b, mountPath: /c}\n      inline:"),
            [("SB0306", 8, 7)],
        ),
        (
            "password",
            REPOSITORY,
            ("  url: https", "  httpConfig: {password: s3cret}\n  url: https"),
            [("SB0410", 7, 16)],
        ),
        ("password in the URL", REPOSITORY, ("https://git", "https://me:s3cret@git"), [("SB0410", 7, 8)]),
        ("key", REPOSITORY, ("  type: git", "  sshConfig: {sshPrivateKey: aGk=}\n  type: git"), [("SB0410", 6, 15)]),
        (
            "SSH without a path",
            REPOSITORY,
            ("https://git.example.com/shared.git", "\"git@git.example.com:\""),
            [("SB0416", 7, 8)],
        ),
        ("registry", REPOSITORY, ("type: git", "type: oci"), [("SB0301", 7, 3)]),
        ("unknown type", REPOSITORY, ("type: git", "type: gitt"), [("SB0304", 6, 9)]),
        ("no type", REPOSITORY, ("  type: git\n", ""), [("SB0302", 6, 3)]),
        ("no URL", REPOSITORY, ("  url: https://git.example.com/shared.git\n", ""), [("SB0302", 6, 3)]),
        (
            "unknown field of a type",
            REPOSITORY,
            ("  type: git\n", "  type: git\n  validationSuffix: x\n"),
            [("SB0301", 7, 3)],
        ),
        ("scheme", REPOSITORY, ("https://", "ftp://"), [("SB0416", 7, 8)]),
        ("catalog", SYNC, ("spec:\n", "spec:\n  type: catalog\n"), [("SB0401", 6, 9)]),
        ("revision", SYNC, ("targetRevision: main", "targetRevision: -x"), [("SB0307", 7, 19)]),
        ("rule for nobody", POLICY, ("      labels:", "    - match: {}\n      labels:"), [("SB0415", 10, 14)]),
        (
            "bad name in a rule",
            POLICY,
            ("        systemInfo:\n          hostname: kiosk-*", "        names: [x]"),
            [("SB0209", 8, 17)],
        ),
        ("bad label in a rule", POLICY, ("role: kiosk", "role: \"-\""), [("SB0402", 11, 15)]),
        ("rules missing", POLICY, ("  rules:", "  rule:"), [("SB0301", 6, 3)]),
    ] {
        let text = swap(text, from, to);
        let mut expected = expected.to_vec();
        match name {
            "secret" => expected = vec![("SB0306", 7, 7)],
            "password" => expected.push(("SB0427", 7, 16)),
            _ => {}
        }
        check(name, "a.yaml", text.as_bytes(), &expected);
    }
    let policy = "apiVersion: shorebase/v1alpha1\nkind: SyncPolicy\nmetadata: {name: a}\nspec: {maxRemovals: 3}\n";
    check("sync policy", "a.yaml", policy.as_bytes(), &[("SB0301", 4, 8)]);
}

#[test]
fn files_that_are_no_text_are_refused_at_the_byte() {
    check("latin-1", "a.yaml", b"kind: Fleet\nname: b\xe4r\n", &[("SB0001", 2, 8)]);
    check("nul", "a.yaml", "ä: b\nkind: \0Fleet\n".as_bytes(), &[("SB0002", 2, 7)]);
    check("byte-order mark", "a.yaml", format!("\u{feff}{FLEET}").as_bytes(), &[("SB0005", 1, 1)]);
    check("too large", "a.yaml", &vec![b'#'; fleet_lint::MAX_FILE_BYTES + 1], &[("SB0003", 1, 1)]);
    check("too many documents", "a.yaml", "---\n".repeat(10_001).as_bytes(), &[("SB0004", 10_001, 1)]);
    check("utf-16", "a.yaml", &[0xff, 0xfe, b'a', 0], &[("SB0001", 1, 1)]);
}

#[test]
fn findings_are_bounded_and_an_error_is_never_lost() {
    let files: String =
        (0..3_000).map(|n| format!("            - {{path: /etc/{n}, content: x, mode: 644}}\n")).collect();
    let text = swap(FLEET, "          inline:\n", &format!("          inline:\n{files}")) + "extra: 1\n";
    let file = parse_file("a.yaml", text.as_bytes());
    assert_eq!(file.diagnostics.len(), 1_000);
    assert!(file.diagnostics.iter().any(|d| d.code == "SB0301"));
    assert!(
        file.diagnostics[999].message.ends_with("(the file has 2001 more findings)"),
        "{}",
        file.diagnostics[999].message
    );
    let long = swap(FLEET, "kind: Fleet", &format!("kind: {}", "x".repeat(100_000)));
    assert!(parse_file("a.yaml", long.as_bytes()).diagnostics[0].message.len() < 2_000);
    let marked = swap(FLEET, "apiVersion: flightctl.io/v1beta1\n", "");
    check(
        "warning at the place of an error",
        "a.yaml",
        format!("\u{feff}{marked}").as_bytes(),
        &[("SB0005", 1, 1), ("SB0204", 1, 1)],
    );
}

#[test]
fn documents_without_bounds_are_refused_quickly() {
    let start = std::time::Instant::now();
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let above = level - 1;
        let items = vec![format!("*a{above}"); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    check("bomb", "a.yaml", bomb.as_bytes(), &[("SB0108", 5, 9)]);
    let heavy = format!("a: &a {}\nb: [{}]\n", "x".repeat(1_000_000), vec!["*a"; 2_000].join(", "));
    check("heavy aliases", "a.yaml", heavy.as_bytes(), &[("SB0108", 2, 4)]);
    let deep = format!("a: {}1{}\n", "[".repeat(70), "]".repeat(70));
    check("deep flow", "a.yaml", deep.as_bytes(), &[("SB0107", 1, 68)]);
    let deep_block: String = (0..80).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    check("deep block", "a.yaml", deep_block.as_bytes(), &[("SB0107", 65, 65)]);
    check("huge nesting", "a.yaml", "[".repeat(1_000_000).as_bytes(), &[("SB0107", 1, 65)]);
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn other_shapes_are_refused() {
    check("list", "a.yaml", b"- a\n- b\n", &[("SB0201", 1, 1)]);
    check("text", "a.yaml", b"hello\n", &[("SB0201", 1, 1)]);
    check("directive", "a.yaml", format!("%YAML 1.2\n---\n{FLEET}").as_bytes(), &[("SB0112", 1, 1)]);
    check("json", "a.json", b"{\"kind\": \"Fleet\",}", &[("SB0114", 1, 18)]);
    check("json twice", "a.json", b"{\"kind\": \"Fleet\", \"kind\": \"Fleet\"}", &[("SB0103", 1, 19)]);
    check("yaml in json", "a.json", b"kind: Fleet\n", &[("SB0114", 1, 1)]);
    check("json list", "a.json", b"[1]", &[("SB0201", 1, 1)]);
    let kind = swap(FLEET, "kind: Fleet", "kind: [Fleet]");
    check("kind is a list", "a.yaml", kind.as_bytes(), &[("SB0202", 2, 7)]);
    let second = format!("{FLEET}---\n{}", swap(POLICY, "  rules:", "  ruls: []\n  rules:"));
    check("second document", "several.yaml", second.as_bytes(), &[("SB0301", 30, 3)]);
    let alias = format!("a:\n  - b: [*nothing]\n---\n{FLEET}");
    check("good after a bad alias", "a.yaml", alias.as_bytes(), &[("SB0113", 2, 9)]);
    check("only an end", "a.yaml", b"...\n", &[("SB0110", 1, 1)]);
    let broken = format!("{FLEET}---\nkind: [\n");
    check("good before broken", "several.yaml", broken.as_bytes(), &[("SB0101", 25, 7)]);
    assert_eq!(parse_file("several.yaml", broken.as_bytes()).manifests.len(), 1);
}

#[test]
fn merges_and_modes_mean_what_people_mean() {
    let merged = FLEET
        .replace("    team: retail", "    &shared team: retail")
        .replace("            - path: /etc/a", "            - &file\n              path: /etc/a")
        + "            - <<: *file\n              path: /etc/b\n";
    let file = parse_file("a.yaml", merged.as_bytes());
    assert_eq!(file.diagnostics, []);
    let inline = file.manifests[0].document.pointer("/spec/template/spec/config/1/inline").unwrap();
    assert_eq!(inline[1]["path"], "/etc/b");
    assert_eq!(inline[1]["mode"], 420);
    assert_eq!(inline[0]["content"], inline[1]["content"]);
    let span = file.manifests[0].span("/spec/template/spec/config/1/inline/1/mode").unwrap();
    assert_eq!((span.line, span.column, span.end_column), (24, 21, 25), "a merged value stands where it was written");
}

#[test]
fn findings_say_what_to_do() {
    let of = |from: &str, to: &str| parse_file("a.yaml", swap(FLEET, from, to).as_bytes()).diagnostics.remove(0);
    let unknown = of("  selector:", "  selektor:");
    assert_eq!(unknown.hint.as_deref(), Some("did you mean `selector`?"));
    assert_eq!(unknown.pointer, "/spec/selektor");
    assert_eq!((unknown.end_line, unknown.end_column), (8, 11));
    assert_eq!(of("kind: Fleet", "kind: fleet").hint.as_deref(), Some("did you mean `Fleet`?"));
    assert_eq!(of("team: retail", "team: 1.10").hint.as_deref(), Some("quote it: \"1.10\""));
    let secret = swap(REPOSITORY, "  url: https", "  httpConfig: {password: 012345}\n  url: https");
    for finding in parse_file("a.yaml", secret.as_bytes()).diagnostics {
        assert!(!format!("{finding:?}").contains("12345"));
    }
    let secret = swap(REPOSITORY, "  url: https", "  httpConfig: {password: s3cret, token: 12345}\n  url: https");
    for finding in parse_file("a.yaml", secret.as_bytes()).diagnostics {
        assert!(!format!("{finding:?}").contains("s3cret") && !format!("{finding:?}").contains("12345"));
    }
}
