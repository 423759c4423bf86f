//! The agent's side of the HTTP interface: requests with deadlines, answers with bounds, errors with meaning.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_model::{
    CertificateSigningRequest, Device, DeviceName, Digest, EnrollmentRequest, RenderedVersion, StatusBody, annotations,
};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The protocol version of every request.
const API_VERSION: &str = "v1beta1";
/// The largest rendered document.
const MAX_DOCUMENT_BYTES: usize = 64 << 20;
/// The largest other answer.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Longest wait that a server can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// How long the answer to a request other than a poll may let itself be waited for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer that has begun may bring nothing more.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer may take from its begin to its end, however slow the line is: small ones and documents.
const BODY_TIMEOUTS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// What a server says of a client's certificate that it does not take.
const CERTIFICATE_ALERTS: [&str; 8] = [
    "BadCertificate",
    "UnsupportedCertificate",
    "CertificateRevoked",
    "CertificateExpired",
    "CertificateUnknown",
    "UnknownCA",
    "AccessDenied",
    "CertificateRequired",
];

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client cannot be made from its TLS configuration.
    #[error("the HTTP client cannot be set up")]
    Setup(#[source] reqwest::Error),
    /// The server cannot be reached, does not answer in time or is not who it should be.
    #[error("{what} failed")]
    Transport {
        /// Method and path.
        what: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer did not begin in time.
    #[error("{what} was not answered within {} s", waited.as_secs_f64())]
    Silent {
        /// Method and path.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The answer began and did not go on.
    #[error("the answer to {what} stopped for {} s before its end", waited.as_secs_f64())]
    Stalled {
        /// Method and path.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The service does not know the device any more.
    #[error("the service no longer knows this device: {0}")]
    DeviceGone(String),
    /// The service refuses.
    #[error("{what} was answered {code}: {message}")]
    Refused {
        /// Method and path.
        what: String,
        /// The HTTP status.
        code: u16,
        /// What the answer says.
        message: String,
        /// How long the service asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is not what it should be.
    #[error("{what} was answered with something else than expected: {problem}")]
    Answer {
        /// Method and path.
        what: String,
        /// What is wrong.
        problem: String,
    },
}

impl ClientError {
    /// How long the service asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Setup(_)
            | Self::Transport { .. }
            | Self::Silent { .. }
            | Self::Stalled { .. }
            | Self::DeviceGone(_)
            | Self::Answer { .. } => None,
        }
    }

    /// Whether the server gave one of these reasons for ending the connection.
    fn is_alert(&self, alerts: &[&str]) -> bool {
        let Self::Transport { source, .. } = self else { return false };
        let mut cause: Option<&dyn std::error::Error> = Some(source);
        while let Some(error) = cause {
            let text = error.to_string();
            if let Some((_, alert)) = text.rsplit_once("received fatal alert: ") {
                return alerts.contains(&alert);
            }
            cause = error.source();
        }
        false
    }

    /// Whether the server says that the device's certificate expired, whatever the device's own clock says.
    pub fn says_expired(&self) -> bool {
        self.is_alert(&["CertificateExpired"])
    }

    /// Whether the certificate may be the reason. It is not when there was no connection, unless the server said so:
    /// nobody was there, or it was not who it should be. A connection that breaks off later may be a server's way to
    /// refuse, as its reason can be lost on the way.
    pub fn may_be_identity(&self) -> bool {
        match self {
            Self::Transport { source, .. } if source.is_connect() => self.is_alert(&CERTIFICATE_ALERTS),
            Self::Transport { source, .. } => !source.is_timeout(),
            Self::Refused { code, .. } => *code == 401,
            Self::Setup(_) | Self::Silent { .. } | Self::Stalled { .. } | Self::DeviceGone(_) | Self::Answer { .. } => {
                false
            }
        }
    }
}

/// What the device has already, as a poll tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownSpec {
    /// The version.
    pub(crate) version: RenderedVersion,
    /// The service's own digest of it, where it is known.
    pub(crate) hash: Option<Digest>,
}

/// What a poll brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Polled {
    /// A document, as it came.
    Document(Vec<u8>),
    /// Nothing new.
    Nothing,
}

