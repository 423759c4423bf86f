//! What every answer of an API has in common: a request id, the protocol version, security headers, a `Status` body
//! when it fails, and one log line.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use fleet_runtime::ErrorChain;
use futures_util::FutureExt as _;
use tracing::{debug, error};

use crate::error::Cause;
use crate::{ApiError, PeerConnection};

static API_VERSION: HeaderName = HeaderName::from_static("flightctl-api-version");
static API_VERSIONS_SUPPORTED: HeaderName = HeaderName::from_static("flightctl-api-versions-supported");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_URL: usize = 2000;
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 * 1024;
const MAX_REQUEST_ID: usize = 128;

/// What differs between APIs.
#[derive(Debug, Clone)]
pub struct Conventions {
    /// Protocol versions that are spoken, the default first.
    pub versions: &'static [&'static str],
    /// The `Content-Security-Policy` of answers that set none themselves.
    pub content_security_policy: &'static str,
}

impl Default for Conventions {
    fn default() -> Self {
        Self { versions: &["v1beta1"], content_security_policy: "default-src 'none'; frame-ancestors 'none'" }
    }
}

/// The request's id, as in `X-Request-Id`: an extension of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

/// Wraps `router` in the conventions; paths and methods it does not know are answered with a `Status` too.
///
/// Refused before any handler: URLs over 2,000 bytes (414), more than 64 headers or 32 KB of them (431), and protocol
/// versions that are not spoken (406). A handler that panics is answered with 500.
pub fn with_api_conventions(router: Router, conventions: Conventions) -> Router {
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(axum::middleware::from_fn_with_state(conventions, apply))
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}

async fn unknown_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(format!("{method} is not possible on {}", uri.path()))
}

async fn apply(State(conventions): State<Conventions>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    // Copied only when somebody reads them: most requests end without a line.
    let logged = tracing::enabled!(tracing::Level::DEBUG).then(|| Logged::of(&request));
    let chosen = check_size(&request).and_then(|()| version(request.headers(), conventions.versions));
    let (mut response, version) = match chosen {
        Ok(version) => {
            request.extensions_mut().insert(RequestId(id.clone()));
            let handled = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            (handled.unwrap_or_else(|panic| panicked(&*panic)), version)
        }
        Err(refusal) => (refusal.into_response(), conventions.versions.first().copied().unwrap_or("v1beta1")),
    };
    if response.status().is_server_error() {
        log_failure(&response, &id);
    }
    if let Some(logged) = logged {
        logged.line(&response, &id, started);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_maybe_shared(axum::body::Bytes::from(id)) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    headers.insert(API_VERSION.clone(), HeaderValue::from_static(version));
    headers.append(VARY, HeaderValue::from_static("Flightctl-API-Version"));
    headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let policy = HeaderValue::from_static(conventions.content_security_policy);
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(policy);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn check_size(request: &Request) -> Result<(), ApiError> {
    let uri = request.uri();
    let url = uri.path_and_query().map_or(0, |path| path.as_str().len());
    if url > MAX_URL {
        let message = format!("the URL has {url} bytes; at most {MAX_URL} are allowed");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, message));
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let message = format!(
            "{} headers of {bytes} bytes; at most {MAX_HEADERS} of {MAX_HEADER_BYTES} bytes together are allowed",
            headers.len()
        );
        return Err(ApiError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message));
    }
    Ok(())
}

/// The version that the client asked for, or the default.
fn version(headers: &HeaderMap, spoken: &'static [&'static str]) -> Result<&'static str, ApiError> {
    let default = spoken.first().copied().unwrap_or("v1beta1");
    let Some(asked) = headers.get(&API_VERSION) else { return Ok(default) };
    if asked.is_empty() {
        return Ok(default);
    }
    spoken.iter().copied().find(|version| asked.as_bytes() == version.as_bytes()).ok_or_else(|| {
        let supported = spoken.join(", ");
        let message = format!("this protocol version is not spoken here; these are: {supported}");
        let error = ApiError::new(StatusCode::NOT_ACCEPTABLE, message);
        match HeaderValue::try_from(supported) {
            Ok(supported) => error.with_header(API_VERSIONS_SUPPORTED.clone(), supported),
            Err(_) => error,
        }
    })
}

/// The client's id when it is short and plain, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b':' | b'+' | b'='))
    };
    match headers.get(&REQUEST_ID).and_then(|id| id.to_str().ok()).filter(plain) {
        Some(id) => id.to_owned(),
        None => uuid::Uuid::new_v4().simple().to_string(),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    error!(panic = said.unwrap_or("?"), "A request handler panicked");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error; the service's log has the details")
        .into_response()
}

fn log_failure(response: &Response, id: &str) {
    let code = response.status().as_u16();
    match response.extensions().get::<Cause>() {
        Some(Cause(cause)) if code == 500 => error!(request = id, error = %ErrorChain(&**cause), "A request failed"),
        Some(Cause(cause)) => tracing::warn!(request = id, code, error = %ErrorChain(&**cause), "A request failed"),
        None => {}
    }
}

/// What the access log tells of a request.
struct Logged {
    method: Method,
    path: String,
    peer: Option<std::net::SocketAddr>,
}

impl Logged {
    fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().chars().take(200).collect(),
            peer: request.extensions().get::<PeerConnection>().map(PeerConnection::addr),
        }
    }

    fn line(self, response: &Response, id: &str, started: Instant) {
        debug!(
            request = id,
            method = %self.method,
            path = %self.path.escape_debug(),
            peer = ?self.peer,
            code = response.status().as_u16(),
            took = ?started.elapsed(),
            "Answered"
        );
    }
}
