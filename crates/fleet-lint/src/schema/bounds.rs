//! The bounds and patterns of the fields, by definition.
//!
//! A pattern comes with words for people: editors show them (`patternErrorMessage`), and so does lint where it has no rule
//! that says more.

use serde_json::{Value, json};

use super::strict::{NAME, labels};

/// The longest image reference.
const MAX_IMAGE: u32 = 2048;
/// A DNS label.
const LABEL: (&str, &str) = (
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    "is not a DNS label: lower-case letters, digits and '-', starting and ending with a letter or digit",
);
/// The key of a label, for grouping.
const LABEL_KEY: &str = "^([A-Za-z0-9][-A-Za-z0-9_/.]*)?[A-Za-z0-9]$";
/// An environment variable.
const VARIABLE: (&str, &str) = (
    "^[A-Za-z_][A-Za-z0-9_]*$",
    "is not the name of an environment variable: letters, digits and '_', not starting with a digit",
);
/// An amount of memory.
const MEMORY: (&str, &str) =
    ("^[0-9]+[bkmg]?$", "is not a number of bytes with b, k, m or g behind it if need be, such as 512m");
/// A file with values of a chart.
const VALUES_FILE: (&str, &str) = (r"^[^/].*\.ya?ml$", "is not a relative path that ends in .yaml or .yml");
/// A time that is not zero.
const INTERVAL: (&str, &str) = ("^[1-9][0-9]*[smh]$", "is not a number from 1 with s, m or h behind it, such as 30s");
/// A time.
const DURATION: (&str, &str) = ("^([1-9][0-9]*)?[0-9][smh]$", "is not a number with s, m or h behind it, such as 10m");
/// A percentage.
const PERCENTAGE: (&str, &str) = ("^(100|[1-9]?[0-9])%$", "is not a percentage from 0% to 100%");
/// A published port.
const PORT: (&str, &str) = (
    "^[0-9]+:[0-9]+(/(tcp|udp|sctp))?$",
    "is not two ports such as 8080:80, with /tcp, /udp or /sctp behind them if need be",
);
/// A name or a pattern of systemd units.
const UNIT: (&str, &str) = (
    r"^[0-9a-zA-Z:\-_.\\\[\]!*?]+(@[0-9a-zA-Z:\-_.\\\[\]!*?]+)?(\.[a-zA-Z\[\]!\-*?]+)?$",
    "is not the name of a systemd unit or a pattern of such names",
);
/// Text without white space around it.
const TRIMMED: (&str, &str) = (r"^\S(.*\S)?$", "is empty or has white space around it");
/// A branch, tag or commit.
const REVISION: (&str, &str) = (r"^[a-zA-Z0-9][a-zA-Z0-9._/-]*$", "is not the name of a branch, tag or commit");
/// The tag of an image.
const TAG: (&str, &str) = (
    "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$",
    "is not a tag: at most 128 letters, digits, '_', '.' and '-', not starting with '.' or '-'",
);

/// Definitions whose texts and numbers rules of lint look at, and word better. Editors have the schema only.
const RULED: [&str; 17] = [
    "AlertRule",
    "Application",
    "ApplicationFile",
    "ApplicationVolume",
    "Batch",
    "BatchLimit",
    "CatalogItemRef",
    "DeviceSelection",
    "DisruptionBudget",
    "OsSpec",
    "ResourceLimits",
    "ResourceMonitor",
    "RolloutPolicy",
    "SystemdSpec",
    "UpdateSchedule",
    "VolumeImage",
    "VolumeMount",
];

/// Whether rules of lint word what a text or number at this place of the schema breaks.
pub(crate) fn is_ruled(schema_path: &str) -> bool {
    let name = schema_path.strip_prefix("/$defs/").and_then(|rest| rest.split('/').next());
    name.is_some_and(|name| RULED.contains(&name))
}

/// Bounds the fields of a definition.
pub(super) fn apply(name: &str, definition: &mut Value) {
    match name {
        "Application" => of_applications(definition),
        "ResourceMonitor" => of_monitors(definition),
        "DeviceSelection" => {
            of_branches(definition, |name, field| {
                if name == "sequence" {
                    field["minItems"] = json!(1);
                }
            });
        }
        "RepositorySpec" => of_repositories(definition),
        _ => {
            of_manifests(name, definition);
            of_devices(name, definition);
            of_rollouts(name, definition);
        }
    }
}

