//! One request at a forge's API, and what its answer means.

use std::time::Duration;

use fleet_runtime::{Clock as _, ErrorChain, SystemClock};
use jiff::Timestamp;
use reqwest::header::{HeaderMap, LINK, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::place::RepositoryPath;
use crate::pulls::no_list;
use crate::token::Token;
use crate::{ForgeError, ForgeErrorKind, ForgeKind, ForgeSettings, ForgeSettingsError};

/// The longest that one request may take.
pub const DEADLINE: Duration = Duration::from_secs(4);
/// The most that is read of an answer.
const MAX_ANSWER: usize = 4 << 20;
/// So much of what a host says is told.
const MAX_WORDS: usize = 200;
/// How long a host may ask for peace.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));

/// What a request needs, to tell which right is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Status,
    Pulls,
    Comment,
    User,
}

impl Need {
    fn scope(self, kind: ForgeKind) -> &'static str {
        match (kind, self) {
            (ForgeKind::GitHub, Self::Status) => "`Commit statuses: read and write` (or repo:status)",
            (ForgeKind::GitHub, Self::Pulls) => "`Pull requests: read` (or repo)",
            (ForgeKind::GitHub, Self::Comment) => "`Pull requests: read and write` (or repo)",
            (ForgeKind::GitHub, Self::User) => "to belong to a user",
            (ForgeKind::GitLab, Self::Status) => "the scope `api` and at least the role Developer",
            (ForgeKind::GitLab, Self::Pulls | Self::Comment) => "the scope `api` and at least the role Reporter",
            (ForgeKind::GitLab, Self::User) => "the scope `api`",
            (ForgeKind::Gitea, Self::Status) => "the scope `write:repository`, and its user the right to write there",
            (ForgeKind::Gitea, Self::Pulls) => "the scope `read:repository`",
            (ForgeKind::Gitea, Self::Comment) => "the scope `write:issue`",
            (ForgeKind::Gitea, Self::User) => "the scope `read:user`",
        }
    }
}

/// A forge's API.
#[derive(Debug)]
pub struct Forge {
    settings: ForgeSettings,
    client: reqwest::Client,
}

/// An answer that says yes.
pub(crate) struct Answer {
    path: String,
    body: Vec<u8>,
    /// There is another page.
    pub(crate) has_next: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Value, ForgeError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("{}: the answer is not JSON ({error}); is apiUrl the forge's API?", self.path);
            ForgeError::new(ForgeErrorKind::Server, message)
        })
    }

    pub(crate) fn list(&self) -> Result<Vec<Value>, ForgeError> {
        match self.json()? {
            Value::Array(items) => Ok(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                Err(no_list(&self.path))
            }
        }
    }
}

