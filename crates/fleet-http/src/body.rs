//! JSON in and out, with a limit on size and on time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ApiError;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A request body of at most `LIMIT` bytes, read as JSON. Fails with 413, 415 or 400 and the line and column.
#[derive(Debug, Clone)]
pub struct ApiJson<T, const LIMIT: usize>(pub T);

impl<T: DeserializeOwned, S: Sync, const LIMIT: usize> FromRequest<S> for ApiJson<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        read_json(request, LIMIT).await.map(Self)
    }
}

/// Reads a request's body of at most `limit` bytes as JSON.
///
/// # Errors
/// 413 when it is larger, 415 when it says to be something else, 408 when it takes too long, 400 when it does not parse.
pub async fn read_json<T: DeserializeOwned>(request: Request, limit: usize) -> Result<T, ApiError> {
    check_is_json(request.headers())?;
    let bytes = read_bytes(request, limit).await?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(format!("request body: {error}")))
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("request body is larger than {limit} bytes"))
}

/// Reads a request's body of at most `limit` bytes as it is.
///
/// # Errors
/// 413 when it is larger, before anything is read where the client says so; 408 when it takes too long, 400 when it is
/// cut off.
pub async fn read_bytes(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let (parts, body) = request.into_parts();
    check_length(&parts.headers, limit)?;
    // The headers may keep a large buffer alive while the body trickles in.
    drop(parts);
    read_body(body, limit).await
}

fn check_is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(kind) = headers.get(CONTENT_TYPE)
        && !kind.to_str().is_ok_and(|kind| kind.to_ascii_lowercase().contains("json"))
    {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "request body is not JSON: set Content-Type to application/json",
        ));
    }
    Ok(())
}

fn check_length(headers: &HeaderMap, limit: usize) -> Result<(), ApiError> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if usize::try_from(length).map_or(true, |length| length > limit) => Err(too_large(limit)),
        _ => Ok(()),
    }
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(error)) => Err(ApiError::bad_request(format!("request body was cut off: {error}"))),
        Err(_) => {
            let seconds = BODY_TIMEOUT.as_secs();
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, format!("request body took longer than {seconds} s")))
        }
    }
}

/// An answer with `value` as its JSON body.
pub fn json<T: Serialize>(code: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => json_bytes(code, bytes),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// An answer whose body is JSON text already.
pub fn json_bytes(code: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
