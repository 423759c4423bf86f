//! Where a repository is and how to be let in.

use std::fmt;
use std::path::PathBuf;

use crate::error::{GitError, GitErrorKind};
use crate::secret::Secret;

mod authority;

pub(crate) use authority::{Authority, SshTarget};

/// A repository on a host, with everything that is needed to read it. `Debug` shows no secret; there is no public
/// serialization.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    /// `https://…`, `http://…` (without credentials only), `ssh://[user@]host[:port]/path`, `user@host:path`, `git://…`,
    /// `file://…` or an absolute local path. No credentials in here.
    pub url: String,
    /// Options of the HTTP transport; without meaning for others.
    pub https: HttpsOptions,
    /// Options of the SSH transport; without meaning for others.
    pub ssh: SshOptions,
}

/// Options of the SSH transport. The OpenSSH client does the work; it sees no configuration but this.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SshOptions {
    /// The private key to authenticate with, as the text of its file.
    pub private_key: Option<Secret>,
    /// What opens the private key when it is encrypted.
    pub passphrase: Option<Secret>,
    /// The host keys to trust: lines of a `known_hosts` file.
    pub known_hosts: Option<String>,
    /// Accept any host key. Insecure; for hosts whose key nobody can tell.
    pub skip_verify: bool,
}

/// Options of the HTTP transport.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HttpsOptions {
    /// How to authenticate.
    pub auth: RemoteAuth,
    /// Certificates (PEM, one or more) that replace the system's trusted roots.
    pub ca_pem: Option<String>,
    /// Accept any certificate. Insecure; for hosts that cannot be fixed.
    pub skip_verify: bool,
    /// The certificate to show to a host that asks for one. Redirects are refused then.
    pub client_certificate: Option<ClientCertificate>,
    /// The URL of an HTTP proxy, `http://[user@]host:port`. Without it, the `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the
    /// service count.
    pub proxy: Option<String>,
    /// The password of the user in the proxy's URL.
    pub proxy_password: Option<Secret>,
}

/// A client certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and those between it and its CA, PEM.
    pub certificate_pem: String,
    /// The private key, PEM.
    pub key_pem: Secret,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

/// How to authenticate at a Git host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RemoteAuth {
    /// Not at all.
    #[default]
    Anonymous,
    /// HTTP basic authentication.
    Basic {
        /// The user's name.
        username: String,
        /// The password, or an access token used as one.
        password: Secret,
    },
    /// An `Authorization: Bearer` header. Redirects are refused then.
    Bearer {
        /// The token, of any shape.
        token: Secret,
    },
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("url", &self.display_url())
            .field("https", &self.https)
            .field("ssh", &self.ssh)
            .finish()
    }
}

impl fmt::Debug for HttpsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsOptions")
            .field("auth", &self.auth)
            .field("ca_pem", &self.ca_pem.is_some())
            .field("skip_verify", &self.skip_verify)
            .field("client_certificate", &self.client_certificate.is_some())
            .field("proxy", &self.proxy.as_deref().map(redact_url))
            .field("proxy_password", &self.proxy_password)
            .finish()
    }
}

impl fmt::Debug for SshOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshOptions")
            .field("private_key", &self.private_key.is_some())
            .field("passphrase", &self.passphrase.is_some())
            .field("known_hosts", &self.known_hosts.is_some())
            .field("skip_verify", &self.skip_verify)
            .finish()
    }
}

/// The form of a [`Remote`] on the pipe between the pool and its worker; nothing else may use it.
pub(crate) mod pipe {
    use serde::{Deserialize, Serialize};

    use super::{ClientCertificate, HttpsOptions, Remote, RemoteAuth, SshOptions};
    use crate::secret::{Secret, maybe_on_the_pipe, on_the_pipe};

