//! Parsers that are reached through a manifest: the input becomes a file, or a field of one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_lint::{LintConfig, ParsedFile, check_tree, parse_file};
use fleet_model::Manifest;
use serde_json::{Value, json};

use crate::text;

const DEVICE: &str = "r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg";

/// A file of YAML, alone in a repository.
pub(crate) fn manifest(data: &[u8]) {
    check("fleets/x.yaml", data);
}

/// A file of JSON, alone in a repository.
pub(crate) fn json(data: &[u8]) {
    check("fleets/x.json", data);
}

/// Lint's promises for any file: places lie in the file, the same bytes give the same findings, and a manifest that is
/// written out again is the same manifest without a new finding.
fn check(path: &str, data: &[u8]) -> ParsedFile {
    let file = parse_file(path, data);
    let again = parse_file(path, data);
    assert_eq!(file.diagnostics, again.diagnostics, "the same bytes have other findings");
    let lines = data.iter().filter(|byte| **byte == b'\n').count() + data.iter().filter(|byte| **byte == b'\r').count();
    for finding in &file.diagnostics {
        let line = usize::try_from(finding.line).expect("lines fit in memory");
        assert!(line >= 1 && line <= lines + 2, "line {line} of {lines}: {finding}");
        assert!(finding.column >= 1 && finding.end_line >= finding.line, "{finding}");
    }
    for parsed in &file.manifests {
        let written = written_out(&parsed.manifest);
        let back = parse_file("fleets/x.json", escaped(&written).as_bytes());
        let same = back.manifests.first().map(|back| written_out(&back.manifest));
        assert_eq!(same.as_ref(), Some(&written), "a manifest that was written out is another: {:?}", back.diagnostics);
    }
    let tree: BTreeMap<String, Arc<ParsedFile>> = [(path.to_owned(), Arc::new(again))].into();
    let paths: BTreeSet<String> = [path, "config/etc/motd"].map(str::to_owned).into();
    check_tree(&tree, Some(&paths), &LintConfig::default());
    check_tree(&tree, None, &LintConfig::default());
    file
}

/// JSON without a control character or byte-order mark: lint refuses them in the text, and takes them as escapes.
fn escaped(value: &Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        if character.is_control() || character == '\u{feff}' {
            text.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            text.push(character);
        }
    }
    text
}

fn written_out(manifest: &Manifest) -> Value {
    let written = match manifest {
        Manifest::Device(one) => serde_json::to_value(one),
        Manifest::EnrollmentPolicy(one) => serde_json::to_value(one),
        Manifest::Fleet(one) => serde_json::to_value(one),
        Manifest::Repository(one) => serde_json::to_value(one),
        Manifest::ResourceSync(one) => serde_json::to_value(one),
        Manifest::SyncPolicy(one) => serde_json::to_value(one),
    };
    written.expect("a manifest can be written")
}

/// A Device, or a Fleet with this specification as its template.
fn in_both(spec: &Value) {
    let device =
        json!({"apiVersion": "flightctl.io/v1beta1", "kind": "Device", "metadata": {"name": DEVICE}, "spec": spec});
    let fleet = json!({
        "apiVersion": "flightctl.io/v1beta1", "kind": "Fleet", "metadata": {"name": "fleet"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": spec}},
    });
    for document in [device, fleet] {
        check("fleets/x.json", document.to_string().as_bytes());
    }
}

/// Schedules of updates: the first line is the schedule, then the grace time and the time zone.
pub(crate) fn cron(data: &[u8]) {
    let text = text(data);
    let mut lines = text.splitn(3, '\n');
    let at = lines.next().unwrap_or_default();
    let mut schedule = json!({"at": at, "startGraceDuration": lines.next().unwrap_or("10m")});
    if let Some(zone) = lines.next() {
        schedule["timeZone"] = zone.into();
    }
    in_both(&json!({"updatePolicy": {"downloadSchedule": schedule, "updateSchedule": schedule}}));
}

/// References of images, with and without placeholders.
pub(crate) fn image(data: &[u8]) {
    let image = text(data);
    in_both(&json!({
        "os": {"image": &*image},
        "applications": [{
            "name": "app", "appType": "container", "image": &*image,
            "volumes": [{"name": "data", "mount": {"path": "/data"}, "image": {"reference": &*image}}],
        }],
    }));
}

/// Selectors of fleets: lines `key=value` are labels, `key operator value,value` are expressions.
pub(crate) fn selector(data: &[u8]) {
    let text = text(data);
    let (mut labels, mut expressions) = (serde_json::Map::new(), Vec::new());
    for line in text.lines().take(64) {
        if let Some((key, value)) = line.split_once('=') {
            labels.insert(key.to_owned(), value.into());
            continue;
        }
        let mut words = line.splitn(3, ' ');
        let (key, operator) = (words.next().unwrap_or_default(), words.next().unwrap_or("Exists"));
        let values: Option<Vec<&str>> = words.next().map(|values| values.split(',').collect());
        let mut expression = json!({"key": key, "operator": operator});
        if let Some(values) = values {
            expression["values"] = json!(values);
        }
        expressions.push(expression);
    }
    let half = labels.len() / 2;
    let other: serde_json::Map<String, Value> = labels.iter().skip(half).map(|(k, v)| (k.clone(), v.clone())).collect();
    let fleet = |name: &str, selector: Value| {
        json!({
            "apiVersion": "flightctl.io/v1beta1", "kind": "Fleet", "metadata": {"name": name},
            "spec": {"selector": selector, "template": {"spec": {}}},
        })
        .to_string()
    };
    let both = json!({"matchLabels": labels, "matchExpressions": expressions});
    let files: BTreeMap<String, Arc<ParsedFile>> =
        [("a.json", fleet("a", both)), ("b.json", fleet("b", json!({"matchLabels": other})))]
            .map(|(path, text)| (path.to_owned(), Arc::new(check(path, text.as_bytes()))))
            .into();
    check_tree(&files, None, &LintConfig::default());
}

/// Quadlet files of an application.
pub(crate) fn quadlet(data: &[u8]) {
    inline("quadlet", "app.container", data);
}

/// Compose files of an application.
pub(crate) fn compose(data: &[u8]) {
    inline("compose", "podman-compose.yaml", data);
}

/// An application of inline files. A line `### path` begins another file.
fn inline(app_type: &str, first: &str, data: &[u8]) {
    let text = text(data);
    let mut files = vec![(first.to_owned(), String::new())];
    for line in text.split_inclusive('\n') {
        if let Some(path) = line.strip_prefix("### ").filter(|_| files.len() < 16) {
            files.push((path.trim_end().to_owned(), String::new()));
        } else if let Some((_, content)) = files.last_mut() {
            content.push_str(line);
        }
    }
    let files: Vec<Value> = files.iter().map(|(path, content)| json!({"path": path, "content": content})).collect();
    in_both(&json!({"applications": [{"name": "app", "appType": app_type, "inline": files}]}));
}
