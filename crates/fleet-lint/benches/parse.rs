//! How many Fleet manifests one core parses and checks in a second, and how long the rules across files take for an
//! inventory. Budget: 10,000 manifests in at most one second, each; 10,000 fleets with 10,000 devices in a few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FILES: usize = 10;
const PER_FILE: usize = 1_000;

fn fleet(number: usize) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: store-{number}\n  labels:\n    region: north\n    \
         tier: edge\nspec:\n  selector:\n    matchLabels:\n      role: kiosk\n      store: s{number}\n  template:\n    spec:\n      \
         config:\n        - name: base\n          gitRef:\n            repository: .\n            path: config/kiosk\n        - name: \
         identity\n          inline:\n            - path: /etc/motd\n              content: |\n                This is {{{{ \
         .metadata.name }}}} in store {number}.\n                Ask the help desk before you change anything here.\n              \
         mode: 0644\n            - path: /etc/kiosk/site.conf\n              content: |\n                site={{{{ getOrDefault \
         .metadata.labels \"site\" \"unknown\" }}}}\n                store={number}\n                refresh=60\n              user: \
         root\n              group: root\n              mode: 0600\n"
    )
}

/// A device that lacks the label `site`, which [`inventory_fleet`] needs, when its number is even.
fn device(number: usize, fleets: usize) -> String {
    let site = if number.is_multiple_of(2) { String::new() } else { format!(", site: s{}", number % 97) };
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: d{number:0>51}\n  labels: {{role: kiosk-{}, store: \
         \"{number}\"{site}}}\n",
        number % fleets
    )
}

fn inventory_fleet(number: usize) -> String {
    let fleet = fleet(number).replace("role: kiosk\n", &format!("role: kiosk-{number}\n"));
    let fleet = fleet.replace(&format!("      store: s{number}\n"), "");
    fleet.replace(
        "refresh=60",
        "till={{ .metadata.labels.store }} for {{ .metadata.name }} in {{ .metadata.labels.site }}",
    )
}

/// Parses and checks one tree of manifests.
fn tree(fleets: usize, devices: usize) {
    let count = fleets + devices;
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for number in 0..count {
        let text = if number < fleets { inventory_fleet(number) } else { device(number, fleets) };
        let file = texts.entry(format!("{:0>3}.yaml", number / 100)).or_default();
        let _ = write!(file, "---\n{text}");
    }
    let paths: BTreeSet<String> = texts.keys().cloned().chain(["config/kiosk/etc/motd".to_owned()]).collect();
    let config = fleet_lint::LintConfig::default();
    let (mut parsing, mut checking) = (Duration::MAX, Duration::MAX);
    for _ in 0..5 {
        let start = Instant::now();
        let parsed: BTreeMap<String, Arc<fleet_lint::ParsedFile>> = texts
            .iter()
            .map(|(path, text)| (path.clone(), Arc::new(fleet_lint::parse_file(path, text.as_bytes()))))
            .collect();
        parsing = parsing.min(start.elapsed());
        let start = Instant::now();
        let report = fleet_lint::check_tree(&parsed, Some(&paths), &config);
        checking = checking.min(start.elapsed());
        assert_eq!(report.manifests.len(), count);
        if let Some(other) = report.diagnostics.iter().find(|d| d.code != "SB0511") {
            panic!("{other}");
        }
        assert!(!report.diagnostics.is_empty());
    }
    let _ = writeln!(
        std::io::stdout().lock(),
        "{fleets} fleets and {devices} devices: parsed in {parsing:?}, rules across files in {checking:?}, best of 5 on one core",
    );
}

fn main() {
    let files: Vec<String> = (0..FILES)
        .map(|file| {
            let mut text = String::new();
            for number in file * PER_FILE..(file + 1) * PER_FILE {
                let _ = write!(text, "---\n{}", fleet(number));
            }
            text
        })
        .collect();
    let bytes: usize = files.iter().map(String::len).sum();
    fleet_lint::parse_file("warm-up.yaml", fleet(0).as_bytes());
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let mut manifests = 0;
        for text in &files {
            let file = fleet_lint::parse_file("fleets.yaml", text.as_bytes());
            assert!(file.diagnostics.is_empty(), "{}", file.diagnostics[0]);
            manifests += file.manifests.len();
        }
        best = best.min(start.elapsed());
        assert_eq!(manifests, FILES * PER_FILE);
    }
    let count = f64::from(u32::try_from(FILES * PER_FILE).unwrap_or(u32::MAX));
    let _ = writeln!(
        std::io::stdout().lock(),
        "{} manifests of {} bytes: best of 5 {best:?}, {:.0} manifests/s on one core",
        FILES * PER_FILE,
        bytes / (FILES * PER_FILE),
        count / best.as_secs_f64(),
    );
    tree(10, 9_990);
    tree(5_000, 5_000);
    tree(10_000, 10_000);
}
