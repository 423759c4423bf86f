//! The one way to fail: an HTTP status with a `Status` body.

use std::error::Error;
use std::sync::Arc;

use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use fleet_model::StatusBody;

/// An error answer. Its message goes to the client, its source only to the log.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: StatusCode,
    reason: Option<&'static str>,
    message: String,
    headers: HeaderMap,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What went wrong inside, for the log: an extension of the response.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) Arc<dyn Error + Send + Sync>);

impl ApiError {
    /// An answer with `code`; `message` is one sentence that names the thing and, where there is one, the fix.
    pub fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { code, reason: None, message: message.into(), headers: HeaderMap::new(), source: None }))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 405.
    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 501.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// 500; the client learns no more than that.
    pub fn internal(source: impl Error + Send + Sync + 'static) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error; the service's log has the details")
            .with_source(source)
    }

    /// 503 with `Retry-After` in seconds.
    pub fn unavailable(message: impl Into<String>, retry_after_seconds: u16) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
            .with_header(RETRY_AFTER, HeaderValue::from(retry_after_seconds))
    }

    /// The same with a cause for the log. It never reaches the client.
    #[must_use]
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// The same with another header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The same with another `reason` than HTTP's phrase.
    #[must_use]
    pub fn with_reason(mut self, reason: &'static str) -> Self {
        self.0.reason = Some(reason);
        self
    }

    /// The HTTP status.
    pub fn code(&self) -> StatusCode {
        self.0.code
    }

    /// What the client is told.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Inner { code, reason, message, headers, source } = *self.0;
        let reason = reason.or(code.canonical_reason()).unwrap_or("Error");
        let body = StatusBody::failure(code.as_u16(), reason, message);
        let bytes = serde_json::to_vec(&body).expect("strings and numbers serialise");
        let mut response = (code, headers, bytes).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(source) = source {
            response.extensions_mut().insert(Cause(source));
        }
        response
    }
}
