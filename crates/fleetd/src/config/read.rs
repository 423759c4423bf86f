//! Reads the configuration from its file and the environment.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use fleet_model::{MAX_GRACE, ResourceName, Role};
use fleet_runtime::{LogFormat, check_log_filter};
use fleet_store::{ORIGIN_CONFIG, SourceDefinition};
use fleet_user_api::{KeyLocation, OidcConfig};
use serde_yaml::Value;
use zeroize::Zeroizing;

use super::credentials::CredentialFiles;
use super::fields::{Fields, Problems};
use super::forges::read_forges;
use super::secrets::read_secrets;
use super::webhooks::read_webhooks;
use super::{AuthConfig, CertificateConfig, Config, ConfigErrors, DatabaseConfig, GitConfig, ListenerConfig};

/// Environment variables that take the place of values in the file, with what they set.
pub const ENVIRONMENT: [(&str, &str); 7] = [
    ("FLEETD_DATA_DIR", "dataDir"),
    ("FLEETD_LOG_LEVEL", "log.level"),
    ("FLEETD_LOG_FORMAT", "log.format"),
    ("FLEETD_DATABASE_URL", "database.url"),
    ("FLEETD_USER_API_ADDRESS", "userApi.address"),
    ("FLEETD_AGENT_API_ADDRESS", "agentApi.address"),
    ("FLEETD_METRICS_ADDRESS", "metrics.address"),
];

const DAY: u64 = 86_400;
/// The largest configuration file.
const MAX_BYTES: u64 = 1 << 20;

/// Reads and checks the configuration. `environment` looks a variable up.
///
/// # Errors
/// All problems at once.
pub fn load(file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let fail = |problem: String| ConfigErrors { file: file.to_owned(), problems: vec![problem] };
    let size = std::fs::metadata(file).map_err(|e| fail(format!("cannot read it: {e}")))?.len();
    if size > MAX_BYTES {
        return Err(fail(format!("it has {size} bytes; at most {MAX_BYTES} are read")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| fail(format!("cannot read it: {e}")))?;
    parse(file, &text, environment)
}

fn parse(file: &Path, text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let problems: Problems = Rc::new(RefCell::new(Vec::new()));
    let document: Value = serde_yaml::from_str(text)
        .map_err(|error| ConfigErrors { file: file.to_owned(), problems: vec![format!("not valid YAML: {error}")] })?;
    let document = overlay(document, environment);
    let config = read(Fields::new("", document, &problems), file, environment);
    let problems = problems.take();
    if problems.is_empty() { Ok(config) } else { Err(ConfigErrors { file: file.to_owned(), problems }) }
}

/// Puts variables of the environment in their places.
fn overlay(document: Value, environment: &dyn Fn(&str) -> Option<String>) -> Value {
    let mut document = if document.is_null() { Value::Mapping(serde_yaml::Mapping::new()) } else { document };
    for (variable, place) in ENVIRONMENT {
        let Some(text) = environment(variable).filter(|text| !text.is_empty()) else { continue };
        let mut at = &mut document;
        let mut parts = place.split('.').peekable();
        while let Some(part) = parts.next() {
            let Value::Mapping(mapping) = at else { break };
            if parts.peek().is_none() {
                mapping.insert(part.into(), Value::String(text.clone()));
                break;
            }
            at = mapping.entry(part.into()).or_insert_with(|| Value::Mapping(serde_yaml::Mapping::new()));
        }
    }
    document
}

fn read(mut root: Fields, file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Config {
    let beside = file.parent().unwrap_or(Path::new("."));
    let data_dir = PathBuf::from(root.text("dataDir").unwrap_or_else(|| "/var/lib/fleetd".to_owned()));
    if !data_dir.is_absolute() {
        root.problem("dataDir", format_args!("{} is not an absolute path", data_dir.display()));
    }
    let mut log = root.section("log");
    let log_level = log.text("level").unwrap_or_else(|| "info".to_owned());
    if let Err(error) = check_log_filter(&log_level) {
        log.problem("level", error);
    }
    let log_format = log.parsed::<LogFormat>("format").unwrap_or_default();
    log.finish();
    let database = read_database(root.section("database"), beside);
    let user_api = read_listener(root.section("userApi"), beside, SocketAddr::from(([0, 0, 0, 0], 3443)));
    let mut agent_section = root.section("agentApi");
    let poll_hold = agent_section.duration("pollHold", Duration::ZERO, Duration::from_secs(225));
    let agent_api = read_listener(agent_section, beside, SocketAddr::from(([0, 0, 0, 0], 7443)));
    let mut metrics = root.section("metrics");
    let metrics_address = metrics.parsed("address").unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 15690)));
    metrics.finish();
    let auth = read_auth(root.section("auth"), beside);
    let git = read_git(root.section("git"), beside, environment);
    let mut events = root.section("events");
    let event_retention = events.duration("retention", Duration::from_secs(3_600), Duration::from_secs(3_650 * DAY));
    events.finish();
    let mut http = root.section("http");
    let http_poll_interval = http.duration("pollInterval", Duration::from_secs(1), Duration::from_secs(DAY));
    http.finish();
    let secrets = read_secrets(&mut root, beside);
    let certificates = read_certificates(root.section("certificates"));
    let sources = read_sources(&mut root);
    for source in &sources {
        let known = |name: &String| git.credentials.iter().any(|credential| credential.name.as_ref() == Some(name));
        if let Some(name) = source.credential.as_ref().filter(|name| !known(name)) {
            root.problem("sources", format_args!("{}: there is no credential named {name:?} under git", source.name));
        }
    }
    let webhooks = read_webhooks(&mut root, beside, environment);
    let forges = read_forges(&mut root, beside);
    let config = Config {
        data_dir,
        log_level,
        log_format,
        database,
        user_api,
        agent_api,
        poll_hold: poll_hold.unwrap_or(Duration::from_secs(120)),
        metrics_address,
        auth,
        git,
        event_retention: event_retention.unwrap_or(Duration::from_secs(30 * DAY)),
        http_poll_interval: http_poll_interval.unwrap_or(Duration::from_secs(60)),
        secrets,
        certificates,
        sources,
        webhooks,
        forges,
    };
    root.finish();
    config
}

