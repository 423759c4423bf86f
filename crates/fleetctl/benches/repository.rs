//! How long `lint`, `render`, `plan` and `fmt` take for a repository of 10,000 Device manifests and 100 fleets, in process,
//! one core: `cargo bench -p fleetctl`. Budgets: lint 1 s, a plan of one changed fleet 2 s, of all fleets 10 s.
#![expect(clippy::unwrap_used, reason = "a measurement fails where something is missing")]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use fleet_runtime::SystemClock;
use fleet_test::GitRepo;
use fleetctl::{Io, Terminal};

const DEVICES: usize = 10_000;
const FLEETS: usize = 100;

fn fleet(number: usize, version: usize) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: f{number}\nspec:\n  selector:\n    matchLabels:\n      \
         fleet: f{number}\n  template:\n    spec:\n      os:\n        image: quay.io/acme/os:1.0\n      config:\n        \
         - name: motd\n          inline:\n            - path: /etc/motd\n              content: |\n                \
         welcome to {{{{ .metadata.labels.site }}}}\n                version {version}\n        - name: files\n          \
         gitRef:\n            repository: .\n            path: config/f{number}\n"
    )
}

fn device(number: usize) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: d{number:0>15}\n  labels:\n    fleet: f{}\n    \
         site: s{}\n    alias: dev-{number}\n",
        number % FLEETS,
        number % 37
    )
}

fn repository() -> GitRepo {
    let repo = GitRepo::init();
    // No clean-up in the background while times are taken.
    repo.git(&["config", "gc.auto", "0"]);
    repo.git(&["config", "maintenance.auto", "false"]);
    for number in 0..FLEETS {
        repo.write(&format!("fleets/f{number}.yaml"), fleet(number, 1));
        let mut text = String::new();
        for key in 0..50 {
            let _ = writeln!(text, "k{key} = {number}");
        }
        for file in 0..10 {
            repo.write(&format!("config/f{number}/etc/c{file}.conf"), &text);
        }
    }
    for number in 0..DEVICES {
        repo.write(&format!("devices/{:02}/d{number}.yaml", number % 100), device(number));
    }
    repo.commit("one");
    repo.branch("one").write("fleets/f7.yaml", fleet(7, 2)).commit("one fleet");
    repo.branch("all");
    for number in 0..FLEETS {
        repo.write(&format!("fleets/f{number}.yaml"), fleet(number, 3));
    }
    repo.commit("all fleets");
    repo.switch("main");
    repo.git(&["gc", "--quiet"]);
    repo
}

fn main() {
    let repo = repository();
    let root = repo.path().to_str().unwrap();
    let commands: [&[&str]; 8] = [
        &["lint", root],
        &["lint", root, "--rev", "main"],
        &["render", "--root", root, "-o", "json"],
        &["plan", "--root", root, "main..one"],
        &["plan", "--root", root, "main..all"],
        &["plan", "--root", root, "main..all", "-o", "markdown"],
        &["plan", "--root", root, "main.."],
        &["fmt", "--check", root],
    ];
    for command in commands {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io = Io { out: &mut out, err: &mut err, terminal: Terminal::PLAIN, clock: &SystemClock };
        let args = std::iter::once("fleetctl").chain(command.iter().copied()).map(OsString::from);
        let start = Instant::now();
        let code = fleetctl::run(args, &mut io);
        let took = start.elapsed();
        // Whether the layout is the usual one does not matter here.
        assert!(code == 0 || command[0] == "fmt", "{command:?}: {}", String::from_utf8_lossy(&err));
        let shown = command.join(" ").replace(root, "REPO");
        let _ = writeln!(std::io::stdout().lock(), "{took:>8.2?}  {:>9} bytes  {shown}", out.len());
    }
}
