//! The service's configuration: one YAML file and a few environment variables. Every bad value is reported at once.

mod credentials;
mod fields;
mod forges;
mod read;
mod secrets;
mod webhooks;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fleet_runtime::LogFormat;
use fleet_store::SourceDefinition;
use fleet_syncer::{ForgeConfig, GitCredential};
use fleet_user_api::{OidcConfig, Webhook};
use zeroize::Zeroizing;

pub use credentials::CredentialFiles;
pub use read::{ENVIRONMENT, load};
pub use secrets::{SecretStore, SecretsConfig};

/// The configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// Where everything is kept that is not in the database: keys, mirrors, the embedded database.
    pub data_dir: PathBuf,
    /// A level or filter of the log.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The database; without a URL an embedded one.
    pub database: DatabaseConfig,
    /// The interface for people.
    pub user_api: ListenerConfig,
    /// The interface for devices.
    pub agent_api: ListenerConfig,
    /// How long an unchanged poll is held.
    pub poll_hold: Duration,
    /// Where metrics and health are served, in the clear.
    pub metrics_address: SocketAddr,
    /// Who may use the interface for people.
    pub auth: AuthConfig,
    /// How Git is read.
    pub git: GitConfig,
    /// How long events are kept.
    pub event_retention: Duration,
    /// How often a web server is asked for a file that manifests take.
    pub http_poll_interval: Duration,
    /// Where secrets come from that manifests take; without it, what takes some waits.
    pub secrets: Option<SecretsConfig>,
    /// How long certificates live.
    pub certificates: CertificateConfig,
    /// Where desired state comes from.
    pub sources: Vec<SourceDefinition>,
    /// Who may announce that repositories changed.
    pub webhooks: Vec<Webhook>,
    /// Which Git hosts are told what becomes of commits.
    pub forges: Vec<ForgeConfig>,
}

/// The database.
pub struct DatabaseConfig {
    /// `postgres://…`; an embedded database when absent.
    pub url: Option<Zeroizing<String>>,
    /// The most connections to hold.
    pub max_connections: u32,
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = if self.url.is_some() { "given" } else { "embedded" };
        f.debug_struct("DatabaseConfig").field("url", &url).field("max_connections", &self.max_connections).finish()
    }
}

/// A TLS listener.
#[derive(Debug)]
pub struct ListenerConfig {
    /// Address and port to bind.
    pub address: SocketAddr,
    /// The URL that clients use; from the first name and the port when absent.
    pub base_url: Option<String>,
    /// DNS names and IP addresses for the certificate that the built-in CA issues.
    pub names: Vec<String>,
    /// A certificate chain and key of one's own, PEM files.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Who may use the interface for people.
#[derive(Debug)]
pub struct AuthConfig {
    /// Whether tokens signed with the key in the data directory are accepted.
    pub local: bool,
    /// OpenID Connect providers whose tokens are accepted.
    pub oidc: Option<OidcConfig>,
}

/// How Git is read.
#[derive(Debug)]
pub struct GitConfig {
    /// How often a host is asked when nothing wakes a source.
    pub poll_interval: Duration,
    /// How often one host is asked in a second.
    pub polls_per_second_per_host: u32,
    /// How long what left Git stays in force where no SyncPolicy says it.
    pub deletion_grace: Duration,
    /// Worker processes at the same time.
    pub max_workers: usize,
    /// How much writable memory each of them may take, in bytes.
    pub worker_memory: u64,
    /// The largest pack that a host may send at once, in bytes.
    pub max_pack_bytes: u64,
    /// How long one request to a host may take, such as the first mirror of a repository.
    pub request_timeout: Duration,
    /// How much of the disk mirrors of repositories may take together, in bytes.
    pub max_mirror_bytes: u64,
    /// Whether manifests may name repositories on this disk.
    pub allow_local_repositories: bool,
    /// Credentials by URL, as they were at the start.
    pub credentials: Vec<GitCredential>,
    /// Where they are read again.
    pub credential_files: CredentialFiles,
}

/// How long certificates live.
#[derive(Debug)]
pub struct CertificateConfig {
    /// Management certificates of devices.
    pub device: Duration,
    /// Enrolment certificates, at most.
    pub enrollment: Duration,
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file.
    pub file: PathBuf,
    /// One line for each problem: where, what, and what would be right.
    pub problems: Vec<String>,
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {noun} in configuration {}:", self.file.display())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
