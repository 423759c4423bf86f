//! Slips of the hand: one finding each, where a person would put the finger, with what to write instead.

use fleet_lint::parse_file;

use super::changes::FLEET;
use super::format::{FULL, GIT, OCI, SYNC, check_changes, marked};
use super::{DEVICE, POLICY};

/// The only finding of a change stands where the mark is, and its hint says what to do.
fn one(base: &str, from: &str, to: &str, hint: &str) {
    assert_eq!(base.matches(from).count(), 1, "the case changes one place: {from:?}");
    let (text, expected) = marked(&base.replacen(from, to, 1));
    let found = parse_file("a.yaml", text.as_bytes()).diagnostics;
    let [only] = &found[..] else { panic!("{to:?}: {found:#?}") };
    assert_eq!([(only.code.clone(), only.line, only.column)], expected[..], "{to:?}: {only}");
    assert!(only.hint.as_deref().unwrap_or_default().contains(hint), "{to:?}: {hint}: {:?}", only.hint);
}

#[test]
fn a_misspelt_field_that_must_be_there_is_one_finding_at_its_key() {
    one(FLEET, "metadata:\n", "«SB0301»metdata:\n", "did you mean `metadata`?");
    one(FLEET, "  name: kiosks", "  «SB0301»nmae: kiosks", "did you mean `name`?");
    one(FLEET, "spec:\n  selector", "«SB0301»specs:\n  selector", "did you mean `spec`?");
    one(FLEET, "  template:", "  «SB0301»templat:", "did you mean `template`?");
    one(FLEET, "            - path: /etc/a", "            - «SB0301»paht: /etc/a", "did you mean `path`?");
    one(FLEET, "path: config/kiosk", "«SB0301»directory: config/kiosk", "did you mean `path`?");
    one(FULL, "appType: compose", "«SB0301»type: compose", "did you mean `appType`?");
    one(FULL, "monitorType: Disk", "«SB0301»monitor: Disk", "did you mean `monitorType`?");
    one(SYNC, "targetRevision:", "«SB0301»branch:", "did you mean `targetRevision`?");
    one(GIT, "  type: git", "  «SB0301»tpye: git", "did you mean `type`?");
    one(GIT, "  url: ", "  «SB0301»ulr: ", "did you mean `url`?");
    one(OCI, "  registry: ", "  «SB0301»url: ", "did you mean `registry`?");
    one(POLICY, "- match:", "- «SB0301»matches:", "did you mean `match`?");
    // Without these nobody knows which fields there are; of other files nothing is assumed.
    one(FLEET, "kind: Fleet", "«SB0202»Kind: Fleet", "did you mean `kind`?");
    one(FLEET, "apiVersion:", "«SB0204»apiversion:", "did you mean `apiVersion`?");
    one("bind: 0.0.0.0\n", "bind", "«SB0202»bind", "`exclude` in .fleetlint.yaml");
    one(FLEET, "kind: Fleet", "«SB0202»kind:", "known kinds");
    one(FLEET, "apiVersion: flightctl.io/v1beta1", "«SB0204»apiVersion:", "flightctl.io/v1beta1");
}

#[test]
fn one_slip_is_one_finding() {
    check_changes(
        FLEET,
        &[
            ("name: kiosks", "name: «SB0208»\"\""),
            ("        - name: base\n", "        - name: base\n          «SB0303»inline:\n"),
            ("        - name: base\n", "        «SB0303»-\n        - name: base\n"),
            ("repository: .", "targetRevision: main\n            repository: «SB0305»\"\""),
            ("repository: .", "targetRevision: main\n            repository: «SB0208»https://git.example.com/a.git"),
            ("repository: .", "targetRevision: «SB0307»\"ma in\"\n            repository: shared"),
            ("repository: .", "targetRevision: «SB0307»main..next\n            repository: shared"),
            ("role: kiosk", "role: «SB0101»*/5 * * *"),
            ("              mode: 0644", "              mode: «SB0305»-1"),
        ],
    );
    check_changes(
        FULL,
        &[
            ("path: docker-compose.yaml", "path: «SB0449»/docker-compose.yaml"),
            ("services:\n", "«SB0450»service:\n"),
            (
                "severity: Warning, duration: 10m, percentage: 80",
                "severity: Warning, duration: 10m, percentage: «SB0469»180",
            ),
            (
                "severity: Warning, duration: 10m, percentage: 80",
                "severity: Warning, duration: 10m, percentage: «SB0469»-1",
            ),
            (
                "          image: quay.io/acme/proxy:1\n",
                "          inline:\n            - path: a.container\n              content: |\n                \
                 «SB0453»Image=quay.io/a/b:1\n                Exec=x\n",
            ),
        ],
    );
    check_changes(GIT, &[("https://git", "«SB0416»https:/git")]);
    check_changes(SYNC, &[("repository: shared", "repository: «SB0208»Shared Things")]);
    check_changes(DEVICE, &[("path: /etc/a", "path: «SB0420»/etc/{{ .metadata.name }}")]);
}

#[test]
fn what_does_not_fit_hides_nothing_else() {
    check_changes(
        FULL,
        &[
            ("\"podman-*.service\"]", "«SB0463»\"a b\"]\n      «SB0211»consoles: []"),
            ("at: \"0 2 * * *\", timeZone: Europe/Berlin", "at: \"«SB0464»61 2 * * *\", timeZone: «SB0303»5"),
        ],
    );
    let text = FLEET.replace("path: /etc/a", "path: etc/a").replace("    team: retail", "    team: 1");
    let found = parse_file("a.yaml", text.as_bytes()).diagnostics;
    assert_eq!(found.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["SB0303", "SB0405"], "{found:#?}");
}

