//! Reads one document from an HTTP server: redirects, deadlines, limits, validators.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    LOCATION, RETRY_AFTER,
};
use reqwest::{Response, StatusCode, Url};
use zeroize::Zeroizing;

use crate::error::FetchError;
use crate::place::{HttpAuth, HttpPlace, Validators, parse, shown};

mod body;
mod client;
mod words;

use client::{Clients, Reach};
pub(crate) use words::kind_of_status;

/// Bytes of an answer that is no document, for what it says about the failure.
const MAX_WORDS: usize = 16 << 10;

/// Bounds of one fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Until a connection stands, TLS included. 5 s by default.
    pub connect: Duration,
    /// Until the next bytes come, and until the answer begins. 15 s by default.
    pub no_progress: Duration,
    /// All together, redirects included. 60 s by default.
    pub total: Duration,
    /// Bytes of the document, and of its compressed form. 8 MiB by default.
    pub max_bytes: usize,
    /// Redirects to follow. 5 by default.
    pub redirects: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            no_progress: Duration::from_secs(15),
            total: Duration::from_secs(60),
            max_bytes: 8 << 20,
            redirects: 5,
        }
    }
}

/// What a fetch gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The document is what the validators say (304).
    Unchanged,
    /// The document. It may be the same as before: servers without validators send it every time.
    Content {
        /// The whole document, decompressed.
        bytes: Bytes,
        /// To ask with the next time.
        validators: Validators,
    },
}

/// Reads documents from HTTP servers. Keeps idle connections; cheap to share by reference.
#[derive(Debug, Default)]
pub struct HttpFetcher {
    limits: FetchLimits,
    clients: Clients,
}

/// An answer that is no redirect, with its body.
pub(crate) struct Answer {
    reach: Reach,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The document when the status is 200; otherwise what could be read of up to 16 KiB.
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl HttpFetcher {
    /// A fetcher with the default limits. Proxies are used where a place names one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A fetcher with limits of one's own.
    pub fn with_limits(limits: FetchLimits) -> Self {
        Self { limits, clients: Clients::default() }
    }

    /// Lets `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the process count for places that name no proxy, as they do for
    /// Git.
    #[must_use]
    pub fn with_environment_proxies(mut self) -> Self {
        self.clients.use_environment_proxies = true;
        self
    }

    /// Fetches the document at `place`, unless it is the version that `known` stands for.
    ///
    /// Redirects are followed, never from `https` to `http`. Another origin (scheme, host, port) gets neither credentials
    /// nor the client certificate, its certificate is verified always, and nothing behind it gets them either.
    ///
    /// # Errors
    /// One error for everything but 200 and 304; see [`FetchErrorKind`](crate::FetchErrorKind).
    pub async fn get(&self, place: &HttpPlace, known: &Validators) -> Result<Fetched, FetchError> {
        let mut answer = self.ask(place, known).await?;
        let status = answer.status;
        if status == StatusCode::OK {
            let validators = Validators::of(answer.headers.get(ETAG), answer.headers.get(LAST_MODIFIED));
            return Ok(Fetched::Content { bytes: Bytes::from(std::mem::take(&mut *answer.body)), validators });
        }
        if status == StatusCode::NOT_MODIFIED && !known.is_empty() {
            return Ok(Fetched::Unchanged);
        }
        Err(words::of_status(place, &answer))
    }

    /// The answer after redirects, within the deadline.
    pub(crate) async fn ask(&self, place: &HttpPlace, known: &Validators) -> Result<Answer, FetchError> {
        match tokio::time::timeout(self.limits.total, Box::pin(self.follow(place, known))).await {
            Ok(answer) => answer,
            Err(_) => Err(words::late(place, "it was not done", self.limits.total)),
        }
    }

    async fn follow(&self, place: &HttpPlace, known: &Validators) -> Result<Answer, FetchError> {
        let first = place.parsed()?;
        let authorization = authorization(place)?;
        let mut url = first.clone();
        let mut reach = Reach::Origin;
        for _ in 0..=self.limits.redirects {
            let response = self.send(place, &url, reach, authorization.as_ref(), known).await?;
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return self.read(place, response, reach).await;
            }
            url = redirected(place, &url, &response)?;
            if url.origin() != first.origin() {
                reach = Reach::Elsewhere;
            }
        }
        Err(place.unfit(&format!(
            "it redirects more than {} times, in the end to {}",
            self.limits.redirects,
            shown(url.as_str())
        )))
    }