fn read_listener(mut section: Fields, beside: &Path, default: SocketAddr) -> ListenerConfig {
    let address = section.parsed("address").unwrap_or(default);
    let base_url = section.text("baseUrl");
    if let Some(url) = base_url.as_deref().filter(|url| !url.starts_with("https://")) {
        section.problem("baseUrl", format_args!("{url:?} does not start with https://"));
    }
    let names = section.texts("names").unwrap_or_default();
    let certificate = match (section.text("certificate"), section.text("key")) {
        (Some(certificate), Some(key)) => Some((beside.join(certificate), beside.join(key))),
        (None, None) => None,
        (Some(_), None) => {
            section.problem("key", "is missing; certificate and key belong together");
            None
        }
        (None, Some(_)) => {
            section.problem("certificate", "is missing; certificate and key belong together");
            None
        }
    };
    section.finish();
    ListenerConfig { address, base_url, names, certificate }
}

fn read_database(mut section: Fields, beside: &Path) -> DatabaseConfig {
    let url = match (section.text("url"), section.text("urlFile")) {
        (Some(_), Some(_)) => {
            section.problem("urlFile", "url is given too; use one of them");
            None
        }
        (Some(url), None) => Some(Zeroizing::new(url)),
        (None, Some(file)) => read_secret(&section, "urlFile", &beside.join(file)).map(Zeroizing::new),
        (None, None) => None,
    };
    if let Some(url) = &url
        && !url.starts_with("postgres://")
        && !url.starts_with("postgresql://")
    {
        section.problem("url", "does not start with postgres:// or postgresql://");
    }
    let max = section.number("maxConnections", 4, 1_000).unwrap_or(20);
    section.finish();
    DatabaseConfig { url, max_connections: u32::try_from(max).unwrap_or(20) }
}

pub(super) fn read_secret(section: &Fields, key: &str, file: &Path) -> Option<String> {
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => {
            section.problem(key, format_args!("{} is empty", file.display()));
            None
        }
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => {
            section.problem(key, format_args!("cannot read {}: {error}", file.display()));
            None
        }
    }
}

