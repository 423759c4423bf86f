//! Which credential a repository is read with: by name, or by the longest prefix of its URL. They can be replaced while the
//! syncer runs; it does not know where they come from.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use fleet_fetch::{ClientIdentity, HttpAuth, HttpOptions};
use fleet_git::{GitError, GitErrorKind, HttpsOptions, Remote, RemoteAuth, SshOptions, redact_url};

/// How to be let in at the hosts below a URL prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCredential {
    /// What manifests may call it.
    pub name: Option<String>,
    /// Applies to URLs that start with this; the longest match counts. Goes beyond the host: `https://host/`, `git@host:`.
    pub url_prefix: String,
    /// Credentials, trust and proxy, for URLs of the HTTP kind.
    pub https: HttpsOptions,
    /// Key and host keys, for URLs of the SSH kind.
    pub ssh: SshOptions,
}

/// All credentials. Clones share them.
#[derive(Clone, Default)]
pub struct GitCredentials(Arc<RwLock<Arc<Vec<GitCredential>>>>);

impl From<Vec<GitCredential>> for GitCredentials {
    fn from(credentials: Vec<GitCredential>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(credentials))))
    }
}

impl fmt::Debug for GitCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.current().iter()).finish()
    }
}

impl GitCredentials {
    /// Puts others in the place of all. Gives whether they differ.
    pub fn replace(&self, credentials: Vec<GitCredential>) -> bool {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let differs = **current != credentials;
        if differs {
            *current = Arc::new(credentials);
        }
        differs
    }

    fn current(&self) -> Arc<Vec<GitCredential>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The repository at `url`, with the credential of the longest prefix or with none.
    pub(crate) fn remote(&self, url: &str) -> Remote {
        longest(&self.current(), url).map_or_else(|| Remote::anonymous(url), |c| c.remote(url))
    }

    /// What is needed to read a file of a web server at `url`.
    pub(crate) fn http_options(&self, url: &str) -> HttpOptions {
        longest(&self.current(), url).map_or_else(HttpOptions::default, |credential| http_options(&credential.https))
    }

    pub(crate) fn http_options_with(&self, url: &str, name: &str) -> Result<HttpOptions, GitError> {
        self.remote_with(url, name).map(|remote| http_options(&remote.https))
    }

    /// The prefix whose credential is used for `url`; empty when there is none.
    pub(crate) fn prefix(&self, url: &str) -> String {
        longest(&self.current(), url).map_or_else(String::new, |c| c.url_prefix.clone())
    }

    pub(crate) fn remote_with(&self, url: &str, name: &str) -> Result<Remote, GitError> {
        let refused = |why: String| {
            let message = format!("cannot read {} with the credential {name:?}: {why}", redact_url(url));
            Err(GitError::new(GitErrorKind::AuthFailed, message))
        };
        let current = self.current();
        let mut named = current.iter().filter(|credential| credential.name.as_deref() == Some(name)).peekable();
        if named.peek().is_none() {
            return refused("the service's configuration has none of that name under git.credentials".to_owned());
        }
        let fitting = named.clone().filter(|credential| credential.covers(url));
        match fitting.max_by_key(|credential| credential.url_prefix.len()) {
            Some(credential) => Ok(credential.remote(url)),
            None => {
                let prefixes: Vec<&str> = named.map(|credential| credential.url_prefix.as_str()).collect();
                refused(format!("it is for URLs below {} alone", prefixes.join(" and ")))
            }
        }
    }
}

fn longest<'a>(credentials: &'a [GitCredential], url: &str) -> Option<&'a GitCredential> {
    credentials.iter().filter(|credential| credential.covers(url)).max_by_key(|credential| credential.url_prefix.len())
}

fn http_options(https: &HttpsOptions) -> HttpOptions {
    let auth = match &https.auth {
        RemoteAuth::Anonymous => HttpAuth::Anonymous,
        RemoteAuth::Basic { username, password } => {
            HttpAuth::Basic { username: username.clone(), password: password.expose().into() }
        }
        RemoteAuth::Bearer { token } => HttpAuth::Bearer { token: token.expose().into() },
    };
    let client_identity = https.client_certificate.as_ref().map(|client| ClientIdentity {
        certificate_pem: client.certificate_pem.clone(),
        key_pem: client.key_pem.expose().into(),
    });
    let proxy = https.proxy.as_deref().map(|url| match &https.proxy_password {
        Some(password) => with_password(url, password.expose()),
        None => url.to_owned(),
    });
    HttpOptions { auth, ca_pem: https.ca_pem.clone(), client_identity, skip_verify: https.skip_verify, proxy }
}