/// Parts of every kind but those of devices.
fn of_manifests(name: &str, definition: &mut Value) {
    match name {
        "ObjectMeta" | "ConfigProvider" => text(of(definition, "name"), 1, 253),
        "FileSpec" => {
            of(definition, "mode")["maximum"] = json!(0o7777);
            of(definition, "path")["maxLength"] = json!(4096);
        }
        "GitRef" => {
            text(of(definition, "repository"), 1, 253);
            text(of(definition, "targetRevision"), 1, 1024);
            of(definition, "path")["maxLength"] = json!(2048);
        }
        "HttpRef" => {
            text(of(definition, "repository"), 1, 253);
            of(definition, "suffix")["maxLength"] = json!(2048);
            text(of(definition, "filePath"), 1, 4096);
        }
        "SecretRef" => {
            text(of(definition, "name"), 1, 253);
            text(of(definition, "namespace"), 1, 253);
            text(of(definition, "mountPath"), 1, 4096);
        }
        "LabelSelector" => labels(of(definition, "matchLabels")),
        "EnrollmentRule" => labels(of(definition, "labels")),
        "RuleMatch" => definition["minProperties"] = json!(1),
        "ResourceSyncSpec" => {
            text(of(definition, "repository"), 1, 253);
            text(of(definition, "targetRevision"), 1, 244);
            pattern(of(definition, "targetRevision"), REVISION);
            of(definition, "path")["maxLength"] = json!(2048);
        }
        "SyncPolicySpec" => {
            let sources = of(definition, "sources");
            sources["minItems"] = json!(1);
            text(&mut sources["items"], 1, 253);
            pattern(&mut sources["items"], (NAME, "is not the name of a source (a DNS-1123 subdomain)"));
            pattern(of(definition, "deletionGracePeriod"), DURATION);
        }
        "SyncTrust" => of(definition, "rules")["minItems"] = json!(1),
        "SignerSet" => {
            text(of(definition, "name"), 1, 253);
            at_least_one(definition, &["ssh", "openpgp"]);
        }
        "TrustRule" => {
            for list in ["paths", "effects", "signedBy"] {
                of(definition, list)["minItems"] = json!(1);
            }
        }
        "CountLimit" => {
            between(of(definition, "count"), 0, u32::MAX);
            between(of(definition, "percent"), 0, 100);
            at_least_one(definition, &["count", "percent"]);
        }
        "PercentLimit" => between(of(definition, "percent"), 0, 100),
        "BaseImage" => {
            text(of(definition, "imageName"), 1, 255);
            let tags = of(definition, "tags");
            tags["minItems"] = json!(1);
            pattern(&mut tags["items"], TAG);
        }
        _ => {}
    }
}

/// Parts of a device specification that have one shape.
fn of_devices(name: &str, definition: &mut Value) {
    match name {
        "OsSpec" => {
            text(of(definition, "image"), 1, MAX_IMAGE);
            exactly_one(definition, &["image", "catalogItemRef"]);
        }
        "CatalogItemRef" => {
            for name in ["catalog", "item", "version", "channel"] {
                pattern(of(definition, name), TRIMMED);
            }
        }
        "ApplicationFile" => text(of(definition, "path"), 1, 4096),
        "ApplicationVolume" => {
            text(of(definition, "name"), 1, 253);
            pattern(of(definition, "name"), LABEL);
            at_least_one(definition, &["image", "mount"]);
        }
        "VolumeImage" => {
            text(of(definition, "reference"), 1, MAX_IMAGE);
            exactly_one(definition, &["reference", "catalogItemRef"]);
        }
        "VolumeMount" => text(of(definition, "path"), 1, 4096),
        "ResourceLimits" => {
            text(of(definition, "cpu"), 1, 64);
            pattern(of(definition, "memory"), MEMORY);
        }
        "AlertRule" => {
            pattern(of(definition, "duration"), ("^[0-9]+[smh]$", DURATION.1));
            between(of(definition, "percentage"), 0, 100);
            of(definition, "description")["maxLength"] = json!(256);
        }
        "SystemdSpec" => {
            let patterns = of(definition, "matchPatterns");
            text(&mut patterns["items"], 1, 256);
            pattern(&mut patterns["items"], UNIT);
        }
        "UpdateSchedule" => {
            text(of(definition, "at"), 1, 256);
            text(of(definition, "timeZone"), 1, 256);
            pattern(of(definition, "startGraceDuration"), DURATION);
        }
        _ => {}
    }
}