    #[derive(Serialize, Deserialize)]
    #[serde(remote = "Remote")]
    pub(crate) struct RemoteOnThePipe {
        url: String,
        #[serde(with = "HttpsOptionsOnThePipe")]
        https: HttpsOptions,
        #[serde(with = "SshOptionsOnThePipe")]
        ssh: SshOptions,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(remote = "SshOptions")]
    struct SshOptionsOnThePipe {
        #[serde(with = "maybe_on_the_pipe")]
        private_key: Option<Secret>,
        #[serde(with = "maybe_on_the_pipe")]
        passphrase: Option<Secret>,
        known_hosts: Option<String>,
        skip_verify: bool,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(remote = "HttpsOptions")]
    struct HttpsOptionsOnThePipe {
        #[serde(with = "RemoteAuthOnThePipe")]
        auth: RemoteAuth,
        ca_pem: Option<String>,
        skip_verify: bool,
        #[serde(with = "maybe_certificate")]
        client_certificate: Option<ClientCertificate>,
        proxy: Option<String>,
        #[serde(with = "maybe_on_the_pipe")]
        proxy_password: Option<Secret>,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(remote = "ClientCertificate")]
    struct ClientCertificateOnThePipe {
        certificate_pem: String,
        #[serde(with = "on_the_pipe")]
        key_pem: Secret,
    }

    /// The same for a certificate that may be absent.
    mod maybe_certificate {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use super::{ClientCertificate, ClientCertificateOnThePipe};

        #[derive(Serialize)]
        struct Lent<'a>(#[serde(with = "ClientCertificateOnThePipe")] &'a ClientCertificate);

        #[derive(Deserialize)]
        struct Owned(#[serde(with = "ClientCertificateOnThePipe")] ClientCertificate);

        pub(super) fn serialize<S: Serializer>(
            certificate: &Option<ClientCertificate>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            certificate.as_ref().map(Lent).serialize(serializer)
        }

        pub(super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<ClientCertificate>, D::Error> {
            Ok(Option::<Owned>::deserialize(deserializer)?.map(|owned| owned.0))
        }
    }

    #[derive(Serialize, Deserialize)]
    #[serde(remote = "RemoteAuth")]
    enum RemoteAuthOnThePipe {
        Anonymous,
        Basic {
            username: String,
            #[serde(with = "on_the_pipe")]
            password: Secret,
        },
        Bearer {
            #[serde(with = "on_the_pipe")]
            token: Secret,
        },
    }
}

impl Remote {
    /// A repository that anybody may read.
    pub fn anonymous(url: impl Into<String>) -> Self {
        Self { url: url.into(), https: HttpsOptions::default(), ssh: SshOptions::default() }
    }

    /// The host of a URL with its scheme and port, for those who count what it is asked; `None` for a repository on the local
    /// disk.
    pub fn host_of(url: &str) -> Option<String> {
        let url = redact_url(url);
        match url.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("file") => None,
            Some((scheme, rest)) => Some(format!("{scheme}://{}", rest.split('/').next().unwrap_or_default())),
            None if url.starts_with('/') => None,
            None => Some(format!("ssh://{}", url.split(':').next().unwrap_or_default())),
        }
    }

    /// The URL for messages: without user, password, query or fragment.
    pub fn display_url(&self) -> String {
        redact_url(&self.url)
    }

    /// Whether anybody on the way could pass for the host, because the configuration says not to verify it.
    pub fn skips_verification(&self) -> bool {
        match self.location() {
            Ok(Location::Http) => self.https.skip_verify && self.url.to_ascii_lowercase().starts_with("https://"),
            Ok(Location::Ssh(_)) => self.ssh.skip_verify,
            Ok(Location::Local(_) | Location::Daemon { .. }) | Err(_) => false,
        }
    }

