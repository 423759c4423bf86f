//! Rules across the files of a repository.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_lint::{LintConfig, TreeReport, check_part, check_tree, has_errors, parse_file};

fn fleet(name: &str, selector: &str, config: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: {name}\nspec:\n  selector: {selector}\n  template:\n    \
         spec:\n      config: [{config}]\n"
    )
}

fn own(path: &str) -> String {
    format!("{{name: own, gitRef: {{repository: ., path: \"{path}\"}}}}")
}

fn kiosks(config: &str) -> String {
    fleet("kiosks", "{matchLabels: {role: kiosk}}", config)
}

fn repository(name: &str) -> String {
    format!(
        "apiVersion: v1beta1\nkind: Repository\nmetadata: {{name: {name}}}\nspec: {{type: git, url: 'https://git.example.com/a'}}\n"
    )
}

fn device(labels: &str) -> String {
    format!(
        "apiVersion: v1beta1\nkind: Device\nmetadata:\n  name: r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg\n  labels: {labels}\n"
    )
}

fn lint(files: &[(&str, &str)]) -> TreeReport {
    let paths: BTreeSet<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    let parsed: BTreeMap<String, Arc<fleet_lint::ParsedFile>> = files
        .iter()
        .filter(|(path, _)| fleet_lint::is_candidate(path))
        .map(|(path, text)| ((*path).to_owned(), Arc::new(parse_file(path, text.as_bytes()))))
        .collect();
    check_tree(&parsed, Some(&paths), &LintConfig::default())
}

fn places(report: &TreeReport) -> Vec<(&str, &str, u32, u32)> {
    report.diagnostics.iter().map(|d| (d.code.as_str(), d.file.as_str(), d.line, d.column)).collect()
}

fn names(report: &TreeReport) -> Vec<&str> {
    report.manifests.iter().map(|placed| placed.manifest().name()).collect()
}

#[test]
fn a_name_that_is_defined_twice_names_both_places() {
    let fleet = kiosks("");
    let report = lint(&[("a.yaml", &fleet), ("b.yaml", &fleet)]);
    assert_eq!(places(&report)[0], ("SB0501", "b.yaml", 4, 9));
    assert!(report.diagnostics[0].message.contains("a.yaml:4:9"), "{}", report.diagnostics[0].message);
    let twice = format!("{fleet}---\n{fleet}");
    assert_eq!(places(&lint(&[("a.yaml", &twice)]))[0], ("SB0501", "a.yaml", 14, 9));
    let other_kind = lint(&[("a.yaml", &fleet), ("b.yaml", &repository("kiosks"))]);
    assert_eq!(places(&other_kind), []);
}

#[test]
fn content_of_the_repository_is_not_read_as_manifests() {
    let fleet = kiosks(&own("/config/kiosk/"));
    let report = lint(&[
        ("fleets/a.yaml", &fleet),
        ("config/kiosk/etc/app.yaml", "colour: red\n"),
        ("config/kiosk/etc/fleet.yaml", &fleet),
        ("config/kiosk/etc/broken.yaml", "a: [\n"),
    ]);
    assert_eq!(places(&report), []);
    assert_eq!(names(&report), ["kiosks"]);
    assert_eq!(report.config_paths, ["config/kiosk".to_owned()].into());
    let beside = lint(&[("a.yaml", &fleet), ("config/kiosk/x", ""), ("config/kiosk2/app.yaml", "colour: red\n")]);
    assert_eq!(places(&beside), [("SB0202", "config/kiosk2/app.yaml", 1, 1)]);
}

#[test]
fn placeholders_make_the_directory_before_them_content() {
    let fleet = kiosks(&own("config/{{ .metadata.name }}/etc"));
    let report = lint(&[("a.yaml", &fleet), ("config/x/etc/a.yaml", "a: 1\n")]);
    assert_eq!(places(&report), []);
    assert_eq!(report.config_paths, ["config".to_owned()].into());
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let fleet = kiosks(&own("config/kiosks"));
    let report = lint(&[("a.yaml", &fleet), ("config/kiosk/etc/motd", "")]);
    assert_eq!(places(&report), [("SB0502", "a.yaml", 9, 58)]);
    assert_eq!(report.diagnostics[0].hint.as_deref(), Some("did you mean `config/kiosk`?"));
    let parsed = BTreeMap::from([("a.yaml".to_owned(), Arc::new(parse_file("a.yaml", fleet.as_bytes())))]);
    assert!(
        check_tree(&parsed, None, &LintConfig::default()).diagnostics.is_empty(),
        "without the paths nothing is said about them"
    );
}

