//! From an error chain of gix, reqwest, rustls and the operating system to one kind and one sentence.

use std::error::Error;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use gix::protocol::transport::client::AuthenticationRequired;

use crate::error::{GitError, GitErrorKind};
use crate::remote::{Remote, RemoteAuth};

/// What was going on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Where {
    Handshake,
    ListRefs,
    Receive,
}

impl Where {
    fn doing(self) -> &'static str {
        match self {
            Self::Handshake => "connecting",
            Self::ListRefs => "listing references",
            Self::Receive => "receiving objects",
        }
    }
}

/// The host asked for credentials, or did not take ours. `asked_by` is the URL that asked, without credentials.
pub(super) fn credentials_refused(remote: &Remote, asked_by: &str) -> GitError {
    let url = remote.display_url();
    let elsewhere = !asked_by.is_empty() && authority(asked_by) != authority(&url);
    let message = match remote.https.auth {
        _ if elsewhere => format!(
            "{url} redirects to {asked_by}, which asks for credentials (HTTP status 401), and credentials are not sent to another host; use the final URL"
        ),
        RemoteAuth::Anonymous => format!(
            "{url} asks for credentials (HTTP status 401) and none are configured; set a user name and password, or a token"
        ),
        RemoteAuth::Basic { .. } => format!(
            "{url} did not accept the user name and password (HTTP status 401); check that they are current and may read the repository"
        ),
        RemoteAuth::Bearer { .. } => format!(
            "{url} did not accept the token (HTTP status 401); check that it is current and may read the repository"
        ),
    };
    GitError::new(GitErrorKind::AuthFailed, message)
}

fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest.split('/').next().unwrap_or_default())
}

/// An error of a conversation with a host. `url` is without credentials.
pub(super) fn network(error: &gix::Error, url: &str, place: Where) -> GitError {
    let facts = Facts::of(error);
    let (kind, message) = facts.verdict(url);
    tracing::debug!(url, place = place.doing(), chain = %facts.chain(), "A Git request failed");
    GitError::new(kind, message.unwrap_or_else(|| format!("{url}: {} failed: {}", place.doing(), facts.chain())))
}

/// The longest that a host is left alone because it asks for it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// An answer of a host with this HTTP status and `Retry-After`. `url` is without credentials.
pub(super) fn answered(status: u16, url: &str, retry_after: Option<&str>) -> GitError {
    let (kind, message) = status_verdict(status, url);
    let retry_after = retry_after.and_then(|text| parse_retry_after(text, now()));
    GitError { retry_after, ..GitError::new(kind, message.unwrap_or_default()) }
}

#[expect(clippy::disallowed_methods, reason = "a worker has no other clock, and the date comes from outside anyway")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Seconds, or a date (RFC 9110, 10.2.3). `None` when it is neither.
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// An error of a repository on disk.
pub(crate) fn local(error: &gix::Error, doing: &str) -> GitError {
    if is_disk_full(error) {
        return GitError::disk_full(&format!("cannot {doing}"));
    }
    let kind = if is_disk_trouble(error) { GitErrorKind::Other } else { GitErrorKind::Corrupt };
    GitError::new(kind, format!("cannot {doing}: {}", Facts::of(error).chain()))
}

fn is_disk_full(error: &gix::Error) -> bool {
    Facts::of(error).is_disk_full()
}

/// Whether the disk is full or read-only, which building the mirror anew would not cure.
pub(super) fn is_disk_trouble(error: &gix::Error) -> bool {
    use ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let trouble = [StorageFull, ReadOnlyFilesystem, QuotaExceeded, FileTooLarge, PermissionDenied];
    Facts::of(error).io.iter().any(|kind| trouble.contains(kind))
}

/// What a chain of errors says, taken apart.
#[derive(Debug, Default)]
struct Facts {
    status: Option<u16>,
    unauthenticated: bool,
    timeout: bool,
    connect: bool,
    redirect: bool,
    io: Vec<ErrorKind>,
    texts: Vec<String>,
}

impl Facts {
    fn of(error: &gix::Error) -> Self {
        let mut facts = Self::default();
        for one in error.iter_errors() {
            facts.visit(one, 0);
        }
        facts
    }

