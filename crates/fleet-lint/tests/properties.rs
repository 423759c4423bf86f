//! Whatever bytes come in: no panic, places inside the file, and no value that the two readers see differently.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use fleet_lint::{ParsedFile, parse_file};
use fleet_model::Severity;
use proptest::prelude::*;

#[path = "properties/format.rs"]
mod format;

const SEED: &str = "\
# a comment with an ä
apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata:
  name: kiosks
  labels: &labels {team: \"retail\", on-call: 'a'}
spec:
  selector:
    matchLabels:
      role: kiosk
    matchExpressions:
      - {key: stage, operator: In, values: [prod, test]}
  template:
    metadata:
      labels:
        <<: *labels
    spec:
      config:
        - name: base
          gitRef: {repository: ., path: config/kiosk}
        - name: files
          inline:
            - path: /etc/a
              content: |
                name={{ .metadata.name }}
                  more ä
              mode: 0644
            - path: /etc/b
              content: >-
                folded
                text
              mode: 420
---
apiVersion: shorebase/v1alpha1
kind: EnrollmentPolicy
metadata: {name: all}
spec:
  rules:
    - match: {systemInfo: {hostname: kiosk-*}}
      labels: {role: kiosk}
";

/// Pieces of YAML that do harm.
const PIECES: &[&str] = &[
    "\t", "\n", " ", ":", "- ", "? ", "&a ", "*a", "*labels", "!x ", "|", ">", "\"", "'", "{", "}", "[", "]", "#", "%",
    "---\n", "...\n", "<<: ", "0644", "yes", "~", ".nan", "1e999", "{{", "}}", "\u{feff}", "\r", "\u{85}", "\u{2028}",
    "ä", "a: 1\n", ", ", "\\", "@", "`", "\0",
];

/// What serde alone makes of a document, with merge keys applied and modes with leading zeros read as octal.
fn by_serde(mut value: serde_yaml::Value) -> serde_json::Value {
    value.apply_merge().unwrap();
    let mut value = serde_json::to_value(value).unwrap();
    octal_modes(&mut value);
    value
}

fn octal_modes(value: &mut serde_json::Value) {
    let children: Vec<&mut serde_json::Value> = match value {
        serde_json::Value::Array(items) => items.iter_mut().collect(),
        serde_json::Value::Object(fields) => {
            if let Some(serde_json::Value::String(mode)) = fields.get("mode") {
                let number = u32::from_str_radix(mode, 8).unwrap();
                fields.insert("mode".to_owned(), number.into());
            }
            fields.values_mut().collect()
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => return,
    };
    children.into_iter().for_each(octal_modes);
}

/// Checks what holds for every file.
fn check(file: &ParsedFile, bytes: &[u8]) -> Result<(), TestCaseError> {
    let lines = u32::try_from(bytes.iter().filter(|b| matches!(b, b'\n' | b'\r')).count()).unwrap() + 2;
    for diagnostic in &file.diagnostics {
        prop_assert!(diagnostic.line >= 1 && diagnostic.column >= 1, "{diagnostic:?}");
        prop_assert!(diagnostic.line <= lines && diagnostic.end_line <= lines, "{diagnostic:?}");
        let (start, end) = ((diagnostic.line, diagnostic.column), (diagnostic.end_line, diagnostic.end_column));
        prop_assert!(start <= end, "{diagnostic:?}");
        prop_assert!(fleet_lint::codes::find(&diagnostic.code).is_some());
    }
    // What was read without an error is all there: nothing is left out in silence.
    let is_yaml = file.path.ends_with(".yaml");
    if is_yaml && file.diagnostics.iter().all(|d| d.severity == Severity::Warning) {
        let given: Vec<serde_json::Value> = serde_yaml::Deserializer::from_slice(bytes)
            .map(|reader| by_serde(<serde_yaml::Value as serde::Deserialize>::deserialize(reader).unwrap()))
            .filter(|value| !value.is_null())
            .collect();
        prop_assert_eq!(given.len(), file.manifests.len());
        for (given, parsed) in given.iter().zip(&file.manifests) {
            let mut given = given.clone();
            given["apiVersion"] = parsed.document["apiVersion"].clone();
            prop_assert_eq!(&given, &parsed.document);
        }
    }
    for parsed in &file.manifests {
        let whole = parsed.full_span("").unwrap();
        let stays = |d: &&fleet_model::Diagnostic| {
            d.severity == Severity::Error && !fleet_lint::codes::find(&d.code).unwrap().can_be_lowered()
        };
        for error in file.diagnostics.iter().filter(stays) {
            prop_assert!(
                error.line < whole.line || error.line > whole.end_line || error.code.starts_with("SB01"),
                "{error}"
            );
        }
        prop_assert!(parsed.line <= parsed.end_line);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), json in any::<bool>()) {
        check(&parse_file(if json { "a.json" } else { "a.yaml" }, &bytes), &bytes)?;
    }

    #[test]
    fn random_pieces_never_panic(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)) {
        let text = pieces.concat();
        check(&parse_file("a.yaml", text.as_bytes()), text.as_bytes())?;
    }

    #[test]
    fn damaged_manifests_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, proptest::sample::select(PIECES)), 1..5),
    ) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (at, cut, piece) in edits {
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        check(&parse_file("a.yaml", text.as_bytes()), text.as_bytes())?;
    }

    #[test]
    fn quoted_values_arrive_as_they_are(value in "[ -~äß€]{0,40}") {
        let quoted = serde_json::to_string(&value).unwrap();
        let text = format!(
            "apiVersion: v1beta1\nkind: Fleet\nmetadata:\n  name: a\n  annotations:\n    x: {quoted}\nspec:\n  selector: {{matchLabels: {{a: b}}}}\n  template: {{spec: {{}}}}\n"
        );
        let file = parse_file("a.yaml", text.as_bytes());
        prop_assert_eq!(&file.diagnostics, &[]);
        prop_assert_eq!(&file.manifests[0].document["metadata"]["annotations"]["x"], &serde_json::Value::String(value));
    }

    #[test]
    fn plain_values_are_text_or_a_finding(value in "[0-9a-zA-Z_.:+-]{1,12}") {
        let text = format!(
            "apiVersion: v1beta1\nkind: Fleet\nmetadata:\n  name: a\n  annotations:\n    x: {value}\nspec:\n  selector: {{matchLabels: {{a: b}}}}\n  template: {{spec: {{}}}}\n"
        );
        let file = parse_file("a.yaml", text.as_bytes());
        if file.diagnostics.is_empty() {
            prop_assert_eq!(&file.manifests[0].document["metadata"]["annotations"]["x"], &serde_json::Value::String(value));
        } else {
            prop_assert!(fleet_lint::has_errors(&file.diagnostics));
            prop_assert!(file.diagnostics.iter().all(|d| d.code != "SB0110"), "{:?}", file.diagnostics);
        }
    }
}

#[test]
fn the_seed_is_clean() {
    assert_eq!(parse_file("a.yaml", SEED.as_bytes()).diagnostics, []);
}
