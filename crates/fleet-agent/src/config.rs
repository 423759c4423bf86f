//! The configuration: the file shape that agents of this protocol share, and a part of our own under `shorebase`.
//!
//! Every bad value is found and named before the agent gives up.

mod duration;
mod reader;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use fleet_model::{Labels, validate_label_key, validate_label_value};
use fleet_runtime::{ErrorChain, check_log_filter};
use zeroize::Zeroizing;

use crate::disk::{Disk, RealDisk};
use crate::path::FilePath;
use crate::paths;
use crate::services::ReloadRule;
use reader::Reader;

/// A larger file is no configuration.
const MAX_BYTES: u64 = 1 << 20;

/// Top-level keys that a drop-in may set.
const DROP_IN_KEYS: [&str; 6] = [
    "log-level",
    "default-labels",
    "status-update-interval",
    "spec-fetch-error-base-delay",
    "spec-fetch-error-max-delay",
    "shorebase",
];

/// Keys of other agents that this one takes without effect.
const IGNORED_KEYS: [&str; 16] = [
    "spec-fetch-interval",
    "status-update-jitter",
    "label-from-systeminfo",
    "system-info",
    "system-info-custom",
    "system-info-timeout",
    "pull-timeout",
    "pull-retry-steps",
    "enrollment-verify-interval",
    "enrollment-verify-cap",
    "enrollment-verify-steps",
    "log-prefix",
    "metrics-enabled",
    "profiling-enabled",
    "audit",
    "image-pruning",
];

/// A server and what it must prove to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `https://host:port`, without a slash at its end.
    pub server: String,
    /// PEM certificates to trust; nothing else is trusted.
    pub ca_pem: String,
}

/// The certificate and key that may enrol.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollmentIdentity {
    /// PEM chain.
    pub certificate_pem: String,
    /// PEM key.
    pub key_pem: Zeroizing<String>,
}

impl fmt::Debug for EnrollmentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollmentIdentity").finish_non_exhaustive()
    }
}

/// How often and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// Shortest time between two polls that brought nothing new. Key `shorebase.poll-min-interval`.
    pub poll_min_interval: Duration,
    /// How long a poll may be held. Key `shorebase.poll-timeout`.
    pub poll_timeout: Duration,
    /// First and longest wait after a failed request. Keys `spec-fetch-error-base-delay`, `spec-fetch-error-max-delay`.
    pub error_delay: (Duration, Duration),
    /// First and longest wait before a version that could not be applied is tried again. Keys
    /// `shorebase.retry-base-delay`, `shorebase.retry-max-delay`.
    pub retry_delay: (Duration, Duration),
    /// First and longest wait while nobody has approved. Keys `shorebase.enrollment-poll-base-delay`,
    /// `shorebase.enrollment-poll-max-delay`.
    pub enrollment_delay: (Duration, Duration),
    /// How often managed files are compared. Key `shorebase.drift-check-interval`.
    pub drift_check_interval: Duration,
    /// The longest time without a status. Key `status-update-interval`.
    pub status_update_interval: Duration,
    /// How long one `systemctl` may take. Key `shorebase.reload-timeout`.
    pub reload_timeout: Duration,
    /// How often the certificate is looked at. Key `shorebase.certificate-check-interval`.
    pub certificate_check_interval: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            poll_min_interval: seconds(5),
            poll_timeout: seconds(240),
            error_delay: (seconds(5), seconds(300)),
            retry_delay: (seconds(30), seconds(300)),
            enrollment_delay: (seconds(1), seconds(60)),
            drift_check_interval: seconds(60),
            status_update_interval: seconds(60),
            reload_timeout: seconds(60),
            certificate_check_interval: seconds(60),
        }
    }
}

