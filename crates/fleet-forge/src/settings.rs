//! Where a forge is and how to be let in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::place::host_of;

/// Which API a forge speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgeKind {
    /// github.com or GitHub Enterprise.
    GitHub,
    /// gitlab.com or GitLab of one's own, API version 4.
    GitLab,
    /// Gitea or Forgejo.
    Gitea,
}

impl ForgeKind {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
        }
    }

    /// The ref that holds the newest commit of a pull request.
    pub fn pull_ref(self, number: u64) -> String {
        match self {
            Self::GitHub | Self::Gitea => format!("refs/pull/{number}/head"),
            Self::GitLab => format!("refs/merge-requests/{number}/head"),
        }
    }

    /// Where the API of the forge at `host` is.
    fn default_api(self, host: &str) -> String {
        match self {
            Self::GitHub if host == "github.com" => "https://api.github.com".to_owned(),
            Self::GitHub => format!("https://{host}/api/v3"),
            Self::GitLab => format!("https://{host}/api/v4"),
            Self::Gitea => format!("https://{host}/api/v1"),
        }
    }
}

impl fmt::Display for ForgeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no [`ForgeKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of github, gitlab, gitea (which Forgejo is, too)")]
pub struct UnknownForgeKind;

impl FromStr for ForgeKind {
    type Err = UnknownForgeKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::GitHub, Self::GitLab, Self::Gitea];
        all.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownForgeKind)
    }
}

/// A forge and how to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeSettings {
    /// Which API it speaks.
    pub kind: ForgeKind,
    /// Applies to repositories whose URL starts with this; the longest match counts.
    pub url_prefix: String,
    /// The API, without a slash at its end.
    pub api_url: String,
    /// The file with the token, read whenever it is used.
    pub token_file: PathBuf,
    /// Certificates to trust instead of the system's, PEM.
    pub ca_pem: Option<String>,
}

/// Why settings do not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeSettingsError {
    /// The prefix names no host.
    #[error("names no host; give apiUrl")]
    NoHost,
    /// The API's URL would send the token in the clear.
    #[error(
        "{0:?} does not start with https://; a token goes there (http:// is taken for 127.0.0.1 and localhost alone)"
    )]
    NotHttps(String),
    /// The API's URL holds what it must not.
    #[error("{0:?} must be a host and a path: no user, no ? and no #")]
    NotPlain(String),
    /// The certificates are none.
    #[error("holds no PEM certificates")]
    NoCertificates,
    /// No HTTP client can be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

impl ForgeSettings {
    /// The API's URL: as given, or the usual one of the host that `url_prefix` names.
    ///
    /// # Errors
    /// When there is none, or the token would go there in the clear.
    pub fn api_url(kind: ForgeKind, url_prefix: &str, given: Option<&str>) -> Result<String, ForgeSettingsError> {
        let url = match given {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => kind.default_api(&host_of(url_prefix).ok_or(ForgeSettingsError::NoHost)?),
        };
        let is_local = |rest: &str| {
            let host = rest.split(['/', ':']).next().unwrap_or_default();
            matches!(host, "localhost" | "127.0.0.1")
        };
        let rest = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => rest,
            (None, Some(rest)) if is_local(rest) => rest,
            (None, _) => return Err(ForgeSettingsError::NotHttps(url)),
        };
        if rest.is_empty() || rest.contains(['@', '?', '#', ' ', '\\']) || !rest.is_ascii() || rest.starts_with('/') {
            return Err(ForgeSettingsError::NotPlain(url));
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_api_follows_from_the_host() {
        for (kind, prefix, api) in [
            (ForgeKind::GitHub, "https://github.com/acme/", "https://api.github.com"),
            (ForgeKind::GitHub, "git@github.com:acme/", "https://api.github.com"),
            (ForgeKind::GitHub, "https://git.acme.test/", "https://git.acme.test/api/v3"),
            (ForgeKind::GitLab, "https://user@gitlab.com/acme/", "https://gitlab.com/api/v4"),
            (ForgeKind::GitLab, "ssh://git@gitlab.acme.test:2222/", "https://gitlab.acme.test/api/v4"),
            (ForgeKind::Gitea, "https://codeberg.org/acme/", "https://codeberg.org/api/v1"),
            (ForgeKind::Gitea, "https://git.acme.test:3000/acme/", "https://git.acme.test:3000/api/v1"),
        ] {
            assert_eq!(ForgeSettings::api_url(kind, prefix, None).as_deref(), Ok(api), "{prefix}");
        }
        assert_eq!(ForgeSettings::api_url(ForgeKind::Gitea, "/srv/git/", None), Err(ForgeSettingsError::NoHost));
    }

    #[test]
    fn a_token_does_not_go_out_in_the_clear() {
        let given = |url| ForgeSettings::api_url(ForgeKind::Gitea, "https://a.test/", Some(url));
        assert_eq!(given("https://b.test/api/v1/").as_deref(), Ok("https://b.test/api/v1"));
        assert!(given("http://127.0.0.1:3000/api/v1").is_ok() && given("http://localhost/api/v1").is_ok());
        for bad in
            ["http://b.test/api", "http://127.0.0.1.b.test/", "http://localhost@b.test/", "ftp://b", "b.test", ""]
        {
            assert!(given(bad).is_err(), "{bad}");
        }
        for bad in ["https://me:pw@b.test/", "https://b.test/?a", "https:///x", "https://", "https://b.test/#a"] {
            assert!(given(bad).is_err(), "{bad}");
        }
    }
}