#[test]
fn content_that_no_device_could_hold_is_an_error() {
    let fleet = kiosks(&own("config"));
    let report = lint(&[("a.yaml", &fleet), ("config/etc/a:b", ""), ("config/etc/c", "")]);
    assert_eq!(places(&report), [("SB0509", "a.yaml", 9, 58)]);
    let agent = lint(&[("a.yaml", &fleet), ("config/var/lib/flightctl/x", "")]);
    assert_eq!(places(&agent), [("SB0509", "a.yaml", 9, 58)]);
}

#[test]
fn a_manifest_inside_its_own_content_is_an_error() {
    for path in ["fleets", "/", "fleets/a.yaml"] {
        let report = lint(&[("fleets/a.yaml", &kiosks(&own(path)))]);
        assert_eq!(places(&report), [("SB0507", "fleets/a.yaml", 9, 58)], "{path}");
    }
    let one = fleet("one", "{matchLabels: {a: a}}", &own("two"));
    let two = fleet("two", "{matchLabels: {b: b}}", &own("one"));
    let circle = lint(&[("one/a.yaml", &one), ("two/b.yaml", &two)]);
    assert_eq!(places(&circle), [("SB0507", "one/a.yaml", 9, 58), ("SB0507", "two/b.yaml", 9, 58)]);
    let chain = lint(&[("a.yaml", &kiosks(&own("one"))), ("one/a.yaml", &one), ("two/b.yaml", &two)]);
    assert!(
        !chain.diagnostics.iter().any(|d| d.code == "SB0507"),
        "what one/a.yaml says does not count: {:?}",
        chain.diagnostics
    );
    assert_eq!(names(&chain), ["kiosks", "two"]);
}