impl Forge {
    /// A forge at rest; nothing is asked yet.
    ///
    /// # Errors
    /// When the certificates are none.
    pub fn new(settings: ForgeSettings) -> Result<Self, ForgeSettingsError> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("shorebase/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &settings.ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or(ForgeSettingsError::NoCertificates)?;
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| ForgeSettingsError::Client(ErrorChain(&error).to_string()))?;
        Ok(Self { settings, client })
    }

    /// Where it is and how to be let in.
    pub fn settings(&self) -> &ForgeSettings {
        &self.settings
    }

    /// Which API it speaks.
    pub fn kind(&self) -> ForgeKind {
        self.settings.kind
    }

    /// The repository that a Git URL means at this forge; `None` when the URL is not below its prefix or names none.
    pub fn repository(&self, url: &str) -> Option<RepositoryPath> {
        if !url.starts_with(&self.settings.url_prefix) {
            return None;
        }
        let api = self.settings.api_url.split_once("://").map_or("", |(_, rest)| rest);
        let api_path = api.split_once('/').map_or("", |(_, path)| path);
        let web_path = match self.kind() {
            ForgeKind::GitHub => api_path.strip_suffix("api/v3"),
            ForgeKind::GitLab => api_path.strip_suffix("api/v4"),
            ForgeKind::Gitea => api_path.strip_suffix("api/v1"),
        };
        RepositoryPath::of_url(self.kind(), url, web_path.unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str, need: Need) -> Result<Answer, ForgeError> {
        self.call(Method::GET, path, None, need).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value, need: Need) -> Result<Answer, ForgeError> {
        self.call(Method::POST, path, Some(body), need).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value, need: Need) -> Result<Answer, ForgeError> {
        self.call(Method::PATCH, path, Some(body), need).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value, need: Need) -> Result<Answer, ForgeError> {
        self.call(Method::PUT, path, Some(body), need).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>, need: Need) -> Result<Answer, ForgeError> {
        let token = Token::read(&self.settings.token_file).await?;
        let url = format!("{}{path}", self.settings.api_url);
        let (header, value) = token.header(self.kind());
        let accepted = match self.kind() {
            ForgeKind::GitHub => "application/vnd.github+json",
            ForgeKind::GitLab | ForgeKind::Gitea => "application/json",
        };
        let mut request = self.client.request(method, &url).header(header, value).header("accept", accepted);
        if self.kind() == ForgeKind::GitHub {
            request = request.header("x-github-api-version", "2022-11-28");
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |error: reqwest::Error| {
            let why = ErrorChain(&error.without_url()).to_string();
            ForgeError::new(ForgeErrorKind::Unreachable, format!("no answer from {}: {why}", self.settings.api_url))
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                let message = format!("{path}: the answer is larger than {MAX_ANSWER} bytes");
                return Err(ForgeError::new(ForgeErrorKind::Server, message));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(Answer { path: path.to_owned(), body: bytes, has_next: has_next(&headers) });
        }
        let words = token.out_of(&words(&bytes));
        Err(self.refused(path, status, &headers, &words, need))
    }

    /// What an answer that says no means.
    fn refused(&self, path: &str, status: StatusCode, headers: &HeaderMap, words: &str, need: Need) -> ForgeError {
        let (api, code) = (&self.settings.api_url, status.as_u16());
        let told = if words.is_empty() { String::new() } else { format!(" ({words})") };
        let scope = need.scope(self.kind());
        let file = self.settings.token_file.display();
        let is_limited = match code {
            429 => true,
            403 => is_exhausted(headers) || headers.contains_key(RETRY_AFTER) || words.contains("rate limit"),
            503 => headers.contains_key(RETRY_AFTER),
            _ => false,
        };
        if is_limited {
            let retry_after = retry_after(headers, SystemClock.now());
            let message = format!("{api} asks for fewer requests; again in {} s", retry_after.as_secs());
            return ForgeError::new(ForgeErrorKind::RateLimited { retry_after }, message);
        }
        let (kind, message) = match code {
            401 => (
                ForgeErrorKind::Denied,
                format!("{api} does not accept the token{told}; it is wrong or ran out: put a new one into {file}"),
            ),
            403 => (ForgeErrorKind::Denied, format!("{api}{path} is denied{told}; the token in {file} needs {scope}")),
            404 | 410 => (
                ForgeErrorKind::NotFound,
                format!("{api}{path} is not there, or the token in {file} may not see it{told}; it needs {scope}"),
            ),
            300..400 => (
                ForgeErrorKind::NotFound,
                format!("{api}{path} lies elsewhere by now ({code}); correct the source's URL or the forge's apiUrl"),
            ),
            400..500 => (ForgeErrorKind::Invalid, format!("{api}{path} refuses the request with {code}{told}")),
            _ => (ForgeErrorKind::Server, format!("{api}{path} answers {code}{told}")),
        };
        ForgeError::new(kind, message)
    }
}

/// What the host says, on one line.
fn words(bytes: &[u8]) -> String {
    let parsed = serde_json::from_slice::<Value>(bytes).ok();
    let mut told = Vec::new();
    for key in ["message", "error", "error_description", "errors"] {
        match parsed.as_ref().and_then(|body| body.get(key)) {
            None | Some(Value::Null | Value::Bool(_) | Value::Number(_)) => {}
            Some(Value::String(text)) => told.push(text.clone()),
            Some(other @ (Value::Array(_) | Value::Object(_))) => told.push(other.to_string()),
        }
    }
    let plain = told.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    plain.chars().take(MAX_WORDS).collect()
}

fn has_next(headers: &HeaderMap) -> bool {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|links| links.split(',')).any(|link| link.contains("rel=\"next\""))
}

fn is_exhausted(headers: &HeaderMap) -> bool {
    ["x-ratelimit-remaining", "ratelimit-remaining"].iter().any(|name| text(headers, name) == Some("0"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// When to ask again, by whichever header tells. Never sooner than a second, never later than an hour.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Duration {
    let until = |at: i64| Duration::from_secs(u64::try_from(at.saturating_sub(now.as_second())).unwrap_or(0));
    let given = text(headers, RETRY_AFTER.as_str()).and_then(|value| match value.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => jiff::fmt::rfc2822::parse(value).ok().map(|at| until(at.timestamp().as_second())),
    });
    let reset = || {
        let names = ["x-ratelimit-reset", "ratelimit-reset"];
        names.iter().find_map(|name| text(headers, name)?.parse::<i64>().ok()).map(until)
    };
    given.or_else(reset).unwrap_or(Duration::from_secs(60)).clamp(RETRY.0, RETRY.1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_host_says_in_several_ways_when_to_ask_again() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let reset = (now.as_second() + 90).to_string();
        for (given, seconds) in [
            (headers(&[("retry-after", "30")]), 30),
            (headers(&[("retry-after", "Mon, 23 Nov 2026 10:00:45 GMT")]), 45),
            (headers(&[("x-ratelimit-reset", &reset)]), 90),
            (headers(&[("ratelimit-reset", &reset), ("retry-after", "7")]), 7),
            (headers(&[("retry-after", "0")]), 1),
            (headers(&[("retry-after", "99999999999")]), 3_600),
            (headers(&[("retry-after", "soon")]), 60),
            (headers(&[]), 60),
        ] {
            assert_eq!(retry_after(&given, now).as_secs(), seconds, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), value in "[ -~]{0,40}") {
            prop_assert!(words(&bytes).chars().count() <= MAX_WORDS);
            let given = headers(&[("retry-after", &value), ("x-ratelimit-reset", &value), ("link", &value)]);
            let wait = retry_after(&given, SystemClock.now());
            prop_assert!((RETRY.0..=RETRY.1).contains(&wait));
            has_next(&given);
        }
    }
}
