//! What the syncer is told: sources, credentials, and how patient to be.

use std::path::PathBuf;
use std::time::Duration;

use fleet_fetch::HttpOptions;
use fleet_git::{GitError, Remote};
use fleet_model::OrgId;
use fleet_store::SourceDefinition;

use crate::credentials::GitCredentials;
use crate::outbox::ForgeConfig;
use crate::secrets::SecretsConfig;
use crate::work::RUN_DEADLINE;

/// Settings of the syncer.
#[derive(Debug, Clone)]
pub struct SyncerConfig {
    /// Names this installation among those that share a database; the same after a restart.
    pub holder: String,
    /// The organisation to sync.
    pub org: OrgId,
    /// Directory for mirrors; may be deleted at any time.
    pub mirrors: PathBuf,
    /// Sources of the service's configuration.
    pub sources: Vec<SourceDefinition>,
    /// Credentials by URL and by name. They may be replaced while the syncer runs.
    pub credentials: GitCredentials,
    /// Whether manifests may name repositories on the service's own disk.
    pub allow_local_repositories: bool,
    /// How often a host is asked when nothing wakes the source; drawn from ± 20 %.
    pub poll_interval: Duration,
    /// How often one host is asked in a second, whatever the number of repositories; who was woken goes first. Not zero.
    pub polls_per_second_per_host: u32,
    /// How much of the disk mirrors may take together, in bytes; those that are in use at the moment may go beyond.
    pub max_mirror_bytes: u64,
    /// How long what left Git stays in force where no SyncPolicy says it.
    pub deletion_grace: Duration,
    /// How long events are kept.
    pub event_retention: Duration,
    /// How long one request to a Git host may take.
    pub git_request_timeout: Duration,
    /// How often a web server is asked for a file; drawn from ± 20 %.
    pub http_poll_interval: Duration,
    /// Where secrets come from; without it, fleets with a `secretRef` wait.
    pub secrets: Option<SecretsConfig>,
    /// Life of a management certificate.
    pub device_certificate_lifetime: Duration,
    /// Forges that are told what becomes of commits.
    pub forges: Vec<ForgeConfig>,
}

#[cfg(test)]
impl SyncerConfig {
    /// Nothing configured, and much patience.
    pub(crate) fn for_tests() -> Self {
        let long = Duration::from_secs(600);
        Self {
            holder: "test".to_owned(),
            org: OrgId::DEFAULT,
            mirrors: "/nonexistent".into(),
            sources: Vec::new(),
            credentials: GitCredentials::default(),
            allow_local_repositories: false,
            poll_interval: long,
            polls_per_second_per_host: 100,
            max_mirror_bytes: u64::MAX,
            deletion_grace: Duration::ZERO,
            event_retention: Duration::from_secs(3_600),
            git_request_timeout: Duration::from_secs(120),
            http_poll_interval: Duration::from_secs(60),
            secrets: None,
            device_certificate_lifetime: long,
            forges: Vec::new(),
        }
    }
}

impl SyncerConfig {
    /// The prefix whose credential is used for `url`; empty when there is none.
    pub(crate) fn credential_prefix(&self, url: &str) -> String {
        self.credentials.prefix(url)
    }

    /// The longest that one look at a source may take: room for a few requests to hosts, one after the other.
    pub(crate) fn look_deadline(&self) -> Duration {
        RUN_DEADLINE.max(self.git_request_timeout.saturating_mul(4))
    }

    /// The repository at `url` with what is needed to read it now.
    pub fn remote(&self, url: &str) -> Remote {
        self.credentials.remote(url)
    }

    /// The repository at `url` with the credential of that name.
    ///
    /// # Errors
    /// `AuthFailed` when there is no such credential, or the URL does not lie below its prefix.
    pub fn remote_with(&self, url: &str, credential: &str) -> Result<Remote, GitError> {
        self.credentials.remote_with(url, credential)
    }

    /// The same, with the credential of that name.
    ///
    /// # Errors
    /// `AuthFailed` when there is no such credential, or the URL does not lie below its prefix.
    pub(crate) fn http_options_with(&self, url: &str, credential: &str) -> Result<HttpOptions, GitError> {
        self.credentials.http_options_with(url, credential)
    }

    /// What is needed to read a file of a web server: the same credentials as for Git over HTTPS there.
    pub(crate) fn http_options(&self, url: &str) -> HttpOptions {
        self.credentials.http_options(url)
    }
}