#[test]
fn a_selector_is_pointed_at_where_it_is_wrong() {
    let expressions = |key: &str, operator: &str, values: &str| {
        format!("    matchExpressions:\n      - key: {key}\n        operator: {operator}\n        values: {values}")
    };
    let of = |key: &str, operator: &str, values: &str| expressions(key, operator, values);
    let labels = "    matchLabels:\n      role: kiosk";
    one(FLEET, labels, &of("«SB0403»\"a b\"", "In", "[x]"), "");
    one(FLEET, labels, &of("a", "In", "«SB0403»[]"), "add the values");
    one(FLEET, labels, &of("a", "In", "[x, «SB0403»\"a b\"]"), "");
    one(FLEET, labels, &of("a", "Exists", "[x]").replace("values", "«SB0403»values"), "remove `values`");
    one(FLEET, labels, "    «SB0301»role: kiosk", "put the label below `matchLabels`");
}

#[test]
fn a_placeholder_is_pointed_at_in_every_notation() {
    let content = "content: |\n                name={{ .metadata.name }}";
    for text in [
        "content: \"a\\tb {{ «SB0408».metadata.nme }}\"",
        "content: 'it''s {{ «SB0408».metadata.nme }}'",
        "content: >\n                first\n                a {{ «SB0408».metadata.nme }}",
        "content: first\n                a {{ «SB0408».metadata.nme }}",
        "content: \"first\n                a {{ «SB0408».metadata.nme }}\"",
        "content: |\n\n\n                a {{ «SB0408».metadata.nme }}",
        "content: |2\n                  first\n                \u{1f600} {{ «SB0408».metadata.nme }}",
        // There is no place in the file for what is encoded.
        "contentEncoding: base64\n              content: «SB0408»e3sgLm1ldGFkYXRhLm5tZSB9fQ==",
    ] {
        one(FLEET, content, text, "did you mean `.metadata.name`?");
    }
    one(FLEET, ".metadata.name", "upper «SB0408»metadata.name", "did you mean `.metadata.name`?");
    one(FLEET, ".metadata.name", "«SB0408»uper .metadata.name", "did you mean `upper`?");
    one(FLEET, ".metadata.name", "«SB0408».metadata.label.site", "did you mean `.metadata.labels.site`?");
    one(FLEET, content, "content: {«SB0109»{ .metadata.name }}", "quote a value that begins with a placeholder");
}

#[test]
fn a_syntax_error_is_where_the_slip_is_not_where_the_parser_stops() {
    one(FLEET, "name: kiosks", "«SB0101»name:kiosks", "`name: kiosks`");
    one(FLEET, "        - name: base\n", "        «SB0101»-name: base\n", "a space behind the `-`");
    one(FLEET, "  selector:", "  «SB0101»selector", "`selector:`");
    one(FLEET, "kind: Fleet", "kind: Fleet\nnote: a«SB0101»: b", "`: ` in it");
    one(FLEET, "team: retail", "team: «SB0101»\"retail\n    more: \"x\"", "close it: \"");
    one(FLEET, "team: retail", "team: «SB0101»[retail", "close it with `]`");
    one(FLEET, "team: retail", "team: \"re\\tail C:«SB0101»\\dir\"", "`\\\\`");
    one(FLEET, "team: retail", "team: \"retail\" «SB0101»shop", "quote the whole value");
    one(FLEET, "team: retail", "team: «SB0101»@retail", "begins with `@`");
    one(FLEET, "team: retail", "team: «SB0113»*retail", "quote it if it is text");
    one(FLEET, "  name: kiosks", "«SB0101»\u{a0}\u{a0}name: kiosks", "indent with spaces");
    one(FLEET, "    team: retail", "    «SB0303»team:retail", "put a space behind the colon");
    let compose = "                  web:\n                    image: quay.io/acme/web:1\n";
    let tab =
        "                  web:\n                    image: quay.io/acme/web:1\n                «SB0450»\t  b: 1\n";
    one(FULL, compose, tab, "indent with spaces");
}

#[test]
fn a_value_of_the_wrong_type_says_what_to_write() {
    let labels = "    matchLabels:\n      role: kiosk";
    one(FLEET, labels, "    matchLabels:\n      «SB0303»- role: kiosk", "remove the `- `");
    one(FULL, "values: [kiosk]", "values: «SB0303»kiosk", "write a list: [kiosk]");
    one(FULL, "percentage: 80", "percentage: «SB0303»\"80%\"", "write 80");
    let image = "os:\n        image: quay.io/acme/os:{{ .metadata.labels.stage }}";
    one(FULL, image, "os: «SB0303»quay.io/acme/os:1", "with catalogItemRef, image");
    one(FLEET, "mode: 0644", "mode: «SB0303»rw-r--r--", "as an octal number");
    one(FLEET, "name: kiosks", "name: «SB0208»Kiosks_1", "did you mean `kiosks-1`?");
    one(FLEET, "- name: files", "- name: «SB0417»My Files", "did you mean `my-files`?");
    let found =
        parse_file("a.yaml", FULL.replace("Example.com/Team: \"Retail, Berlin\"", "a.b/c: 1").as_bytes()).diagnostics;
    assert_eq!(found[0].message, "`a.b/c` is a number, not text");
}
