//! What people bring from elsewhere: files of other tools, leftovers of the old format, slips that other readers let
//! pass. One mistake gives one finding, and its hint says what to do.

use std::time::{Duration, Instant};

use fleet_lint::parse_file;
use fleet_model::{Diagnostic, Severity};

fn all(text: &str) -> Vec<Diagnostic> {
    parse_file("a.yaml", text.as_bytes()).diagnostics
}

/// The only finding: code, line, column, and what its hint must say.
fn one(text: &str, expected: (&str, u32, u32), hint: &str) {
    let found = all(text);
    let [only] = &found[..] else { panic!("{expected:?}: {found:#?}") };
    assert_eq!((only.code.as_str(), only.line, only.column), expected, "{only}");
    assert!(only.hint.as_deref().unwrap_or_default().contains(hint), "{hint}: {:?}", only.hint);
}

fn fleet(spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: f\nspec:\n  selector:\n    matchLabels: {{a: b}}\n  \
         template:\n    spec:\n{spec}"
    )
}

fn quadlet(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("          {line}\n")).collect();
    fleet(&format!(
        "applications:\n  - name: q\n    appType: quadlet\n    inline:\n      - path: a.container\n        content: |\n{lines}"
    ))
}

#[test]
fn files_of_other_tools_are_named_with_what_to_do() {
    one("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", ("SB0203", 2, 7), "`exclude` in .fleetlint.yaml");
    let kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n";
    one(kustomization, ("SB0203", 2, 7), "a file for Kustomize");
    // A kind that is nearly ours, in our group, is a slip.
    one("apiVersion: v1beta1\nkind: Fleeet\nmetadata: {name: a}\n", ("SB0203", 2, 7), "did you mean `Fleet`?");
    one("replicas: 2\n", ("SB0202", 1, 1), "`exclude` in .fleetlint.yaml");
    one("apiVersion: v1\nkind: List\nitems: []\n", ("SB0210", 2, 7), "a document of its own");
}

#[test]
fn leftovers_of_the_old_format_are_told_as_such() {
    let typed = "config:\n  - configType: InlineConfigProviderSpec\n    name: c\n    inline: []";
    one(&fleet(typed), ("SB0301", 11, 11), "says the type now");
    let ignition = "config:\n  - name: c\n    inline: {ignition: {version: 3.4.0}}";
    one(&fleet(ignition), ("SB0303", 12, 19), "a list of files");
    one(&fleet("config:\n  - name: c\n    inline: {path: /etc/a, content: x}"), ("SB0303", 12, 19), "put `- `");
    let mounted = "config:\n  - name: c\n    gitRef: {repository: ., path: a, mountPath: /etc}";
    one(&fleet(mounted), ("SB0301", 12, 44), "goes to `/` of the device");
    one(&fleet("hooks: {afterUpdating: []}"), ("SB0301", 10, 7), "/etc/flightctl/hooks.d");
    let ssh = "apiVersion: v1beta1\nkind: Repository\nmetadata: {name: r}\nspec: {type: ssh, url: 'git@h:a'}\n";
    one(ssh, ("SB0304", 4, 14), "`type: git` with `sshConfig`");
    let empty = "apiVersion: \"\"\nkind: ResourceSync\nmetadata: {name: r}\nspec: {repository: r, targetRevision: main, path: a}\n";
    one(empty, ("SB0206", 1, 13), "flightctl.io/v1beta1");
}

#[test]
fn a_whole_number_with_a_fraction_is_found_where_it_stands() {
    let file = |mode: &str| {
        fleet(&format!("config:\n  - name: c\n    inline:\n      - {{path: /a, content: x, mode: {mode}}}"))
    };
    one(&file("420.0"), ("SB0303", 13, 44), "write 420");
    one(&file("4.2e2"), ("SB0303", 13, 44), "write 420");
    one(&file("420.5"), ("SB0303", 13, 44), "");
    // A percentage may have one.
    let monitor = "resources:\n  - monitorType: CPU\n    samplingInterval: 1m\n    alertRules:\n      - {severity: Info, duration: 5m, \
                   percentage: 80.0, description: x}";
    assert_eq!(all(&fleet(monitor)), []);
}

#[test]
fn one_mistake_gives_one_finding() {
    one(&fleet("os: quay.io/a/b:1"), ("SB0303", 10, 11), "");
    one(&quadlet(&["[Volume]", "Driver=local"]), ("SB0454", 16, 17), "move it into a `.volume` file");
    let build = "applications:\n  - name: q\n    appType: quadlet\n    inline:\n      - path: a.build\n        content: '[Build]'";
    one(&fleet(build), ("SB0449", 14, 21), "build the image in a pipeline");
    let cron = "updatePolicy:\n  updateSchedule:\n    at: * * * * *\n    startGraceDuration: 1m";
    one(&fleet(cron), ("SB0101", 12, 15), "quote a value");
    let tags = "apiVersion: v1beta1\nkind: Repository\nmetadata: {name: r}\nspec: {type: oci, registry: h, baseImages: [{imageName: a, \
                tags: [-x]}]}\n";
    assert!(all(tags)[0].message.starts_with("`tags[0]`"), "{}", all(tags)[0]);
}

#[test]
fn a_comment_behind_a_value_of_a_unit_file_is_part_of_the_value() {
    let image = "Image=quay.io/a/b:1";
    let text = quadlet(&["[Container]", image, "Exec=/bin/true # why"]);
    one(&text, ("SB0453", 18, 32), "a line of its own");
    assert_eq!(all(&text)[0].severity, Severity::Warning);
    one(&quadlet(&["[Container]", "Image=quay.io/a/b:1 # why"]), ("SB0442", 17, 35), "a line of its own");
    let meant = [
        "[Unit]",
        "Description=Shop # 3",
        "[Container]",
        image,
        "Exec=sh -c \"a # b\"",
        "Label=a=#b",
        "# c",
        "Exec=x #y",
    ];
    assert_eq!(all(&quadlet(&meant)), []);
}

/// Findings in files that are wrong everywhere, or nest without end.
#[test]
fn a_file_that_is_wrong_everywhere_takes_little_time() {
    let start = Instant::now();
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let labels = format!("kind: Fleet\nmetadata:\n  labels:\n{}", many(90_000, &|n| format!("    k{n}: \"a b\"\n")));
    let twice = many(100_000, &|n| format!("k{}: b\n", n % 50_000));
    let modes = many(9_000, &|n| format!("\n      - {{path: a{n}, content: x, mode: 420.0}}"));
    for text in [
        format!("apiVersion: v1beta1\n{labels}spec: {{template: {{spec: {{}}}}}}\n"),
        format!("apiVersion: v1beta1\nkind: Fleet\nmetadata: {{name: f}}\n{}", many(90_000, &|n| format!("u{n}: 1\n"))),
        twice,
        fleet(&format!("config:\n  - name: c\n    inline:{modes}")),
        fleet(&format!("os: {}", "[".repeat(1_000_000))),
        fleet(&format!("{}: 1", "x".repeat(1_000_000))),
    ] {
        let found = all(&text);
        assert!((1..=1_000).contains(&found.len()), "{}", found.len());
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