/// The agent's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// The directory that every path on the device is taken to be below; `/` in earnest.
    pub root: PathBuf,
    /// Where to enrol.
    pub enrollment: Service,
    /// What may enrol.
    pub enrollment_identity: EnrollmentIdentity,
    /// Base URL of the page where a person approves; empty when there is none.
    pub enrollment_ui_endpoint: String,
    /// Where to be managed.
    pub management: Service,
    /// Labels the device asks for.
    pub default_labels: Labels,
    /// A level or a list of `target=level`.
    pub log_level: String,
    /// Units to reload, by the files they read.
    pub reload_rules: Vec<ReloadRule>,
    /// How often and how long.
    pub timings: Timings,
    /// What the operator should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The root cannot be opened.
    #[error("root directory {} cannot be opened", root.display())]
    Root {
        /// Where.
        root: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("configuration file {path} cannot be read")]
    Read {
        /// Where, below the root.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no file.
    #[error("there is no configuration file {path} below {}: write one, or name another with --config", root.display())]
    Missing {
        /// Where, below the root.
        path: String,
        /// The root.
        root: PathBuf,
    },
    /// Values are wrong.
    #[error("configuration file {path}: {}", problems.join("; "))]
    Invalid {
        /// Where, below the root.
        path: String,
        /// One sentence for each bad value, with its key.
        problems: Vec<String>,
    },
}

impl AgentConfig {
    /// Reads the configuration below `root`: `file` (default [`DEFAULT_CONFIG`](crate::DEFAULT_CONFIG)) and drop-ins.
    ///
    /// # Errors
    /// Names the file, and all bad values at once.
    pub fn load(root: &Path, file: Option<&str>) -> Result<Self, ConfigError> {
        let disk = RealDisk::open(root).map_err(|source| ConfigError::Root { root: root.to_owned(), source })?;
        let path = file.unwrap_or(paths::DEFAULT_CONFIG);
        let invalid = |problems| ConfigError::Invalid { path: path.to_owned(), problems };
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        let at = FilePath::parse(path).map_err(|e| invalid(vec![format!("{e}; it is taken below --root")]))?;
        let Some(bytes) = disk.read(&at, MAX_BYTES).map_err(unreadable)? else {
            return Err(ConfigError::Missing { path: path.to_owned(), root: root.to_owned() });
        };
        let mut warnings = Vec::new();
        let text = String::from_utf8(bytes).map_err(|_| invalid(vec!["it is not UTF-8".to_owned()]))?;
        let mut value = parse_yaml(&text).map_err(|problem| invalid(vec![problem]))?;
        merge_drop_ins(&disk, &mut value, &mut warnings);
        let mut config = read(&value, &disk).map_err(invalid)?;
        config.root = root.to_owned();
        warnings.append(&mut config.warnings);
        config.warnings = warnings;
        Ok(config)
    }
}

fn parse_yaml(text: &str) -> Result<serde_yaml::Mapping, String> {
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|e| format!("it is not YAML: {e}"))?;
    value.apply_merge().map_err(|e| format!("it is not YAML: {e}"))?;
    if value.is_null() {
        return Ok(serde_yaml::Mapping::new());
    }
    let serde_yaml::Value::Mapping(mapping) = value else {
        return Err("it is not a mapping of keys to values".to_owned());
    };
    Ok(mapping)
}

/// Lays drop-ins over the file in order of their names. One that is bad, or that makes the whole bad, is passed over
/// with a warning: a configuration that a fleet rolls out must not cut its devices off.
fn merge_drop_ins(disk: &dyn Disk, into: &mut serde_yaml::Mapping, warnings: &mut Vec<String>) {
    let directory = FilePath::own(paths::DROP_IN_DIR);
    let names = disk.list(&directory).unwrap_or_default();
    let mut problems = read(into, disk).err().unwrap_or_default();
    for name in names.into_iter().filter(|n| n.ends_with(".yaml")) {
        let path = directory.join(&name);
        let read_bytes = disk.read(&path, MAX_BYTES).map_err(|e| e.to_string());
        let parsed = read_bytes.and_then(|bytes| parse_yaml(&String::from_utf8_lossy(&bytes.unwrap_or_default())));
        let drop_in = match parsed {
            Ok(drop_in) => drop_in,
            Err(problem) => {
                warnings.push(format!("drop-in {path} is passed over: {problem}"));
                continue;
            }
        };
        let mut merged = into.clone();
        for (key, value) in drop_in {
            if key.as_str().is_some_and(|k| DROP_IN_KEYS.contains(&k)) {
                lay_over(&mut merged, key, value);
            } else {
                warnings.push(format!("drop-in {path}: {key:?} cannot be set in a drop-in"));
            }
        }
        let after = read(&merged, disk).err().unwrap_or_default();
        let new: Vec<&str> = after.iter().filter(|p| !problems.contains(p)).map(String::as_str).collect();
        if new.is_empty() {
            (*into, problems) = (merged, after);
        } else {
            warnings.push(format!("drop-in {path} is passed over: {}", new.join("; ")));
        }
    }
}