#[test]
fn a_reference_that_takes_many_manifests_is_one_finding() {
    let files: Vec<(String, String)> = (0..300)
        .map(|n| {
            (format!("{n:0>3}.yaml"), fleet(&format!("f{n}"), &format!("{{matchLabels: {{role: r{n}}}}}"), &own("/")))
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let report = lint(&files);
    assert_eq!(report.diagnostics.iter().filter(|d| d.code == "SB0507").count(), 300);
    // A chain: each manifest takes the next one's directory, so every other one is content.
    let chain: Vec<(String, String)> =
        (0..300).map(|n| (format!("d{n}/a.yaml"), kiosks(&own(&format!("d{}", n + 1))))).collect();
    let mut chain: Vec<(&str, &str)> = chain.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    chain.push(("d300/etc/a", "x"));
    let report = lint(&chain);
    assert_eq!(report.manifests.len(), 150);
    assert!(report.manifests.iter().any(|placed| placed.path() == "d298/a.yaml"));
}

#[test]
fn repositories_are_looked_up_by_name() {
    let remote =
        |name: &str| kiosks(&format!("{{name: r, gitRef: {{repository: {name}, targetRevision: main, path: /}}}}"));
    assert_eq!(places(&lint(&[("a.yaml", &remote("shared")), ("r.yaml", &repository("shared"))])), []);
    let elsewhere = lint(&[("a.yaml", &remote("elsewhere")), ("r.yaml", &repository("shared"))]);
    assert_eq!(places(&elsewhere), [("SB0503", "a.yaml", 9, 47)]);
    assert!(!has_errors(&elsewhere.diagnostics));
    let typo = lint(&[("a.yaml", &remote("share")), ("r.yaml", &repository("shared"))]);
    assert_eq!(places(&typo), [("SB0504", "a.yaml", 9, 47)]);
    assert!(has_errors(&typo.diagnostics));
    let sync = "apiVersion: v1beta1\nkind: ResourceSync\nmetadata: {name: s}\nspec: {repository: sharedd, targetRevision: main, path: /}\n";
    assert_eq!(places(&lint(&[("r.yaml", &repository("shared")), ("s.yaml", sync)])), [("SB0504", "s.yaml", 4, 20)]);
    let broken = repository("shared").replace("type: git", "type: git, x: 1");
    let report = lint(&[("a.yaml", &remote("shared")), ("r.yaml", &broken)]);
    assert_eq!(
        places(&report).iter().map(|p| p.0).collect::<Vec<_>>(),
        ["SB0301"],
        "a broken Repository is there all the same"
    );
}

#[test]
fn overlaps_that_are_certain_are_reported() {
    let of = |name: &str, selector: &str| fleet(name, selector, "");
    let wide = of("wide", "{matchLabels: {role: kiosk}}");
    let narrow =
        of("narrow", "{matchLabels: {site: berlin}, matchExpressions: [{key: role, operator: In, values: [kiosk]}]}");
    let report = lint(&[("a.yaml", &narrow), ("b.yaml", &wide)]);
    assert_eq!(places(&report), [("SB0505", "a.yaml", 6, 3)]);
    let same = lint(&[("a.yaml", &wide), ("b.yaml", &of("again", "{matchLabels: {role: kiosk}}"))]);
    assert_eq!(places(&same), [("SB0505", "b.yaml", 6, 3)]);
    let other = of("other", "{matchLabels: {site: berlin}}");
    assert_eq!(places(&lint(&[("a.yaml", &other), ("b.yaml", &wide)])), [], "nobody knows of a kiosk in Berlin");
    let both = lint(&[("a.yaml", &other), ("b.yaml", &wide), ("d.yaml", &device("{role: kiosk, site: berlin}"))]);
    assert_eq!(places(&both), [("SB0505", "d.yaml", 4, 9)]);
    let absent = of("absent", "{matchExpressions: [{key: site, operator: DoesNotExist}]}");
    let unsure = lint(&[("a.yaml", &absent), ("b.yaml", &wide), ("d.yaml", &device("{role: kiosk}"))]);
    assert_eq!(places(&unsure), [], "the enrolment may give the device a site");
}

/// A device by the last letters of its name.
fn named(end: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1beta1\nkind: Device\nmetadata:\n  name: r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrn{end:0>9}\n  labels: {labels}\n"
    )
}

fn policy(labels: &str) -> String {
    format!(
        "apiVersion: shorebase/v1alpha1\nkind: EnrollmentPolicy\nmetadata: {{name: all}}\nspec:\n  rules:\n    - match: {{systemInfo: \
         {{hostname: k-*}}}}\n      labels: {labels}\n"
    )
}

#[test]
fn a_device_that_no_fleet_selects_and_that_has_no_spec_is_a_warning() {
    let lost = device("{role: till}");
    let report = lint(&[("a.yaml", &kiosks("")), ("d.yaml", &lost)]);
    assert_eq!(places(&report), [("SB0510", "d.yaml", 4, 9)]);
    assert!(!has_errors(&report.diagnostics));
    let own = format!("{lost}spec: {{config: []}}\n");
    assert_eq!(places(&lint(&[("a.yaml", &kiosks("")), ("d.yaml", &own)])), [], "it has a specification");
    assert_eq!(places(&lint(&[("d.yaml", &lost)])), [], "there may be fleets elsewhere");
    assert_eq!(places(&lint(&[("a.yaml", &kiosks("")), ("d.yaml", &device("{role: kiosk}"))])), []);
    let unlabelled = device("{}");
    let given = policy("{role: kiosk}");
    let may = lint(&[("a.yaml", &kiosks("")), ("d.yaml", &unlabelled), ("p.yaml", &given)]);
    assert_eq!(places(&may), [], "the policy gives it the label");
    let has_other = lint(&[("a.yaml", &kiosks("")), ("d.yaml", &lost), ("p.yaml", &given)]);
    assert_eq!(places(&has_other), [("SB0510", "d.yaml", 4, 9)], "the manifest's label has the last word");
    let unread = kiosks("").replace("kind: Fleet", "kind: Fleet\nmeta: [");
    let report = lint(&[("a.yaml", &kiosks("")), ("b.yaml", &unread), ("d.yaml", &lost)]);
    assert!(!places(&report).iter().any(|p| p.0 == "SB0510"), "nobody knows what the broken fleet selects");
}

#[test]
fn a_part_of_a_repository_proves_nothing_about_devices_without_a_fleet() {
    let (fleet, lost) = (kiosks(""), device("{role: till}"));
    let read = [("a.yaml", &fleet), ("d.yaml", &lost)];
    let parsed: BTreeMap<_, _> =
        read.iter().map(|(path, text)| ((*path).to_owned(), Arc::new(parse_file(path, text.as_bytes())))).collect();
    let mut paths: BTreeSet<String> = parsed.keys().cloned().collect();
    let check = |paths: &BTreeSet<String>| check_tree(&parsed, Some(paths), &LintConfig::default()).diagnostics.len();
    assert_eq!(check(&paths), 1);
    assert_eq!(check_part(&parsed, &paths, &LintConfig::default()).diagnostics.len(), 0);
    paths.insert("other/fleets.yaml".to_owned());
    assert_eq!(check(&paths), 0);
}

#[test]
fn in_a_part_of_a_repository_content_that_is_not_there_is_missing_all_the_same() {
    let fleet = kiosks(&format!("{}, {}", own("/there"), own("/lost").replace("name: own", "name: b")));
    let file = parse_file("part/a.yaml", fleet.as_bytes());
    assert_eq!(file.content_paths().collect::<Vec<_>>(), ["there", "lost"]);
    let files = BTreeMap::from([("part/a.yaml".to_owned(), Arc::new(file))]);
    let paths = BTreeSet::from(["part/a.yaml".to_owned(), "there/x".to_owned()]);
    let report = check_part(&files, &paths, &LintConfig::default());
    let codes: Vec<&str> = report.diagnostics.iter().map(|diagnostic| diagnostic.code.as_str()).collect();
    assert_eq!(codes, ["SB0502"], "{:?}", report.diagnostics);
}

#[test]
fn many_devices_without_a_fleet_are_counted() {
    let devices: String = (0..130).map(|at| format!("---\n{}", named(&at.to_string(), "{role: till}"))).collect();
    let report = lint(&[("a.yaml", &kiosks("")), ("d.yaml", &devices)]);
    assert_eq!(report.diagnostics.len(), 100);
    let counted = report.diagnostics.iter().filter(|d| d.message.contains("30 more devices")).count();
    assert_eq!(counted, 1);
}

/// A provider with one file, whose content starts on line 14 of its fleet.
fn content(lines: &[&str]) -> String {
    let text: String = lines.iter().map(|line| format!("                {line}\n")).collect();
    let fleet = kiosks("");
    fleet.replace("config: []", &format!("config:\n        - name: files\n          inline:\n            - path: /etc/a\n              mode: 0644\n              content: |\n{text}"))
}

#[test]
fn a_label_that_a_placeholder_needs_and_a_device_lacks_is_reported_once() {
    let fleet =
        content(&["name={{ .metadata.name }}", "x {{ .metadata.labels.site }} y", "again {{ .metadata.labels.site }}"]);
    let kiosk = |end: &str, more: &str| named(end, &format!("{{role: kiosk{more}}}"));
    let all: String = ["1", "2", "3", "4", "5"].map(|end| format!("---\n{}", kiosk(end, ""))).concat();
    let with = format!("{all}---\n{}", kiosk("6", ", site: berlin"));
    let report = lint(&[("a.yaml", &fleet), ("d.yaml", &with)]);
    assert_eq!(places(&report), [("SB0511", "a.yaml", 16, 19)]);
    let only = &report.diagnostics[0];
    assert_eq!((only.end_column, only.pointer.as_str()), (46, "/spec/template/spec/config/0/inline/0/content"));
    assert!(only.message.contains("\"site\", which 5 of 6 devices"), "{}", only.message);
    assert_eq!(only.message.matches("r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrn").count(), 3, "{}", only.message);
    assert!(!has_errors(&report.diagnostics));
    let given = lint(&[("a.yaml", &fleet), ("d.yaml", &with), ("p.yaml", &policy("{site: paris}"))]);
    assert_eq!(places(&given), [], "the enrolment may give the label");
    let fallback = fleet.replace(".metadata.labels.site", "getOrDefault .metadata.labels \"site\" \"none\"");
    assert_eq!(places(&lint(&[("a.yaml", &fallback), ("d.yaml", &with)])), []);
    let asked = content(&["{{ if .metadata.labels.site }}{{ .metadata.labels.site }}{{ end }}"]);
    assert_eq!(places(&lint(&[("a.yaml", &asked), ("d.yaml", &with)])), []);
    let of_others = lint(&[("a.yaml", &fleet), ("d.yaml", &kiosk("6", ", site: berlin"))]);
    assert_eq!(places(&of_others), []);
}

#[test]
fn labels_are_looked_for_in_every_field_with_placeholders() {
    let one = device("{role: kiosk}");
    let spec = |spec: &str| kiosks("").replace("config: []", spec);
    let encoded = "e3sgLm1ldGFkYXRhLmxhYmVscy5zdGFnZSB9fQ==";
    let app = "{name: a, appType: container, image: IMAGE, envVars: {STAGE: VALUE}}";
    for fleet in [
        spec("os: {image: 'quay.io/os:{{ .metadata.labels.stage }}'}"),
        spec("config: [{name: own, gitRef: {repository: ., path: 'c/{{ .metadata.labels.stage }}'}}]"),
        spec("config: [{name: a, inline: [{path: '/etc/{{ .metadata.labels.stage }}', content: a}]}]"),
        spec(&format!(
            "config: [{{name: a, inline: [{{path: /etc/a, contentEncoding: base64, content: {encoded}}}]}}]"
        )),
        spec(&format!(
            "applications: [{}]",
            app.replace("IMAGE", "quay.io/a:1").replace("VALUE", "'x {{ .metadata.labels.stage }}'")
        )),
        spec(&format!(
            "applications: [{}]",
            app.replace("IMAGE", "'quay.io/a:{{ .metadata.labels.stage }}'").replace("VALUE", "a")
        )),
    ] {
        let report = lint(&[("a.yaml", &fleet), ("d.yaml", &one), ("c/x/y", "")]);
        let line = fleet.lines().nth(8).unwrap();
        let column = u32::try_from(line.find("{{").or_else(|| line.find(encoded)).unwrap()).unwrap() + 1;
        assert_eq!(places(&report), [("SB0511", "a.yaml", 9, column)], "{fleet}");
    }
}

#[test]
fn two_manifests_of_one_device_are_told_to_be_one() {
    let one = device("{role: kiosk}");
    let report = lint(&[("a.yaml", &one), ("b.yaml", &one)]);
    assert_eq!(places(&report), [("SB0501", "b.yaml", 4, 9)]);
    let diagnostic = &report.diagnostics[0];
    assert!(diagnostic.message.contains("a.yaml:4:9"), "{}", diagnostic.message);
    assert!(diagnostic.hint.as_deref().is_some_and(|hint| hint.contains("one machine")), "{:?}", diagnostic.hint);
}

#[test]
fn a_credential_in_a_file_is_found_where_it_stands() {
    let key = "aws_key = AKIA1234567890ABCDEF";
    let report = lint(&[("a.yaml", &content(&["[default]", key]))]);
    assert_eq!(places(&report), [("SB0512", "a.yaml", 16, 27)]);
    assert_eq!(report.diagnostics[0].end_column, 47);
    assert!(!report.diagnostics[0].message.contains("AKIA"), "{}", report.diagnostics[0].message);
    let device =
        format!("{}spec: {{config: [{{name: a, inline: [{{path: /etc/a, content: '{key}'}}]}}]}}\n", device("{}"));
    assert_eq!(places(&lint(&[("d.yaml", &device)])), [("SB0512", "d.yaml", 6, 71)]);
}

#[test]
fn an_empty_repository_is_a_warning() {
    for files in [&[][..], &[("README.md", "hello")], &[("a.yaml", "# nothing\n")]] {
        let report = lint(files);
        assert_eq!(places(&report), [("SB0506", ".", 1, 1)]);
        assert!(!has_errors(&report.diagnostics));
    }
}

#[test]
fn one_broken_file_does_not_accuse_its_content() {
    let report = lint(&[("a.yaml", "kind: [\n"), ("config/app.yaml", "colour: red\n")]);
    assert_eq!(places(&report), [("SB0101", "a.yaml", 1, 7)]);
    let misspelt =
        "apiVersion: flightctl.io/v1beta1\nkind: Fleeet\nmetadata: {name: a}\nspec: {template: {spec: {}}}\n";
    let report = lint(&[("a.yaml", misspelt), ("config/app.yaml", "colour: red\n")]);
    assert_eq!(places(&report), [("SB0203", "a.yaml", 2, 7)]);
}

#[test]
fn findings_come_in_the_order_of_the_files() {
    let report = lint(&[("b.yaml", "kind: X\n"), ("a.yaml", "---\nkind: Y\n---\nkind: Z\n")]);
    let order: Vec<_> = places(&report).into_iter().map(|p| (p.1.to_owned(), p.2)).collect();
    assert_eq!(order, [("a.yaml".to_owned(), 2), ("a.yaml".to_owned(), 4), ("b.yaml".to_owned(), 1)]);
}
