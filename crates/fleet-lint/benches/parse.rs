//! How many Fleet manifests one core parses and checks in a second. Budget: 10,000 in at most one second.

use std::fmt::Write as _;
use std::io::Write as _;
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
}
