//! Where a document is and how to be let in.

use std::fmt;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::error::FetchError;
use crate::secret::SecretBytes;

/// A document on an HTTP server. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpPlace {
    /// `https://…`, or `http://…` without credentials. No credentials in here. A query may be a secret and is never shown.
    pub url: String,
    /// How to connect and to be let in.
    pub options: HttpOptions,
}

/// How to connect to an HTTP server and to be let in. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HttpOptions {
    /// How to authenticate.
    pub auth: HttpAuth,
    /// Certificates (PEM, one or more) that replace the system's trusted roots.
    pub ca_pem: Option<String>,
    /// The certificate to show to a server that asks for one.
    pub client_identity: Option<ClientIdentity>,
    /// Accept any certificate. Insecure; for servers that cannot be fixed.
    pub skip_verify: bool,
    /// The URL of an HTTP proxy, `http://[user:password@]host:port`.
    pub proxy: Option<String>,
}

/// How to authenticate at an HTTP server. A line break at the end of a password or token does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HttpAuth {
    /// Not at all.
    #[default]
    Anonymous,
    /// HTTP basic authentication.
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: SecretBytes,
    },
    /// An `Authorization: Bearer` header.
    Bearer {
        /// The token.
        token: SecretBytes,
    },
}

/// A client certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate and those between it and its CA, PEM.
    pub certificate_pem: String,
    /// The private key, PEM.
    pub key_pem: SecretBytes,
}

/// What a server said about a version of a document, to ask whether it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Validators {
    /// The `ETag`, as written, with its quotes and its `W/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The `Last-Modified`, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl fmt::Debug for HttpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPlace").field("url", &shown(&self.url)).field("options", &self.options).finish()
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("auth", &self.auth)
            .field("ca_pem", &self.ca_pem.is_some())
            .field("client_identity", &self.client_identity.is_some())
            .field("skip_verify", &self.skip_verify)
            .field("proxy", &self.proxy.as_deref().map(shown))
            .finish()
    }
}

impl HttpPlace {
    /// A document that anybody may read.
    pub fn anonymous(url: impl Into<String>) -> Self {
        Self { url: url.into(), options: HttpOptions::default() }
    }

    /// The URL for messages: without user, password, query and fragment, at most 200 characters.
    pub fn display_url(&self) -> String {
        shown(&self.url)
    }

    /// Checks the URL and that it fits the options.
    ///
    /// # Errors
    /// `Invalid`, with a sentence that shows no credentials.
    pub fn check(&self) -> Result<(), FetchError> {
        self.parsed().map(drop)
    }

    pub(crate) fn parsed(&self) -> Result<Url, FetchError> {
        let url = parse(&self.url).map_err(|why| self.unfit(why))?;
        let has_credentials = self.options.auth != HttpAuth::Anonymous || self.options.client_identity.is_some();
        if url.scheme() == "http" && has_credentials {
            return Err(self.unfit("credentials would travel in the clear; use https:// or remove the credentials"));
        }
        Ok(url)
    }

    pub(crate) fn unfit(&self, why: &str) -> FetchError {
        FetchError::invalid(format!("cannot fetch {}: {why}", self.display_url()))
    }
}

/// An `http` or `https` URL without credentials and fragment.
pub(crate) fn parse(text: &str) -> Result<Url, &'static str> {
    if text.len() > 4096 {
        return Err("the URL is longer than 4096 bytes");
    }
    // The parser for URLs drops some of these in silence.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("the URL holds spaces or control characters");
    }
    let mut url = Url::parse(text).map_err(|_| "it is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("it must be https://host/path or http://host/path");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong in the URL but in a secret");
    }
    url.set_fragment(None);
    Ok(url)
}

/// `url` without user, password, query and fragment, at most 200 characters.
pub(crate) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let shown = match url.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split('/').next().unwrap_or_default();
            let port = authority.rsplit(']').next().unwrap_or_default().split_once(':').map(|(_, port)| port);
            // Half a password, cut at a slash, looks like a port that is no number.
            let is_plain = !authority.contains('@') && port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()));
            let rest = if is_plain { rest } else { rest.rsplit('@').next().unwrap_or_default() };
            format!("{scheme}://{rest}")
        }
        None => url.rsplit('@').next().unwrap_or_default().to_owned(),
    };
    shown.chars().filter(|c| !c.is_control()).take(200).collect()
}

impl Validators {
    /// Whether there is nothing to ask with.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// What headers of an answer say; what is no validator is left out.
    pub(crate) fn of(etag: Option<&HeaderValue>, last_modified: Option<&HeaderValue>) -> Self {
        let text = |value: Option<&HeaderValue>| value.and_then(|v| v.to_str().ok()).map(str::to_owned);
        Self {
            etag: text(etag).filter(|tag| is_etag(tag)),
            last_modified: text(last_modified).filter(|date| is_date(date)),
        }
    }