/// Sets a key; of our own part, only the keys that are given.
fn lay_over(mapping: &mut serde_yaml::Mapping, key: serde_yaml::Value, value: serde_yaml::Value) {
    let ours = key.as_str() == Some("shorebase");
    match (mapping.get_mut(&key), value) {
        (Some(_), serde_yaml::Value::Null) if ours => {}
        (Some(serde_yaml::Value::Mapping(old)), serde_yaml::Value::Mapping(new)) if ours => old.extend(new),
        (_, value) => drop(mapping.insert(key, value)),
    }
}

fn read(value: &serde_yaml::Mapping, disk: &dyn Disk) -> Result<AgentConfig, Vec<String>> {
    let mut top = Reader::new(value);
    let enrollment = top.section("enrollment-service", true).unwrap_or_default();
    let mut section = Reader::below("enrollment-service", &enrollment);
    let service = read_service(&mut section, disk);
    let identity = read_identity(&mut section, disk);
    let ui = section.url("enrollment-ui-endpoint").unwrap_or_default();
    top.absorb(section);
    let management = match top.section("management-service", false) {
        None => service.clone(),
        Some(mapping) => {
            let mut section = Reader::below("management-service", &mapping);
            let service = read_service(&mut section, disk);
            // The agent's own key and certificate are used; paths to them are those of another agent.
            section.ignore("authentication");
            top.absorb(section);
            service
        }
    };
    if let Some(tpm) = top.section("tpm", false)
        && tpm.get("enabled").and_then(serde_yaml::Value::as_bool) == Some(true)
    {
        top.problem("tpm.enabled: keys in a TPM are not supported by this agent; set it to false");
    }
    let default_labels = read_labels(&mut top);
    let log_level = top.text("log-level").unwrap_or_else(|| "info".to_owned());
    if let Err(error) = check_log_filter(&log_level) {
        top.problem(&format!("log-level: {}", ErrorChain(&error)));
    }
    let mut timings = Timings::default();
    top.duration("status-update-interval", &mut timings.status_update_interval, Duration::from_secs(2));
    top.duration_pair("spec-fetch-error-base-delay", "spec-fetch-error-max-delay", &mut timings.error_delay);
    let ours = top.section("shorebase", false).unwrap_or_default();
    let mut section = Reader::below("shorebase", &ours);
    let reload_rules = read_ours(&mut section, &mut timings);
    top.absorb(section);
    for key in IGNORED_KEYS {
        top.ignore(key);
    }
    let (problems, warnings) = top.finish();
    if !problems.is_empty() {
        return Err(problems);
    }
    match (service, identity, management) {
        (Some(enrollment), Some(enrollment_identity), Some(management)) => Ok(AgentConfig {
            root: PathBuf::from("/"),
            enrollment,
            enrollment_identity,
            enrollment_ui_endpoint: ui,
            management,
            default_labels,
            log_level,
            reload_rules,
            timings,
            warnings,
        }),
        _ => Err(vec!["enrollment-service is incomplete".to_owned()]),
    }
}