    /// Which transport this URL needs.
    ///
    /// # Errors
    /// `UnsupportedScheme` for every other kind of URL, and for credentials that would travel in the clear.
    pub(crate) fn location(&self) -> Result<Location, GitError> {
        let unsupported = |why: &str| {
            GitError::new(
                GitErrorKind::UnsupportedScheme,
                format!("cannot use the Git URL {}: {why}", self.display_url()),
            )
        };
        if self.url.bytes().any(|b| b.is_ascii_control()) {
            return Err(unsupported("it holds control characters"));
        }
        if self.url.starts_with('/') {
            return Ok(Location::Local(PathBuf::from(&self.url)));
        }
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return match SshTarget::of_short_form(&self.url) {
                Some(target) => Ok(Location::Ssh(target)),
                None => Err(unsupported("it is neither a URL, nor user@host:path, nor an absolute path")),
            };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "https" => self.http_location(rest).ok_or_else(|| unsupported(CREDENTIALS_IN_URL)),
            "http" if self.https.auth != RemoteAuth::Anonymous => {
                Err(unsupported("credentials would travel in the clear; use https:// or remove the credentials"))
            }
            "http" => self.http_location(rest).ok_or_else(|| unsupported(CREDENTIALS_IN_URL)),
            "file" => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(unsupported("a file:// URL must name an absolute path, as in file:///srv/fleet.git"));
                }
                Ok(Location::Local(percent_decoded(path).ok_or_else(|| unsupported("its %-escapes are wrong"))?))
            }
            "ssh" | "git+ssh" => match SshTarget::of_url(rest) {
                Some(target) => Ok(Location::Ssh(target)),
                None => Err(unsupported(
                    "it must be ssh://[user@]host[:port]/path; credentials belong in the service's configuration",
                )),
            },
            "git" => match Authority::parse(rest) {
                Some((authority, path)) if authority.user.is_none() && path.len() > 1 => {
                    Ok(Location::Daemon { host: authority.host, port: authority.port, path: path.to_owned() })
                }
                Some(_) | None => Err(unsupported("it must be git://host[:port]/path")),
            },
            _ => Err(unsupported(
                "supported are https://, http://, ssh://, user@host:path, git://, file:// and absolute paths",
            )),
        }
    }

    fn http_location(&self, rest: &str) -> Option<Location> {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || authority.contains('@') || has_strange_port(authority) {
            return None;
        }
        Some(Location::Http)
    }
}

const CREDENTIALS_IN_URL: &str =
    "it must name a host, and credentials belong in the repository's settings, not in the URL";

/// The transport that a URL needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    Http,
    Local(PathBuf),
    Ssh(SshTarget),
    Daemon {
        host: String,
        port: Option<u16>,
        /// With a leading `/`.
        path: String,
    },
}

/// Whether a URL is of a kind that can be read, whatever its host may say to it.
///
/// # Errors
/// `UnsupportedScheme`, with a sentence that does not show credentials.
pub fn check_url(url: &str) -> Result<(), GitError> {
    Remote::anonymous(url).location().map(drop)
}

/// `url` without user (except that of SSH, which is no secret), password, query and fragment, at most 200 characters: what
/// messages may show.
pub fn redact_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let shown = match url.split_once("://") {
        Some(("ssh" | "git+ssh", rest)) if SshTarget::of_url(rest).is_some() => url.to_owned(),
        None if SshTarget::of_short_form(url).is_some() => url.to_owned(),
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            // Half a password, cut at a character that does not belong in a URL, looks like a port that is no number.
            let host = if has_strange_port(host) { "***" } else { host };
            format!("{scheme}://{host}{path}")
        }
        None => match url.split_once('@') {
            Some((_, rest)) if !url.starts_with('/') => rest.to_owned(),
            Some(_) | None => url.to_owned(),
        },
    };
    shown.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn has_strange_port(host: &str) -> bool {
    let after_address = host.rsplit(']').next().unwrap_or_default();
    after_address.split_once(':').is_some_and(|(_, port)| !port.bytes().all(|b| b.is_ascii_digit()))
}