    async fn send(
        &self,
        place: &HttpPlace,
        url: &Url,
        reach: Reach,
        authorization: Option<&HeaderValue>,
        known: &Validators,
    ) -> Result<Response, FetchError> {
        let client = self.clients.get(place, reach, self.limits)?;
        // What is hashed is the document itself, so a compressed form gains little; some servers send one all the same.
        let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let (Reach::Origin, Some(value)) = (reach, authorization) {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let (etag, last_modified) = known.headers();
        if let Some(value) = etag {
            request = request.header(IF_NONE_MATCH, value);
        }
        if let Some(value) = last_modified {
            request = request.header(IF_MODIFIED_SINCE, value);
        }
        let patience = self.limits.connect + self.limits.no_progress;
        match tokio::time::timeout(patience, request.send()).await {
            Ok(sent) => sent.map_err(|error| words::of_transport(place, error)),
            Err(_) => Err(words::late(place, "the server did not answer", patience)),
        }
    }

    async fn read(&self, place: &HttpPlace, response: Response, reach: Reach) -> Result<Answer, FetchError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = if status == StatusCode::OK {
            body::read(place, response, self.limits).await?
        } else {
            // Only words about a failure: without them it is a failure all the same.
            let limits = FetchLimits { max_bytes: MAX_WORDS, ..self.limits };
            body::read(place, response, limits).await.unwrap_or_default()
        };
        Ok(Answer { reach, status, headers, body })
    }
}

fn authorization(place: &HttpPlace) -> Result<Option<HeaderValue>, FetchError> {
    use base64::Engine as _;
    let bad = |what: &str| place.unfit(&format!("{what} is empty or holds characters that HTTP cannot carry"));
    let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|b| (0x21..=0x7e).contains(&b));
    let text = match &place.options.auth {
        HttpAuth::Anonymous => return Ok(None),
        HttpAuth::Basic { username, password } => {
            let password = password.line().ok_or_else(|| bad("the password"))?;
            if username.contains(':') || username.is_empty() || username.chars().any(char::is_control) {
                return Err(bad("the user name"));
            }
            if password.chars().any(char::is_control) {
                return Err(bad("the password"));
            }
            let pair = Zeroizing::new(format!("{username}:{password}"));
            let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
            Zeroizing::new(format!("Basic {}", encoded.as_str()))
        }
        HttpAuth::Bearer { token } => {
            let token = token.line().filter(|token| is_visible(token)).ok_or_else(|| bad("the token"))?;
            Zeroizing::new(format!("Bearer {token}"))
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| bad("the credential"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn redirected(place: &HttpPlace, from: &Url, response: &Response) -> Result<Url, FetchError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let Some(location) = location else {
        return Err(
            place.unfit(&format!("the server answers {} and does not say where to", response.status().as_u16()))
        );
    };
    let to = from.join(location).map_err(|_| place.unfit("the server redirects to something that is no URL"))?;
    let to = parse(to.as_str()).map_err(|why| place.unfit(&format!("the server redirects to a bad place: {why}")))?;
    if from.scheme() == "https" && to.scheme() == "http" {
        let to = shown(to.as_str());
        return Err(
            place.unfit(&format!("the server redirects from https to {to}, which anybody between could change"))
        );
    }
    Ok(to)
}

pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(|seconds: u32| Duration::from_secs(seconds.into()))
}