fn of_rollouts(name: &str, definition: &mut Value) {
    match name {
        "RolloutPolicy" => {
            pattern(of(definition, "successThreshold"), PERCENTAGE);
            pattern(of(definition, "defaultUpdateTimeout"), DURATION);
            at_least_one(definition, &["deviceSelection", "disruptionBudget"]);
        }
        "Batch" => pattern(of(definition, "successThreshold"), PERCENTAGE),
        "BatchLimit" => {
            between(definition, 1, u32::MAX);
            pattern(definition, PERCENTAGE);
        }
        "DisruptionBudget" => {
            between(of(definition, "minAvailable"), 1, u32::MAX);
            between(of(definition, "maxUnavailable"), 1, u32::MAX);
            pattern(&mut of(definition, "groupBy")["items"], (LABEL_KEY, "is not the key of a label"));
            at_least_one(definition, &["minAvailable", "maxUnavailable"]);
        }
        _ => {}
    }
}

fn of_applications(definition: &mut Value) {
    of_branches(definition, |name, field| match name {
        "name" => {
            text(field, 1, 253);
            pattern(field, LABEL);
        }
        "image" => text(field, 1, MAX_IMAGE),
        "runAs" => text(field, 1, 33),
        "envVars" => {
            field["propertyNames"] =
                json!({"pattern": VARIABLE.0, "maxLength": 253, "patternErrorMessage": VARIABLE.1});
        }
        "inline" => field["minItems"] = json!(1),
        "ports" | "publishPorts" => pattern(&mut field["items"], PORT),
        "namespace" => {
            text(field, 1, 63);
            pattern(field, LABEL);
        }
        "valuesFiles" => {
            text(&mut field["items"], 1, 253);
            pattern(&mut field["items"], VALUES_FILE);
        }
        _ => {}
    });
    for branch in definition["oneOf"].as_array_mut().into_iter().flatten() {
        let sources = ["image", "catalogItemRef", "inline"];
        let given: Vec<&str> =
            sources.into_iter().filter(|source| branch["properties"].get(source).is_some()).collect();
        exactly_one(branch, &given);
    }
}

fn of_monitors(definition: &mut Value) {
    of_branches(definition, |name, field| match name {
        "samplingInterval" => pattern(field, INTERVAL),
        "path" => text(field, 1, 2048),
        _ => {}
    });
}

fn of_repositories(definition: &mut Value) {
    of_branches(definition, |name, field| match name {
        "url" => text(field, 1, 2048),
        "validationSuffix" => field["maxLength"] = json!(2048),
        "registry" => text(field, 1, 269),
        _ => {}
    });
}

/// Calls `with` for every field of every branch.
fn of_branches(definition: &mut Value, with: impl Fn(&str, &mut Value)) {
    for branch in definition["oneOf"].as_array_mut().into_iter().flatten() {
        for (name, field) in branch["properties"].as_object_mut().into_iter().flatten() {
            with(name, field);
        }
    }
}

/// The schema of a field.
fn of<'d>(definition: &'d mut Value, name: &str) -> &'d mut Value {
    definition["properties"].get_mut(name).expect("the bounds name fields that the types have")
}

fn text(schema: &mut Value, min: u32, max: u32) {
    schema["minLength"] = json!(min);
    schema["maxLength"] = json!(max);
}

fn between(schema: &mut Value, min: u32, max: u32) {
    schema["minimum"] = json!(min);
    schema["maximum"] = json!(max);
}

fn pattern(schema: &mut Value, (pattern, words): (&str, &str)) {
    schema["pattern"] = json!(pattern);
    schema["patternErrorMessage"] = json!(words);
}

fn exactly_one(schema: &mut Value, names: &[&str]) {
    schema["oneOf"] = names.iter().map(|name| json!({"required": [name]})).collect();
}

fn at_least_one(schema: &mut Value, names: &[&str]) {
    schema["anyOf"] = names.iter().map(|name| json!({"required": [name]})).collect();
}
