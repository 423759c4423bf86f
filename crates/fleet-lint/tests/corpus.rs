//! Broken files: each gives exactly the expected codes at the expected places, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use fleet_lint::{codes, parse_file};

#[path = "corpus/elsewhere.rs"]
mod elsewhere;
#[path = "corpus/format.rs"]
mod format;

/// A Fleet that is right; cases change it.
const FLEET: &str = "\
apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata:
  name: kiosks
  labels:
    team: retail
spec:
  selector:
    matchLabels:
      role: kiosk
  template:
    spec:
      config:
        - name: base
          gitRef:
            repository: .
            path: config/kiosk
        - name: files
          inline:
            - path: /etc/a
              content: |
                name={{ .metadata.name }}
              mode: 0644
";

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

/// `(name, change of the Fleet, findings)`.
type Change = (&'static str, (&'static str, &'static str), &'static [(&'static str, u32, u32)]);

const FLEET_CHANGES: &[Change] = &[
    ("escaped NUL", ("name: kiosks", "name: kiosks\n  annotations: {a: \"x\\0y\"}"), &[("SB0002", 5, 20)]),
    ("tab", ("  name: kiosks", "\tname: kiosks"), &[("SB0102", 4, 1)]),
    ("bad indent", ("  labels:", "   labels:"), &[("SB0101", 5, 10)]),
    ("unclosed quote", ("name: kiosks", "name: \"kiosks"), &[("SB0101", 4, 9)]),
    ("unclosed bracket", ("role: kiosk", "role: [kiosk"), &[("SB0101", 11, 11)]),
    ("duplicate key", ("  labels:\n", "  name: other\n  labels:\n"), &[("SB0103", 5, 3)]),
    ("duplicate key below", ("      role: kiosk\n", "      role: kiosk\n      role: x\n"), &[("SB0103", 11, 7)]),
    ("custom tag", ("team: retail", "team: !secret retail"), &[("SB0104", 6, 11)]),
    ("core tag", ("team: retail", "team: !!str 12"), &[("SB0104", 6, 11)]),
    ("merge of text", ("    team: retail", "    <<: retail"), &[("SB0105", 6, 5)]),
    ("quoted merge key", ("    team: retail", "    \"<<\": {a: b}"), &[("SB0105", 6, 5)]),
    ("label no", ("team: retail", "team: no"), &[("SB0106", 6, 11)]),
    ("label on", ("role: kiosk", "role: On"), &[("SB0106", 10, 13)]),
    ("label with zeros", ("team: retail", "team: 0012"), &[("SB0106", 6, 11)]),
    ("label in base 60", ("team: retail", "team: 12:30:45"), &[("SB0106", 6, 11)]),
    ("label with marks", ("team: retail", "team: 1_000"), &[("SB0106", 6, 11)]),
    ("key yes", ("team: retail", "yes: retail"), &[("SB0106", 6, 5)]),
    ("label true", ("team: retail", "team: true"), &[("SB0303", 6, 11)]),
    ("label 1.10", ("team: retail", "team: 1.10"), &[("SB0303", 6, 11)]),
    ("label null", ("team: retail", "team:"), &[("SB0303", 6, 5)]),
    ("number as key", ("team: retail", "12: retail"), &[("SB0109", 6, 5)]),
    ("list as key", ("team: retail", "[a]: retail"), &[("SB0109", 6, 5)]),
    ("not a number", ("mode: 0644", "mode: .nan"), &[("SB0111", 23, 21)]),
    ("huge number", ("mode: 0644", "mode: 99999999999999999999999"), &[("SB0111", 23, 21)]),
    ("unknown alias", ("team: retail", "team: *retail"), &[("SB0113", 6, 11)]),
    ("recursive alias", ("  labels:\n", "  labels: &l\n    all: *l\n"), &[("SB0113", 6, 10)]),
    ("old version", ("flightctl.io/v1beta1", "flightctl.io/v1alpha1"), &[("SB0206", 1, 13)]),
    ("foreign version", ("flightctl.io/v1beta1", "apps/v1"), &[("SB0205", 1, 13)]),
    ("our version on a Fleet", ("flightctl.io/v1beta1", "shorebase/v1alpha1"), &[("SB0205", 1, 13)]),
    ("no version", ("apiVersion: flightctl.io/v1beta1\n", ""), &[("SB0204", 1, 1)]),
    ("no kind", ("kind: Fleet\n", ""), &[("SB0202", 1, 1)]),
    ("typo in kind", ("kind: Fleet", "kind: Fleeet"), &[("SB0203", 2, 7)]),
    ("kind of another system", ("kind: Fleet", "kind: Deployment"), &[("SB0203", 2, 7)]),
    ("kind that is not from Git", ("kind: Fleet", "kind: EnrollmentRequest"), &[("SB0210", 2, 7)]),
    ("no name", ("  name: kiosks\n", ""), &[("SB0207", 4, 3)]),
    ("bad name", ("name: kiosks", "name: Kiosks_1"), &[("SB0208", 4, 9)]),
    ("number as name", ("name: kiosks", "name: 12"), &[("SB0303", 4, 9)]),
    ("bad label key", ("team: retail", "te am: retail"), &[("SB0402", 6, 5)]),
    ("bad label value", ("team: retail", "team: re tail"), &[("SB0402", 6, 11)]),
    ("owner set", ("  labels:\n", "  owner: Fleet/x\n  labels:\n"), &[("SB0211", 5, 3)]),
    ("status", ("spec:\n  selector", "status:\n  conditions: []\nspec:\n  selector"), &[("SB0211", 7, 1)]),
    ("unknown field at the top", ("spec:\n  selector", "spek: 1\nspec:\n  selector"), &[("SB0301", 7, 1)]),
    ("unknown field in metadata", ("  labels:\n", "  lables:\n"), &[("SB0301", 5, 3)]),
    ("unknown field in spec", ("  selector:", "  selektor:"), &[("SB0301", 8, 3)]),
    ("unknown field in a provider", ("          gitRef:", "          gitref:"), &[("SB0301", 15, 11)]),
    (
        "unknown field in a file",
        ("              mode: 0644", "              mod: 0644"),
        &[("SB0301", 23, 15), ("SB0106", 23, 20)],
    ),
    (
        "unknown field in a reference",
        ("            path: config/kiosk", "            paths: config/kiosk"),
        &[("SB0302", 16, 13), ("SB0301", 17, 13)],
    ),
    (
        "missing path",
        ("            - path: /etc/a\n              content", "            - content"),
        &[("SB0302", 20, 15)],
    ),
    ("no template", ("  template:\n    spec:\n", "  x:\n    spec:\n"), &[("SB0302", 8, 3), ("SB0301", 11, 3)]),
    (
        "provider without source",
        ("          gitRef:\n            repository: .\n            path: config/kiosk\n", ""),
        &[("SB0306", 14, 11)],
    ),
    (
        "provider with two sources",
        ("          inline:\n", "          gitRef: {repository: ., path: x}\n          inline:\n"),
        &[("SB0306", 18, 11)],
    ),
    (
        "mapping for a list",
        (
            "      config:\n        - name: base\n          gitRef:\n            repository: .\n            path: config/kiosk\n        - name: files\n          inline:\n            - path: /etc/a\n              content: |\n                name={{ .metadata.name }}\n              mode: 0644\n",
            "      config: {}\n",
        ),
        &[("SB0303", 13, 15)],
    ),
    ("text for a mapping", ("    matchLabels:\n      role: kiosk", "    matchLabels: kiosk"), &[("SB0303", 9, 18)]),
    ("quoted mode", ("mode: 0644", "mode: \"0644\""), &[("SB0303", 23, 21)]),
    ("decimal mode", ("mode: 0644", "mode: 644"), &[("SB0418", 23, 21)]),
    ("mode out of bounds", ("mode: 0644", "mode: 010000"), &[("SB0305", 23, 21)]),
    ("mode 0o644", ("mode: 0644", "mode: 0o644"), &[]),
    ("mode 420", ("mode: 0644", "mode: 420"), &[]),
    ("no selector", ("  selector:\n    matchLabels:\n      role: kiosk\n", ""), &[("SB0419", 8, 3)]),
    ("empty selector", ("  selector:\n    matchLabels:\n      role: kiosk\n", "  selector: {}\n"), &[("SB0403", 8, 3)]),
    (
        "bad operator",
        ("    matchLabels:\n      role: kiosk", "    matchExpressions:\n      - {key: a, operator: in, values: [b]}"),
        &[("SB0304", 10, 28)],
    ),
    (
        "operator without values",
        ("    matchLabels:\n      role: kiosk", "    matchExpressions:\n      - key: a\n        operator: In"),
        &[("SB0403", 10, 9)],
    ),
    (
        "os without anything",
        ("    spec:\n      config:", "    spec:\n      os: {}\n      config:"),
        &[("SB0306", 13, 11)],
    ),
    (
        "rollout that waits and is wrong",
        ("  template:\n    spec:", "  rolloutPolicy: {}\n  template:\n    spec:"),
        &[("SB0401", 11, 3), ("SB0302", 11, 18)],
    ),
    (
        "secretRef waits",
        (
            "          gitRef:\n            repository: .\n            path: config/kiosk\n",
            "          secretRef: {name: a, namespace: b, mountPath: /b}\n",
        ),
        &[("SB0401", 15, 11)],
    ),
    ("consoles", ("    spec:\n      config:", "    spec:\n      consoles: []\n      config:"), &[("SB0211", 13, 7)]),
    ("duplicate provider", ("- name: files", "- name: base"), &[("SB0404", 18, 17)]),
    ("bad provider name", ("- name: files", "- name: My Files"), &[("SB0417", 18, 17)]),
    ("path not absolute", ("path: /etc/a", "path: etc/a"), &[("SB0405", 20, 21)]),
    ("path of the agent", ("path: /etc/a", "path: /var/lib/flightctl/a"), &[("SB0405", 20, 21)]),
    (
        "bad owner",
        ("              mode: 0644", "              mode: 0644\n              user: \"a b\""),
        &[("SB0406", 24, 21)],
    ),
    (
        "bad base64",
        ("              mode: 0644", "              mode: 0644\n              contentEncoding: base64"),
        &[("SB0407", 22, 17)],
    ),
    ("bad encoding", ("              mode: 0644", "              contentEncoding: gzip"), &[("SB0304", 23, 32)]),
    ("bad placeholder", ("name={{ .metadata.name }}", "x\n                name={{ range .x }}"), &[("SB0408", 23, 25)]),
    ("placeholder not closed", ("name={{ .metadata.name }}", "name={{ .metadata.name"), &[("SB0408", 22, 22)]),
    (
        "duplicate file",
        ("              mode: 0644", "              mode: 0644\n            - path: /etc/a\n              content: b"),
        &[("SB0409", 24, 21)],
    ),
    (
        "self with a revision",
        ("            repository: .\n", "            repository: .\n            targetRevision: main\n"),
        &[("SB0411", 17, 29)],
    ),
    (
        "self with HEAD",
        ("            repository: .\n", "            repository: .\n            targetRevision: HEAD\n"),
        &[],
    ),
    ("no revision", ("repository: .", "repository: shared"), &[("SB0412", 16, 13)]),
    (
        "templated revision",
        (
            "            repository: .\n",
            "            repository: a\n            targetRevision: \"{{ .metadata.name }}\"\n",
        ),
        &[],
    ),
    ("path out of the repository", ("path: config/kiosk", "path: ../kiosk"), &[("SB0414", 17, 19)]),
    (
        "path starts with a placeholder",
        ("path: config/kiosk", "path: \"{{ .metadata.name }}/etc\""),
        &[("SB0414", 17, 19)],
    ),
    (
        "characters beyond ASCII",
        ("team: retail", "{ä: ö, team: no}"),
        &[("SB0402", 6, 6), ("SB0402", 6, 9), ("SB0106", 6, 18)],
    ),
];

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
        ("registry", REPOSITORY, ("type: git", "type: oci"), [("SB0302", 6, 3)]),
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
            "secret" => expected = vec![("SB0306", 7, 7), ("SB0401", 8, 7)],
            "password" => expected.push(("SB0427", 7, 16)),
            "registry" => expected.push(("SB0301", 7, 3)),
            "rules missing" => expected.push(("SB0302", 6, 3)),
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