fn read_ours(section: &mut Reader<'_>, timings: &mut Timings) -> Vec<ReloadRule> {
    let shortest = Duration::from_millis(10);
    section.duration("drift-check-interval", &mut timings.drift_check_interval, shortest);
    section.duration("poll-min-interval", &mut timings.poll_min_interval, shortest);
    section.duration("poll-timeout", &mut timings.poll_timeout, Duration::from_secs(1));
    section.duration("reload-timeout", &mut timings.reload_timeout, Duration::from_secs(1));
    section.duration("certificate-check-interval", &mut timings.certificate_check_interval, shortest);
    section.duration_pair("retry-base-delay", "retry-max-delay", &mut timings.retry_delay);
    section.duration_pair("enrollment-poll-base-delay", "enrollment-poll-max-delay", &mut timings.enrollment_delay);
    let mut rules = Vec::new();
    for (path, unit) in section.texts("reload-units") {
        let trimmed = path.strip_suffix('/').unwrap_or(&path);
        let unit_ok = !unit.is_empty()
            && unit.contains('.')
            && unit.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b))
            && !unit.starts_with('-');
        match FilePath::parse(trimmed) {
            Err(error) => section.problem(&format!("reload-units: {error}")),
            Ok(_) if !unit_ok => {
                section.problem(&format!(
                    "reload-units.{path}: {unit:?} is not the name of a unit, such as chronyd.service"
                ));
            }
            Ok(path) => rules.push(ReloadRule { path: path.as_str().to_owned(), unit }),
        }
    }
    rules
}

fn read_labels(top: &mut Reader<'_>) -> Labels {
    let mut labels = Labels::new();
    for (key, value) in top.texts("default-labels") {
        match validate_label_key(&key).and_then(|()| validate_label_value(&value)) {
            Ok(()) => drop(labels.insert(key, value)),
            Err(error) => top.problem(&format!("default-labels.{key}: {error}")),
        }
    }
    labels
}

fn read_service(section: &mut Reader<'_>, disk: &dyn Disk) -> Option<Service> {
    let mapping = section.section("service", true)?;
    let mut inner = section.inner("service", &mapping);
    let server = inner.required_https("server");
    let ca_pem = read_material(&mut inner, "certificate-authority", disk);
    let result = server.zip(ca_pem).map(|(server, ca)| Service { server, ca_pem: ca.to_string() });
    section.absorb(inner);
    result
}

fn read_identity(section: &mut Reader<'_>, disk: &dyn Disk) -> Option<EnrollmentIdentity> {
    let mapping = section.section("authentication", true)?;
    let mut inner = section.inner("authentication", &mapping);
    let certificate = read_material(&mut inner, "client-certificate", disk);
    let key = read_material(&mut inner, "client-key", disk);
    section.absorb(inner);
    certificate.zip(key).map(|(pem, key_pem)| EnrollmentIdentity { certificate_pem: pem.to_string(), key_pem })
}

/// PEM from `<key>-data` (base64 in the file) or `<key>` (a path below the root).
fn read_material(section: &mut Reader<'_>, key: &str, disk: &dyn Disk) -> Option<Zeroizing<String>> {
    let data_key = format!("{key}-data");
    let inline = section.text(&data_key).filter(|text| !text.is_empty());
    let path = section.text(key).filter(|text| !text.is_empty());
    let found = match (inline, path) {
        (Some(_), Some(_)) => Err(format!("{key}: give it or {data_key}, not both")),
        (None, None) => Err(format!("{data_key} (base64 of PEM) or {key} (a path) is missing")),
        (Some(text), None) => {
            let text = Zeroizing::new(text);
            let compact = Zeroizing::new(text.split_ascii_whitespace().collect::<String>());
            base64::engine::general_purpose::STANDARD
                .decode(compact.as_bytes())
                .map_err(|e| format!("{data_key} is not base64: {e}"))
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{data_key} is not base64 of PEM")))
        }
        (None, Some(path)) => FilePath::parse(&path)
            .map_err(|e| format!("{key}: {e}"))
            .and_then(|at| disk.read(&at, MAX_BYTES).map_err(|e| format!("{key}: {path}: {e}")))
            .and_then(|bytes| bytes.ok_or_else(|| format!("{key}: there is no file {path}")))
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{key}: {path} is not PEM"))),
    };
    match found {
        Ok(pem) if pem.contains("-----BEGIN ") => Some(Zeroizing::new(pem)),
        Ok(_) => {
            section.problem(&format!("{key} is not PEM: there is no BEGIN line"));
            None
        }
        Err(problem) => {
            section.problem(&problem);
            None
        }
    }
}
