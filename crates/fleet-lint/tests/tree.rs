//! Rules across the files of a repository.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_lint::{TreeReport, check_tree, has_errors, parse_file};

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
    check_tree(&parsed, Some(&paths))
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
    assert!(check_tree(&parsed, None).diagnostics.is_empty(), "without the paths nothing is said about them");
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
