//! What the syncer is told: sources, credentials, and how patient to be.

use std::path::PathBuf;
use std::time::Duration;

use fleet_fetch::{HttpAuth, HttpOptions};
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
    /// How often a web server is asked for a file; drawn from ± 20 %.
    pub http_poll_interval: Duration,
    /// Life of a management certificate.
    pub device_certificate_lifetime: Duration,
}

impl SyncerConfig {
    /// The mirror of a source.
    pub(crate) fn source_mirror(&self, source: &SourceDefinition) -> PathBuf {
        let id = Digest::of(format!("{}\n{}", source.name, source.url).as_bytes()).hex();
        self.mirrors.join(format!("source-{}", &id[..24]))
    }

    fn credential(&self, url: &str) -> Option<&GitCredential> {
        let fits = self.credentials.iter().filter(|credential| url.starts_with(&credential.url_prefix));
        fits.max_by_key(|credential| credential.url_prefix.len())
    }

    /// What is needed to read a file of a web server: the same credentials as for Git over HTTPS there.
    pub(crate) fn http_options(&self, url: &str) -> HttpOptions {
        let Some(credential) = self.credential(url) else { return HttpOptions::default() };
        let auth = match &credential.auth {
            RemoteAuth::Anonymous => HttpAuth::Anonymous,
            RemoteAuth::Basic { username, password } => {
                HttpAuth::Basic { username: username.clone(), password: password.expose().into() }
            }
            RemoteAuth::Bearer { token } => HttpAuth::Bearer { token: token.expose().into() },
        };
        let (ca_pem, skip_verify) = (credential.ca_pem.clone(), credential.skip_verify);
        HttpOptions { auth, ca_pem, skip_verify, ..HttpOptions::default() }
    }

    /// The repository at `url` with what is needed to read it.
    pub(crate) fn remote(&self, url: &str) -> Remote {
        match self.credential(url) {
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
            http_poll_interval: Duration::from_secs(60),
            device_certificate_lifetime: Duration::from_secs(3600),
        };
        let user = |url: &str| match config.remote(url).https.auth {
            RemoteAuth::Basic { username, .. } => username,
            RemoteAuth::Anonymous | RemoteAuth::Bearer { .. } => "nobody".to_owned(),
        };
        assert_eq!(user("https://git.test/ops/fleet.git"), "ops");
        assert!(
            matches!(config.http_options("https://git.test/ops/x").auth, HttpAuth::Basic { username, .. } if username == "ops")
        );
        assert_eq!(config.http_options("https://elsewhere.test/ops/x"), HttpOptions::default());
        assert_eq!(user("https://git.test/apps.git"), "all");
        assert_eq!(user("https://git.test.evil/ops/fleet.git"), "nobody");
    }
}