/// A URL `http://user@host` with the user's password.
fn with_password(url: &str, password: &str) -> String {
    let Some((user, host)) = url.rsplit_once('@') else { return url.to_owned() };
    let escaped: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("{user}:{escaped}@{host}")
}

impl GitCredential {
    /// Whether the URL lies below the prefix, and its path does not lead out again.
    fn covers(&self, url: &str) -> bool {
        let Some(rest) = url.strip_prefix(&self.url_prefix) else { return false };
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        // URL parsers take each of these for "one up" or for a slash.
        let plain =
            path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
        let has_control = plain.chars().any(char::is_control);
        !has_control && !plain.split('/').any(|part| part == "..")
    }

    fn remote(&self, url: &str) -> Remote {
        Remote { url: url.to_owned(), https: self.https.clone(), ssh: self.ssh.clone() }
    }
}

#[cfg(test)]
mod tests {
    use fleet_git::RemoteAuth;
    use proptest::prelude::*;

    use super::*;

    fn credential(name: Option<&str>, prefix: &str, user: &str) -> GitCredential {
        let auth = RemoteAuth::Basic { username: user.to_owned(), password: String::from("hunter2").into() };
        GitCredential {
            name: name.map(str::to_owned),
            url_prefix: prefix.to_owned(),
            https: HttpsOptions { auth, ..HttpsOptions::default() },
            ssh: SshOptions::default(),
        }
    }

    fn credentials() -> GitCredentials {
        GitCredentials::from(vec![
            credential(None, "https://git.test/", "all"),
            credential(Some("ops"), "https://git.test/ops/", "ops"),
            credential(Some("bot"), "https://git.test/", "bot"),
        ])
    }

    fn user(remote: &Remote) -> &str {
        match &remote.https.auth {
            RemoteAuth::Basic { username, .. } => username,
            RemoteAuth::Anonymous | RemoteAuth::Bearer { .. } => "nobody",
        }
    }

    #[test]
    fn the_longest_prefix_gives_the_credential_and_others_get_none() {
        let all = GitCredentials::from(vec![
            credential(None, "https://git.test/", "all"),
            credential(None, "https://git.test/ops/", "ops"),
        ]);
        assert_eq!(user(&all.remote("https://git.test/ops/fleet.git")), "ops");
        assert_eq!(user(&all.remote("https://git.test/apps.git")), "all");
        assert_eq!(user(&all.remote("https://git.test.evil/ops/fleet.git")), "nobody");
        for out in ["ops/../apps.git", "ops/%2e%2E/apps.git", "ops/..%2fapps.git", "ops/..\\apps.git"] {
            assert_eq!(user(&all.remote(&format!("https://git.test/{out}"))), "nobody", "{out}");
        }
    }

    #[test]
    fn a_name_chooses_among_those_for_the_url_and_sends_nothing_elsewhere() {
        let all = credentials();
        let with = |url: &str, name: &str| all.remote_with(url, name).map(|remote| user(&remote).to_owned());
        assert_eq!(with("https://git.test/ops/a.git", "bot").as_deref(), Ok("bot"));
        assert_eq!(with("https://git.test/ops/a.git", "ops").as_deref(), Ok("ops"));
        for (url, name, says) in [
            ("https://git.test/apps.git", "ops", "it is for URLs below https://git.test/ops/ alone"),
            ("https://evil.test/ops/", "ops", "alone"),
            ("https://git.test/ops/../apps.git", "ops", "alone"),
            ("https://git.test/ops/a.git", "none", "none of that name"),
            ("https://git.test/ops/a.git", "", "none of that name"),
        ] {
            let error = with(url, name).unwrap_err();
            assert_eq!(error.kind, GitErrorKind::AuthFailed);
            assert!(error.message.contains(says) && !error.message.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn replaced_credentials_count_at_once_and_do_not_print() {
        let all = credentials();
        let shared = all.clone();
        assert!(!all.replace(vec![
            credential(None, "https://git.test/", "all"),
            credential(Some("ops"), "https://git.test/ops/", "ops"),
            credential(Some("bot"), "https://git.test/", "bot"),
        ]));
        assert!(all.replace(vec![credential(None, "https://git.test/", "new")]));
        assert_eq!(user(&shared.remote("https://git.test/ops/a.git")), "new");
        assert!(!format!("{shared:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_url_gets_a_credential_of_another_origin(url in "(https://git\\.test|https://evil\\.test|)\\PC{0,30}") {
            for remote in [Some(credentials().remote(&url)), credentials().remote_with(&url, "ops").ok()].into_iter().flatten() {
                prop_assert!(user(&remote) == "nobody" || url.starts_with("https://git.test/"));
            }
        }
    }
}
