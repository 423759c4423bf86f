//! Slips in a Fleet, and what is said of each. The end-to-end tests of the service read this table too.

/// A Fleet that is right; cases change it.
pub(crate) const FLEET: &str = "\
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

/// `(name, change of the Fleet, findings)`.
pub(crate) type Change = (&'static str, (&'static str, &'static str), &'static [(&'static str, u32, u32)]);

pub(crate) const FLEET_CHANGES: &[Change] = &[
    ("escaped NUL", ("name: kiosks", "name: kiosks\n  annotations: {a: \"x\\0y\"}"), &[("SB0002", 5, 20)]),
    ("tab", ("  name: kiosks", "\tname: kiosks"), &[("SB0102", 4, 1)]),
    ("bad indent", ("  labels:", "   labels:"), &[("SB0101", 5, 10)]),
    ("unclosed quote", ("name: kiosks", "name: \"kiosks"), &[("SB0101", 4, 9)]),
    ("unclosed bracket", ("role: kiosk", "role: [kiosk"), &[("SB0101", 10, 13)]),
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
        &[("SB0301", 17, 13)],
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
        "httpRef",
        (
            "          gitRef:\n            repository: .\n            path: config/kiosk\n",
            "          httpRef: {repository: a, filePath: /b}\n",
        ),
        &[],
    ),
    ("consoles", ("    spec:\n      config:", "    spec:\n      consoles: []\n      config:"), &[("SB0211", 13, 7)]),
    ("duplicate provider", ("- name: files", "- name: base"), &[("SB0404", 18, 17)]),
    ("bad provider name", ("- name: files", "- name: My Files"), &[("SB0417", 18, 17)]),
    (
        "secretRef",
        (
            "          gitRef:\n            repository: .\n            path: config/kiosk\n",
            "          secretRef: {namespace: a, name: b, mountPath: /b}\n",
        ),
        &[],
    ),
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
        "file below a file",
        (
            "              mode: 0644",
            "              mode: 0644\n            - path: /etc/a/b\n              content: b",
        ),
        &[("SB0428", 24, 21)],
    ),
    (
        "file where a directory is needed",
        (
            "            - path: /etc/a\n",
            "            - path: /etc/a/b/c\n              content: b\n            - path: /etc/a\n",
        ),
        &[("SB0428", 22, 21)],
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