fn read_auth(mut section: Fields, beside: &Path) -> AuthConfig {
    let oidc = section.optional_section("oidc").map(|mut oidc| {
        let issuer = oidc.required_text("issuer");
        if !issuer.is_empty() && !issuer.starts_with("https://") && !issuer.starts_with("http://") {
            oidc.problem("issuer", format_args!("{issuer:?} is not a URL"));
        }
        let mut sections = oidc.section("roles");
        let mut roles = BTreeMap::new();
        for role in Role::ALL {
            let names = sections.texts(role.as_str()).unwrap_or_default();
            roles.extend(names.into_iter().map(|name| (name, role)));
        }
        sections.finish();
        let keys = match (oidc.text("jwksUrl"), oidc.text("jwksFile")) {
            (None, None) => KeyLocation::Discovery,
            (Some(url), None) => KeyLocation::Url(url),
            (None, Some(file)) => KeyLocation::File(beside.join(file)),
            (Some(_), Some(_)) => {
                oidc.problem("jwksFile", "jwksUrl is given too; use one of them");
                KeyLocation::Discovery
            }
        };
        let mut config = OidcConfig::new(&issuer, &oidc.required_text("audience"));
        config.keys = keys;
        config.roles = roles;
        config.ca_file = oidc.text("caFile").map(|file| beside.join(file));
        if let Some(claim) = oidc.text("rolesClaim") {
            config.role_claim = claim.split('.').map(str::to_owned).collect();
        }
        if let Some(claim) = oidc.text("usernameClaim") {
            config.name_claim = claim;
        }
        oidc.finish();
        config
    });
    let local = section.flag("local").unwrap_or(oidc.is_none());
    if !local && oidc.is_none() {
        section.problem("local", "is false and there is no oidc issuer: nobody could log in");
    }
    section.finish();
    AuthConfig { local, oidc }
}

fn read_git(mut section: Fields, beside: &Path, environment: &dyn Fn(&str) -> Option<String>) -> GitConfig {
    let credential_files = CredentialFiles::take(&mut section, beside);
    let credentials = credential_files.read(environment).unwrap_or_else(|problems| {
        section.problems(problems);
        Vec::new()
    });
    let mut mirrors = section.section("mirrors");
    let max_mirror_bytes = mirrors.bytes("maxBytes", 1 << 20, 1 << 50).unwrap_or(10 << 30);
    mirrors.finish();
    let workers = fleet_git::Limits::default();
    let config = GitConfig {
        max_mirror_bytes,
        poll_interval: section
            .duration("pollInterval", Duration::from_millis(500), Duration::from_secs(DAY))
            .unwrap_or(Duration::from_secs(15)),
        polls_per_second_per_host: section
            .number("pollsPerSecondPerHost", 1, 10_000)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(100),
        deletion_grace: section
            .duration("deletionGracePeriod", Duration::ZERO, MAX_GRACE)
            .unwrap_or(Duration::from_secs(3_600)),
        max_workers: section.number("maxWorkers", 1, 256).and_then(|n| usize::try_from(n).ok()).unwrap_or(4),
        worker_memory: section.bytes("workerMemory", 128 << 20, 1 << 40).unwrap_or(workers.memory),
        max_pack_bytes: section.bytes("maxPackBytes", 1 << 20, 1 << 40).unwrap_or(workers.pack),
        request_timeout: section
            .duration("requestTimeout", Duration::from_secs(20), Duration::from_secs(DAY))
            .unwrap_or(workers.total),
        allow_local_repositories: section.flag("allowLocalRepositories").unwrap_or(false),
        credentials,
        credential_files,
    };
    section.finish();
    config
}

fn read_certificates(mut section: Fields) -> CertificateConfig {
    let (low, high) = (Duration::from_secs(60), Duration::from_secs(365 * DAY));
    let config = CertificateConfig {
        device: section.duration("deviceLifetime", low, high).unwrap_or(Duration::from_secs(14 * DAY)),
        enrollment: section.duration("enrollmentLifetime", low, high).unwrap_or(Duration::from_secs(365 * DAY)),
    };
    section.finish();
    config
}

fn read_sources(root: &mut Fields) -> Vec<SourceDefinition> {
    let mut names = BTreeSet::new();
    root.sections("sources")
        .into_iter()
        .map(|mut item| {
            let name = item.required_text("name");
            if !name.is_empty() {
                if let Err(error) = ResourceName::from_str(&name) {
                    item.problem("name", error);
                }
                if !names.insert(name.clone()) {
                    item.problem("name", format_args!("{name:?} is used by another source"));
                }
            }
            let url = item.required_text("url");
            if !url.is_empty() {
                if fleet_git::redact_url(&url) != url {
                    item.problem("url", "holds credentials; put them under git.credentials");
                } else if let Err(error) = fleet_git::check_url(&url) {
                    item.problem("url", error);
                }
            }
            let revision = item.text("revision").unwrap_or_else(|| "main".to_owned());
            let path = item.text("path").unwrap_or_else(|| "/".to_owned());
            if path.split('/').any(|part| part == "..") {
                item.problem("path", "must not hold ..");
            }
            let credential = item.text("credential");
            item.finish();
            SourceDefinition { name, origin: ORIGIN_CONFIG.to_owned(), url, credential, revision, path }
        })
        .collect()
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