    fn visit(&mut self, error: &(dyn Error + 'static), depth: usize) {
        if depth > 24 || self.texts.len() > 64 {
            return;
        }
        let text = error.to_string();
        if let Some(status) = text.strip_prefix("Received HTTP status ").and_then(|rest| rest.get(..3)?.parse().ok()) {
            self.status = Some(status);
        }
        if !self.texts.contains(&text) {
            self.texts.push(text);
        }
        if error.is::<AuthenticationRequired>() {
            self.unauthenticated = true;
        }
        if let Some(http) = error.downcast_ref::<reqwest::Error>() {
            self.timeout |= http.is_timeout();
            self.connect |= http.is_connect();
            self.redirect |= http.is_redirect();
            self.status = self.status.or(http.status().map(|status| status.as_u16()));
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            self.io.push(io.kind());
            // The source of an I/O error is that of what it wraps, not what it wraps.
            if let Some(inner) = io.get_ref() {
                self.visit(inner, depth + 1);
            }
        }
        if let Some(source) = error.source() {
            self.visit(source, depth + 1);
        }
    }

    fn is_disk_full(&self) -> bool {
        [ErrorKind::StorageFull, ErrorKind::QuotaExceeded].iter().any(|kind| self.io.contains(kind))
    }

    fn says(&self, part: &str) -> bool {
        self.texts.iter().any(|text| text.contains(part))
    }

    /// The chain in one line, without repetitions. URLs inside lose their credentials.
    fn chain(&self) -> String {
        let mut shown: Vec<String> = Vec::new();
        for text in &self.texts {
            let line = text.split_whitespace().map(clean_word).collect::<Vec<_>>().join(" ");
            if !line.is_empty() && !shown.iter().any(|before| before.contains(&line)) {
                shown.push(line);
            }
        }
        shown.join(": ").chars().filter(|c| !c.is_control()).take(600).collect()
    }

    fn verdict(&self, url: &str) -> (GitErrorKind, Option<String>) {
        use GitErrorKind::{AuthFailed, DeadlineExceeded, HostUnreachable, Other};
        if self.unauthenticated || self.status == Some(401) {
            return (AuthFailed, Some(format!("{url} did not accept the credentials (HTTP status 401); check them")));
        }
        if let Some(status) = self.status {
            return status_verdict(status, url);
        }
        if self.is_disk_full() {
            let full = GitError::disk_full(&format!("cannot keep what {url} sends"));
            return (full.kind, Some(full.message));
        }
        if self.says("proxy authorization required") {
            return (HostUnreachable, Some(format!("cannot connect to {url}: {PROXY_REFUSES}")));
        }
        if self.says("received fatal alert: CertificateRequired") {
            return (AuthFailed, Some(format!("{url} wants a client certificate; set clientCertificateFile")));
        }
        if let Some(message) = self.tls_problem(url) {
            return (HostUnreachable, Some(message));
        }
        if self.redirect || self.says("refusing to follow redirect") {
            return (
                HostUnreachable,
                Some(format!(
                    "{url} answers with a redirect that is not followed ({}); use the final URL",
                    self.chain()
                )),
            );
        }
        if self.connect || self.io.iter().any(|kind| is_connect_problem(*kind)) {
            let why = if self.says("dns error") || self.says("failed to lookup address") {
                "its host name cannot be resolved; check the URL and the name service"
            } else if self.timeout || self.io.contains(&ErrorKind::TimedOut) {
                "no connection within the time allowed; check the address, the firewall and the proxy"
            } else if self.io.contains(&ErrorKind::ConnectionRefused) {
                "the connection was refused; check the port and that the server runs"
            } else {
                return (HostUnreachable, Some(format!("cannot connect to {url}: {}", self.chain())));
            };
            return (HostUnreachable, Some(format!("cannot connect to {url}: {why}")));
        }
        // A socket that waits no longer says so with either word.
        if self.timeout || self.io.contains(&ErrorKind::TimedOut) || self.io.contains(&ErrorKind::WouldBlock) {
            return (DeadlineExceeded, Some(format!("{url} accepted the connection and then did not answer in time")));
        }
        if self.says("repository not exported") {
            return (HostUnreachable, Some(format!("{url}: the server has no such repository, or does not offer it")));
        }
        if self.says("header to indicate 'smart' protocol") {
            return (
                HostUnreachable,
                Some(format!("{url} answers, but not as a Git server; check that the URL names a repository")),
            );
        }
        if self.says("connection closed before message completed")
            || self.io.iter().any(|kind| is_broken_connection(*kind))
        {
            return (HostUnreachable, Some(format!("the connection to {url} broke: {}", self.chain())));
        }
        (Other, None)
    }

    fn tls_problem(&self, url: &str) -> Option<String> {
        let fix = if self.says("UnknownIssuer") {
            "the server's certificate is not signed by a trusted CA; set caFile"
        } else if self.says("NotValidForName") || self.says("not valid for name") {
            "the server's certificate is for another name; check the URL"
        } else if self.says("certificate expired") || self.says("Expired") {
            "the server's certificate has expired; renew it"
        } else if self.says("invalid peer certificate") {
            return Some(format!("cannot trust {url}: {}", self.chain()));
        } else if self.says("InvalidContentType") || self.says("corrupt message") {
            "the server does not speak TLS on this port; check the port"
        } else {
            return None;
        };
        Some(format!("cannot connect to {url}: {fix}"))
    }
}

const PROXY_REFUSES: &str =
    "the proxy does not accept the credentials; set the user in proxyUrl, and proxyPasswordFile";

fn status_verdict(status: u16, url: &str) -> (GitErrorKind, Option<String>) {
    let (kind, advice) = match status {
        403 => (GitErrorKind::AuthFailed, "the credentials may not read this repository"),
        404 | 410 => (GitErrorKind::HostUnreachable, "there is no such repository, or the credentials may not see it"),
        // What nginx says without a client certificate, or with one that it does not trust.
        400 => (GitErrorKind::HostUnreachable, "check the URL, and the client certificate when the host wants one"),
        407 => (GitErrorKind::HostUnreachable, PROXY_REFUSES),
        429 => (GitErrorKind::RateLimited, "the host asks to slow down"),
        300..=399 => {
            (GitErrorKind::HostUnreachable, "the host redirects elsewhere and that is not followed; use the final URL")
        }
        500..=599 => (GitErrorKind::HostUnreachable, "the host has a problem of its own"),
        _ => (GitErrorKind::HostUnreachable, "check the URL"),
    };
    (kind, Some(format!("{url} answered with HTTP status {status}: {advice}")))
}

fn is_connect_problem(kind: ErrorKind) -> bool {
    use ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    [ConnectionRefused, HostUnreachable, NetworkUnreachable, NetworkDown, AddrNotAvailable].contains(&kind)
}

fn is_broken_connection(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    [ConnectionReset, ConnectionAborted, BrokenPipe, UnexpectedEof].contains(&kind)
}

fn clean_word(word: &str) -> String {
    if !word.contains("://") {
        return word.to_owned();
    }
    let trimmed = word.trim_matches(|c: char| matches!(c, '"' | '\'' | '(' | ')' | ',' | ';'));
    word.replace(trimmed, &crate::remote::redact_url(trimmed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_http_status_has_a_kind() {
        for (status, kind) in [
            (403, GitErrorKind::AuthFailed),
            (404, GitErrorKind::HostUnreachable),
            (429, GitErrorKind::RateLimited),
            (503, GitErrorKind::HostUnreachable),
        ] {
            let (found, message) = status_verdict(status, "https://h/x");
            assert_eq!(found, kind);
            assert!(message.is_some_and(|m| m.contains("https://h/x") && m.contains(&status.to_string())));
        }
    }

    #[test]
    fn a_wait_that_a_host_asks_for_is_read_in_both_forms_and_bounded() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("999999", Some(3_600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_of_waits_panic(text in "\\PC{0,40}") {
            let wait = parse_retry_after(&text, SystemTime::UNIX_EPOCH);
            proptest::prop_assert!(wait.is_none_or(|wait| wait <= MAX_RETRY_AFTER));
        }
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_host() {
        let error = gix::Error::from_error(std::io::Error::from(ErrorKind::StorageFull));
        let found = network(&error, "https://h/x", Where::Receive);
        assert_eq!(found.kind, GitErrorKind::DiskFull);
        assert!(found.message.contains("https://h/x") && found.message.contains("disk is full"), "{found}");
        assert_eq!(local(&error, "open it").kind, GitErrorKind::DiskFull);
    }

    #[test]
    fn chains_are_one_line_and_without_credentials() {
        let error = gix::Error::from_error(std::io::Error::other("bad \"https://u:p@h/x?t=1\"\nnext"));
        let shown = network(&error, "https://h/x", Where::Receive).message;
        assert!(
            shown.contains("https://h/x") && !shown.contains("u:p") && !shown.contains("t=1") && !shown.contains('\n'),
            "{shown}"
        );
    }

    #[test]
    fn io_errors_inside_io_errors_are_seen() {
        let inner = std::io::Error::from(ErrorKind::ConnectionRefused);
        let error = gix::Error::from_error(std::io::Error::other(inner));
        assert_eq!(network(&error, "https://h/x", Where::Handshake).kind, GitErrorKind::HostUnreachable);
    }
}