fn percent_decoded(path: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let decoded = u8::from_str_radix(digits, 16).ok()?;
        if decoded == 0 {
            return None;
        }
        bytes.push(decoded);
        rest = tail;
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn location(url: &str) -> Result<Location, GitErrorKind> {
        Remote::anonymous(url).location().map_err(|error| error.kind)
    }

    #[test]
    fn only_known_kinds_of_urls_are_accepted() {
        assert_eq!(location("https://example.com/a.git"), Ok(Location::Http));
        assert_eq!(location("http://example.com/a.git"), Ok(Location::Http));
        assert_eq!(location("/srv/a.git"), Ok(Location::Local("/srv/a.git".into())));
        assert_eq!(location("file:///srv/a%20b.git"), Ok(Location::Local("/srv/a b.git".into())));
        let daemon = |host: &str, port| Location::Daemon { host: host.to_owned(), port, path: "/a".to_owned() };
        assert_eq!(location("git://example.com/a"), Ok(daemon("example.com", None)));
        assert_eq!(location("git://[::1]:9418/a"), Ok(daemon("::1", Some(9418))));
        for bad in [
            "ssh://git:pw@example.com/a",
            "ssh://-oProxyCommand=id/a",
            "ssh://git@-oProxyCommand=id/a",
            "ssh://example.com",
            "ssh://example.com/",
            "ssh://example.com:22x/a",
            "-oProxyCommand=id:a",
            "git@-oProxyCommand=id:a",
            "git@example.com:-a",
            "git@example.com:",
            "git://u@example.com/a",
            "git://example.com",
            "ext::sh -c id",
            "relative/path",
            "file://host/a",
            "file:///a%zz",
            "https://u:p@example.com/a",
            "https:///a",
            "-oProxyCommand=id",
            "",
            "/a\nb",
        ] {
            assert_eq!(location(bad), Err(GitErrorKind::UnsupportedScheme), "{bad:?}");
        }
    }

    #[test]
    fn credentials_never_go_over_plain_http() {
        let mut remote = Remote::anonymous("http://example.com/a.git");
        remote.https.auth = RemoteAuth::Bearer { token: Secret::new("t") };
        assert_eq!(remote.location().map_err(|e| e.kind), Err(GitErrorKind::UnsupportedScheme));
    }

    #[test]
    fn a_remote_says_when_nobody_verifies_its_host() {
        let skips = |url: &str, https: bool, ssh: bool| {
            let mut remote = Remote::anonymous(url);
            (remote.https.skip_verify, remote.ssh.skip_verify) = (https, ssh);
            remote.skips_verification()
        };
        assert!(skips("https://h/a", true, false) && !skips("https://h/a", false, true));
        assert!(skips("git@h:a", false, true) && skips("ssh://h/a", false, true) && !skips("git@h:a", true, false));
        assert!(!skips("http://h/a", true, true) && !skips("/srv/a", true, true) && !skips("nonsense", true, true));
    }

    #[test]
    fn messages_show_urls_without_credentials() {
        assert_eq!(redact_url("https://user:pw@example.com/a.git?token=x"), "https://example.com/a.git");
        assert_eq!(redact_url("https://a@b@example.com"), "https://example.com");
        assert_eq!(redact_url("user:pw@example.com:a"), "example.com:a");
        assert_eq!(redact_url("git@example.com:a"), "git@example.com:a");
        assert_eq!(redact_url("ssh://git@example.com/a?x"), "ssh://git@example.com/a");
        assert_eq!(redact_url("ssh://git:pw@example.com/a"), "ssh://example.com/a");
        assert_eq!(redact_url("/srv/a@b"), "/srv/a@b");
        assert_eq!(redact_url("https://user:p/w@example.com/a.git"), "https://***/w@example.com/a.git");
        assert_eq!(redact_url("https://user:pw#x@example.com/a.git"), "https://***");
        assert_eq!(redact_url("https://[::1]:8443/a.git"), "https://[::1]:8443/a.git");
    }

    #[test]
    fn remotes_do_not_print_their_secrets() {
        let mut remote = Remote::anonymous("https://example.com/a.git");
        remote.https.auth = RemoteAuth::Basic { username: "u".to_owned(), password: Secret::new("hunter2") };
        remote.https.proxy = Some("http://u:hunter2@proxy:3128".to_owned());
        remote.https.proxy_password = Some(Secret::new("hunter2"));
        let (certificate_pem, key_pem) = ("hunter2".to_owned(), Secret::new("hunter2"));
        remote.https.client_certificate = Some(ClientCertificate { certificate_pem, key_pem });
        assert!(!format!("{:?}", remote.https.client_certificate).contains("hunter2"));
        remote.url = "https://u:hunter2@example.com/a.git".to_owned();
        assert!(!format!("{remote:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_url_makes_us_panic_and_no_password_is_shown(url in "\\PC{0,60}", scheme in "(https|http|file|ssh)://", host in "[a-z/?#]{0,12}") {
            let _ = location(&url);
            let _ = redact_url(&url);
            let with_password = format!("{scheme}user:SECRET@{host}");
            let _ = location(&with_password);
            prop_assert!(!redact_url(&with_password).contains("SECRET"));
        }
    }
}
