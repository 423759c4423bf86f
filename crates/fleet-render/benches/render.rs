//! How long rendering takes for a fleet of 10,000 devices: without placeholders, with one placeholder per site, and with
//! one per device. Prints one line each: devices, documents made, keys that were known, microseconds per device.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use fleet_model::{DeviceSpec, Labels};
use fleet_render::{InputKey, PinnedFile, PinnedTree, Prepared, Rendered, Subject};
use serde_json::json;

const DEVICES: usize = 10_000;
const FILES: usize = 50;
const FILE_BYTES: usize = 2_000;

fn template(content: &str) -> DeviceSpec {
    serde_json::from_value(json!({
        "os": {"image": "quay.io/acme/os:1.2.3"},
        "config": [
            {"name": "base", "gitRef": {"repository": ".", "path": "deploy"}},
            {"name": "motd", "inline": [{"path": "/etc/motd", "content": content}]}
        ]
    }))
    .expect("the literal is a specification")
}

fn tree() -> PinnedTree {
    let file = |n: usize| PinnedFile {
        path: format!("deploy/etc/acme/{n}.conf"),
        mode: 0o644,
        content: Arc::from(format!("# file {n}\n{}", "key = value\n".repeat(FILE_BYTES / 12)).as_bytes()),
        seal: None,
    };
    PinnedTree::new((0..FILES).map(file).collect()).expect("the paths are clean and distinct")
}

fn run(title: &str, content: &str, devices: &[(String, Labels)]) -> f64 {
    let pinned = fleet_render::PinnedInputs::from_iter([("base".to_owned(), tree())]);
    let start = Instant::now();
    let prepared = Prepared::new(&template(content), pinned).expect("the template is right");
    let mut documents: HashMap<InputKey, Rendered> = HashMap::new();
    let (mut made, mut known, mut bytes) = (0_usize, 0_usize, 0_usize);
    for (name, labels) in devices {
        let subject = Subject { name, labels };
        let key = prepared.input_key(&subject);
        if documents.contains_key(&key) {
            known += 1;
            continue;
        }
        let mut rendered = prepared.render(&subject).expect("every label is there");
        made += 1;
        bytes += rendered.body.len();
        // Kept by digest only, as a caller that stores documents elsewhere does.
        rendered.body = Vec::new();
        documents.insert(key, rendered);
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(devices.len()).expect("few devices"));
    writeln!(
        std::io::stdout().lock(),
        "{title:<24} devices {:>6}  documents {made:>6}  known keys {known:>6}  MiB {:>6}  µs/device {micros:>9.3}",
        devices.len(),
        bytes >> 20,
    )
    .expect("standard output takes a line");
    micros
}

fn main() {
    let device = |n: usize| {
        let labels =
            [("fleet", "acme".to_owned()), ("site", format!("site-{}", n % 100)), ("serial", format!("sn-{n}"))];
        (format!("device{n:046}"), labels.map(|(key, value)| (key.to_owned(), value)).into())
    };
    let devices: Vec<(String, Labels)> = (0..DEVICES).map(device).collect();
    let none = run("no placeholder", "Welcome\n", &devices);
    let site = run("one per site", "Welcome to {{ .metadata.labels.site }}\n", &devices);
    let each = run("one per device", "Welcome to {{ upper .metadata.name }}\n", &devices);
    writeln!(
        std::io::stdout().lock(),
        "a document per device costs {:.0} times, one per site {:.1} times the shared one",
        each / none,
        site / none
    )
    .expect("standard output takes a line");
}
