//! Which repository of a forge a Git URL means.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::ForgeKind;

/// What stays as it is in one segment of a path.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The longest URL, and the most segments, that are looked at.
const MAX_URL: usize = 2_048;
const MAX_SEGMENTS: usize = 24;

/// A repository's path at its forge: `owner/name`, or with more groups before at GitLab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPath(Vec<String>);

impl fmt::Display for RepositoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

impl RepositoryPath {
    /// Reads the path of a Git URL. `web_path` is what the forge's pages have before it, where it does not have a host of its
    /// own. `None` when the URL names no repository of such a forge.
    pub fn of_url(kind: ForgeKind, url: &str, web_path: &str) -> Option<Self> {
        let (_, path) = split(url)?;
        let mut segments = Vec::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            let decoded = percent_decode_str(segment).decode_utf8().ok()?;
            if matches!(&*decoded, "." | "..") || decoded.contains('/') || decoded.chars().any(char::is_control) {
                return None;
            }
            segments.push(decoded.into_owned());
        }
        if let Some(last) = segments.last_mut()
            && let Some(short) = last.strip_suffix(".git")
        {
            *last = short.to_owned();
        }
        let before: Vec<&str> = web_path.split('/').filter(|segment| !segment.is_empty()).collect();
        let is_below = segments.len() > before.len() && segments.iter().zip(&before).all(|(a, b)| a == b);
        if is_below {
            segments.drain(..before.len());
        }
        let fits = match kind {
            ForgeKind::GitHub | ForgeKind::Gitea => segments.len() == 2,
            ForgeKind::GitLab => (2..=MAX_SEGMENTS).contains(&segments.len()),
        };
        (fits && segments.iter().all(|segment| !segment.is_empty())).then_some(Self(segments))
    }

    /// The beginning of its API paths.
    pub(crate) fn api(&self, kind: ForgeKind) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, KEPT).to_string();
        match kind {
            ForgeKind::GitHub | ForgeKind::Gitea => {
                let parts: Vec<String> = self.0.iter().map(|segment| encoded(segment)).collect();
                format!("/repos/{}", parts.join("/"))
            }
            ForgeKind::GitLab => format!("/projects/{}", encoded(&self.0.join("/"))),
        }
    }
}

/// A value in a query.
pub(crate) fn query_value(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

/// Authority and path of a URL, or of the short SSH form `user@host:path`.
fn split(url: &str) -> Option<(&str, &str)> {
    if url.len() > MAX_URL || url.chars().any(char::is_control) {
        return None;
    }
    match url.split_once("://") {
        Some((_, rest)) => Some(rest.split_once('/').unwrap_or((rest, ""))),
        None => url.split_once(':').filter(|(authority, _)| !authority.contains('/')),
    }
}

/// The host that serves the pages of the repositories below a URL, with its port where the URL is one of HTTPS.
pub fn host_of(url: &str) -> Option<String> {
    let (authority, _) = split(url)?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_https = url.starts_with("https://");
    // A port of SSH says nothing about the pages. Brackets hold an address.
    let host = match host.rsplit_once(':') {
        Some((name, port)) if !is_https && !port.contains(']') => name,
        Some(_) | None => host,
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    (!host.is_empty() && host.chars().all(is_host)).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_names_the_repository_however_it_is_written() {
        let path = |kind, url, web| RepositoryPath::of_url(kind, url, web).map(|path| path.api(kind));
        for url in [
            "https://github.com/acme/fleet.git",
            "https://github.com/acme/fleet/",
            "git@github.com:acme/fleet.git",
            "ssh://git@github.com:22/acme/fleet",
        ] {
            assert_eq!(path(ForgeKind::GitHub, url, "").as_deref(), Some("/repos/acme/fleet"), "{url}");
        }
        assert_eq!(
            path(ForgeKind::GitLab, "https://gitlab.com/acme/ops/sites/fleet.git", "").as_deref(),
            Some("/projects/acme%2Fops%2Fsites%2Ffleet")
        );
        assert_eq!(
            path(ForgeKind::Gitea, "https://acme.test/git/ops/fleet.git", "/git").as_deref(),
            Some("/repos/ops/fleet")
        );
        assert_eq!(path(ForgeKind::Gitea, "https://a.test/o/a%20b", "").as_deref(), Some("/repos/o/a%20b"));
        for bad in ["https://github.com/acme", "https://github.com/a/b/c", "https://github.com/../b", "x", "/srv/git/a"]
        {
            assert_eq!(path(ForgeKind::GitHub, bad, ""), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_url_makes_it_panic_or_leave_its_place(url in ".{0,80}", path in "[a-z%./2fF]{0,30}") {
            for url in [url, format!("https://host/{path}")] {
                let _ = host_of(&url);
                if let Some(found) = RepositoryPath::of_url(ForgeKind::GitHub, &url, "") {
                    let api = found.api(ForgeKind::GitHub);
                    prop_assert_eq!(api.matches('/').count(), 3);
                    prop_assert!(!api.contains("/../") && !api.ends_with("/.."));
                }
            }
        }
    }
}
