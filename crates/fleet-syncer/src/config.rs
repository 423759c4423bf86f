//! What the syncer is told: sources, credentials, and how patient to be.

use std::path::PathBuf;
use std::time::Duration;

use fleet_git::{HttpsOptions, Remote, RemoteAuth, SshOptions};
use fleet_model::{Digest, OrgId};
use fleet_store::SourceDefinition;

/// How to be let in at the hosts below a URL prefix.
#[derive(Debug, Clone)]
pub struct GitCredential {
    /// Applies to URLs that start with this; the longest match counts. Goes beyond the host: `https://host/`, `git@host:`.
    pub url_prefix: String,
    /// How to authenticate.
    pub auth: RemoteAuth,
    /// Certificates to trust instead of the system's, PEM.
    pub ca_pem: Option<String>,
    /// Accept any certificate.
    pub skip_verify: bool,
    /// Key and host keys, for URLs of the SSH kind.
    pub ssh: SshOptions,
}

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
    /// Credentials by URL.
    pub credentials: Vec<GitCredential>,
    /// Whether manifests may name repositories on the service's own disk.
    pub allow_local_repositories: bool,
    /// How often a host is asked when nothing wakes the source; drawn from ± 20 %.
    pub poll_interval: Duration,
    /// How long what left Git stays in force where no SyncPolicy says it.
    pub deletion_grace: Duration,
    /// Life of a management certificate.
    pub device_certificate_lifetime: Duration,
}

impl SyncerConfig {
    /// The mirror of a source.
    pub(crate) fn source_mirror(&self, source: &SourceDefinition) -> PathBuf {
        let id = Digest::of(format!("{}\n{}", source.name, source.url).as_bytes()).hex();
        self.mirrors.join(format!("source-{}", &id[..24]))
    }

    /// The repository at `url` with what is needed to read it.
    pub(crate) fn remote(&self, url: &str) -> Remote {
        let credential = self
            .credentials
            .iter()
            .filter(|credential| url.starts_with(&credential.url_prefix))
            .max_by_key(|credential| credential.url_prefix.len());
        match credential {
            None => Remote::anonymous(url),
            Some(credential) => Remote {
                url: url.to_owned(),
                https: HttpsOptions {
                    auth: credential.auth.clone(),
                    ca_pem: credential.ca_pem.clone(),
                    skip_verify: credential.skip_verify,
                    ..HttpsOptions::default()
                },
                ssh: credential.ssh.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_gives_the_credential_and_others_get_none() {
        let credential = |prefix: &str, user: &str| GitCredential {
            url_prefix: prefix.to_owned(),
            auth: RemoteAuth::Basic { username: user.to_owned(), password: String::from("x").into() },
            ca_pem: None,
            skip_verify: false,
            ssh: SshOptions::default(),
        };
        let config = SyncerConfig {
            holder: String::new(),
            org: OrgId::DEFAULT,
            mirrors: PathBuf::new(),
            sources: Vec::new(),
            credentials: vec![credential("https://git.test/", "all"), credential("https://git.test/ops/", "ops")],
            allow_local_repositories: false,
            poll_interval: Duration::from_secs(15),
            deletion_grace: Duration::ZERO,
            device_certificate_lifetime: Duration::from_secs(3600),
        };
        let user = |url: &str| match config.remote(url).https.auth {
            RemoteAuth::Basic { username, .. } => username,
            RemoteAuth::Anonymous | RemoteAuth::Bearer { .. } => "nobody".to_owned(),
        };
        assert_eq!(user("https://git.test/ops/fleet.git"), "ops");
        assert_eq!(user("https://git.test/apps.git"), "all");
        assert_eq!(user("https://git.test.evil/ops/fleet.git"), "nobody");
    }
}