    /// Headers `If-None-Match` and `If-Modified-Since`. What was stored and is no validator is not sent: the answer is
    /// then the whole document.
    pub(crate) fn headers(&self) -> (Option<HeaderValue>, Option<HeaderValue>) {
        let etag = self.etag.as_deref().filter(|tag| is_etag(tag));
        let last_modified = self.last_modified.as_deref().filter(|date| is_date(date));
        let header = |text: Option<&str>| text.and_then(|text| HeaderValue::from_str(text).ok());
        (header(etag), header(last_modified))
    }
}

/// `"…"` or `W/"…"` (RFC 9110, section 8.8.3), at most 512 bytes.
fn is_etag(text: &str) -> bool {
    let tag = text.strip_prefix("W/").unwrap_or(text);
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    text.len() <= 512 && inner.is_some_and(|inner| inner.bytes().all(|b| b == b'!' || (0x23..=0x7e).contains(&b)))
}

/// Characters that a date in a header can have; servers compare it with what they wrote.
fn is_date(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b',' | b':' | b'-' | b'+'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_http_and_https_urls_pass() {
        for good in ["https://h/a?x=1#y", "http://127.0.0.1:8080/", "https://[::1]/a", "HTTPS://H"] {
            assert!(HttpPlace::anonymous(good).check().is_ok(), "{good}");
        }
        for bad in [
            "",
            "h/a",
            "ftp://h/a",
            "file:///etc/passwd",
            "https://",
            "https://u:hunter2@h/a",
            "https://hunter2@h/a",
            "https://h/a b",
            "https://h/a\r\nX: y",
            "ht\ntps://h/a",
        ] {
            let error = HttpPlace::anonymous(bad).check().unwrap_err();
            assert!(!error.message.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn credentials_never_go_over_plain_http() {
        let identity = ClientIdentity { certificate_pem: String::new(), key_pem: SecretBytes::from("k") };
        for options in [
            HttpOptions { auth: HttpAuth::Bearer { token: SecretBytes::from("t") }, ..HttpOptions::default() },
            HttpOptions { client_identity: Some(identity), ..HttpOptions::default() },
        ] {
            let place = HttpPlace { url: "http://h/a".to_owned(), options };
            assert!(place.check().unwrap_err().message.contains("in the clear"));
        }
    }

    #[test]
    fn places_do_not_print_their_secrets() {
        let secret = SecretBytes::from("hunter2");
        let options = HttpOptions {
            auth: HttpAuth::Basic { username: "u".to_owned(), password: secret.clone() },
            client_identity: Some(ClientIdentity { certificate_pem: String::new(), key_pem: secret }),
            proxy: Some("http://u:hunter2@proxy:3128".to_owned()),
            ..HttpOptions::default()
        };
        let place = HttpPlace { url: "https://u:hunter2@h/a?token=hunter2".to_owned(), options };
        assert!(!format!("{place:?} {:?}", place.options).contains("hunter2"));
    }

    #[test]
    fn messages_show_urls_without_credentials() {
        assert_eq!(shown("https://u:p@h/a?x#y"), "https://h/a");
        assert_eq!(shown("https://h:8443/a@b"), "https://h:8443/a@b");
        assert_eq!(shown("https://[::1]:8443/a"), "https://[::1]:8443/a");
        assert_eq!(shown("https://u:p/w@h/a"), "https://h/a");
        assert_eq!(shown("u:p@h:3128"), "h:3128");
    }

    #[test]
    fn validators_are_kept_as_written_when_they_are_some() {
        let header = |text: &'static str| HeaderValue::from_static(text);
        let of = |tag, date| Validators::of(Some(&header(tag)), Some(&header(date)));
        let good = of("W/\"a-1\"", "Mon, 23 Nov 2026 00:00:00 GMT");
        assert_eq!(good.etag.as_deref(), Some("W/\"a-1\""));
        assert_eq!(good.last_modified.as_deref(), Some("Mon, 23 Nov 2026 00:00:00 GMT"));
        assert!(of("a", "<script>").is_empty() && of("\"", "").is_empty() && of("\"a\"b\"", "a@b").is_empty());
        let json = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<Validators>(&json).unwrap(), good);
        assert_eq!(serde_json::from_str::<Validators>("{}").unwrap(), Validators::default());
    }

    proptest! {
        #[test]
        fn no_url_makes_us_panic_and_no_password_is_shown(url in "\\PC{0,60}", host in "[a-z/?#]{0,12}") {
            let _ = HttpPlace::anonymous(&url).check();
            let with_password = HttpPlace::anonymous(format!("https://user:SECRET@{host}"));
            let message = with_password.check().unwrap_err().message;
            prop_assert!(!message.contains("SECRET") && !with_password.display_url().contains("SECRET"));
        }

        #[test]
        fn no_stored_validator_becomes_another_header(etag in "\\PC{0,20}", date in "[\\r\\n -~]{0,20}") {
            let (etag, date) = Validators { etag: Some(etag), last_modified: Some(date) }.headers();
            for value in [etag, date].into_iter().flatten() {
                prop_assert!(value.as_bytes().iter().all(|b| (0x20..=0x7e).contains(b)));
            }
        }
    }
}