/// What became of an enrolment request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// It was taken.
    Created,
    /// There is one already.
    Exists,
}

/// One server, one identity, kept-alive connections.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    request_prefix: String,
    requests: AtomicU64,
    stall_timeout: Duration,
}

#[derive(Debug)]
struct Answer {
    code: StatusCode,
    body: Vec<u8>,
    retry_after: Option<Duration>,
}

impl Client {
    /// A client of `server` (`https://host:port`) that identifies itself as `tls` says.
    ///
    /// # Errors
    /// When the TLS configuration is of no use.
    pub(crate) fn new(server: &str, mut tls: rustls::ClientConfig) -> Result<Arc<Self>, ClientError> {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("fleet-agent/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(120))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(45))
            .http2_keep_alive_timeout(Duration::from_secs(20))
            .build()
            .map_err(ClientError::Setup)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host: String =
            host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(64).collect();
        let random: String = uuid::Uuid::new_v4().simple().to_string().chars().take(10).collect();
        let base = format!("{server}/api/v1");
        let (request_prefix, requests) = (format!("{host}/{random}"), AtomicU64::new(0));
        Ok(Arc::new(Self { http, base, request_prefix, requests, stall_timeout: STALL_TIMEOUT }))
    }

    /// `timeout` is for the head of the answer; its body has deadlines of its own.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        known_hash: Option<Digest>,
        timeout: Duration,
        limit: usize,
    ) -> Result<Answer, ClientError> {
        let what = format!("{method} {path}");
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header("X-Request-Id", format!("{}-{number:06}", self.request_prefix))
            .header("Flightctl-API-Version", API_VERSION)
            .header("Accept", "application/json")
            .timeout(timeout.saturating_add(if limit > MAX_ANSWER_BYTES { BODY_TIMEOUTS.1 } else { BODY_TIMEOUTS.0 }));
        if let Some(hash) = known_hash {
            request = request.header(annotations::SPEC_HASH_HEADER, hash.hex());
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let transport =
            |source: reqwest::Error| ClientError::Transport { what: what.clone(), source: source.without_url() };
        let mut response = match tokio::time::timeout(timeout, request.send()).await {
            Ok(sent) => sent.map_err(transport)?,
            Err(_) => return Err(ClientError::Silent { what, waited: timeout }),
        };
        let code = response.status();
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        // A date would depend on this device's clock; only seconds are taken.
        let retry_after = header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let retry_after = retry_after.map(|asked| asked.min(MAX_RETRY_AFTER));
        let mut body = Vec::new();
        loop {
            let chunk = match tokio::time::timeout(self.stall_timeout, response.chunk()).await {
                Ok(chunk) => chunk.map_err(transport)?,
                Err(_) => return Err(ClientError::Stalled { what, waited: self.stall_timeout }),
            };
            let Some(chunk) = chunk else { break };
            if body.len().saturating_add(chunk.len()) > limit {
                return Err(ClientError::Answer { what, problem: format!("more than {limit} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { code, body, retry_after })
    }

    fn refused(what: &str, answer: &Answer) -> ClientError {
        let text = String::from_utf8_lossy(&answer.body);
        let message = match serde_json::from_slice::<StatusBody>(&answer.body) {
            Ok(body) => body.message,
            Err(_) => text.to_string(),
        };
        let message: String = message.chars().filter(|c| !c.is_control()).take(300).collect();
        // These two phrases together, and nothing else, mean that the device was deleted.
        if answer.code == StatusCode::NOT_FOUND && text.contains("Device of name") && text.contains("not found") {
            return ClientError::DeviceGone(message);
        }
        let (what, code) = (what.to_owned(), answer.code.as_u16());
        ClientError::Refused { what, code, message, retry_after: answer.retry_after }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, ClientError> {
        let what = format!("{method} {path}");
        let answer = self.send(method, path, body, None, REQUEST_TIMEOUT, MAX_ANSWER_BYTES).await?;
        if !answer.code.is_success() {
            return Err(Self::refused(&what, &answer));
        }
        serde_json::from_slice(&answer.body).map_err(|e| ClientError::Answer { what, problem: e.to_string() })
    }

    fn encode(what: &str, body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(body).map_err(|e| ClientError::Answer { what: what.to_owned(), problem: e.to_string() })
    }

    /// Asks to be enrolled.
    ///
    /// # Errors
    /// All but an existing request (409), which is [`Submitted::Exists`].
    pub(crate) async fn submit_enrollment(&self, request: &EnrollmentRequest) -> Result<Submitted, ClientError> {
        let path = "/enrollmentrequests";
        let what = format!("POST {path}");
        let body = Self::encode(&what, request)?;
        let answer = self.send(Method::POST, path, Some(body), None, REQUEST_TIMEOUT, MAX_ANSWER_BYTES).await?;
        match answer.code {
            StatusCode::CONFLICT => Ok(Submitted::Exists),
            code if code.is_success() => Ok(Submitted::Created),
            _ => Err(Self::refused(&what, &answer)),
        }
    }

    /// The device's enrolment request.
    ///
    /// # Errors
    /// Also when there is none (404).
    pub(crate) async fn enrollment(&self, name: &DeviceName) -> Result<EnrollmentRequest, ClientError> {
        self.exchange(Method::GET, &format!("/enrollmentrequests/{name}"), None).await
    }

    /// Waits for a document newer than `known`; without it, asks for the newest at once. The answer may let itself be
    /// waited for as long as `timeout`.
    ///
    /// # Errors
    /// All but "nothing new", as which 204 and 409 count, and with `known` an answer that did not begin in time.
    pub(crate) async fn poll(
        &self,
        name: &DeviceName,
        known: Option<KnownSpec>,
        timeout: Duration,
    ) -> Result<Polled, ClientError> {
        let query = known.map_or(String::new(), |known| format!("?knownRenderedVersion={}", known.version));
        let hash = known.and_then(|known| known.hash);
        let path = format!("/devices/{name}/rendered{query}");
        let answer = match self.send(Method::GET, &path, None, hash, timeout, MAX_DOCUMENT_BYTES).await {
            Err(ClientError::Silent { .. }) if known.is_some() => return Ok(Polled::Nothing),
            other => other?,
        };
        match answer.code {
            StatusCode::OK => Ok(Polled::Document(answer.body)),
            StatusCode::NO_CONTENT | StatusCode::CONFLICT => Ok(Polled::Nothing),
            _ => Err(Self::refused(&format!("GET {path}"), &answer)),
        }
    }

    /// Reports. When this returns, the service has the status for good.
    ///
    /// # Errors
    /// Any answer but 200.
    pub(crate) async fn put_status(&self, name: &DeviceName, device: &Device) -> Result<(), ClientError> {
        let path = format!("/devices/{name}/status");
        let what = format!("PUT {path}");
        let body = Self::encode(&what, device)?;
        let answer = self.send(Method::PUT, &path, Some(body), None, REQUEST_TIMEOUT, MAX_ANSWER_BYTES).await?;
        if answer.code == StatusCode::OK { Ok(()) } else { Err(Self::refused(&what, &answer)) }
    }

    /// Asks for a certificate.
    ///
    /// # Errors
    /// Any answer but success.
    pub(crate) async fn submit_csr(
        &self,
        request: &CertificateSigningRequest,
    ) -> Result<CertificateSigningRequest, ClientError> {
        let path = "/certificatesigningrequests";
        let body = Self::encode(path, request)?;
        self.exchange(Method::POST, path, Some(body)).await
    }

    /// What became of a request for a certificate.
    ///
    /// # Errors
    /// Any answer but success.
    pub(crate) async fn csr(&self, name: &str) -> Result<CertificateSigningRequest, ClientError> {
        self.exchange(Method::GET, &format!("/certificatesigningrequests/{name}"), None).await
    }
}
