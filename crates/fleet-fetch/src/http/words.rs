//! Failures of HTTP in words.

use std::error::Error as _;
use std::time::Duration;

use reqwest::StatusCode;

use super::client::Reach;
use super::{Answer, retry_after};
use crate::error::{FetchError, FetchErrorKind, quoted};
use crate::place::{HttpAuth, HttpPlace};

/// What an answer that is no document means.
pub(super) fn of_status(place: &HttpPlace, answer: &Answer) -> FetchError {
    let (status, url) = (answer.status.as_u16(), place.display_url());
    let kind = kind_of_status(answer);
    let why = match status {
        304 => "though nothing was asked that it could answer so".to_owned(),
        400 if kind == FetchErrorKind::Denied => certificate_words(place).to_owned(),
        401 if place.options.auth == HttpAuth::Anonymous => "it wants credentials and none are given".to_owned(),
        401 if answer.reach == Reach::Elsewhere => {
            "it redirects to another origin, which wants credentials and gets none".to_owned()
        }
        401 => "it does not accept the credentials".to_owned(),
        403 => "it does not let us read this".to_owned(),
        404 | 410 => "there is no such document".to_owned(),
        407 => "the proxy wants other credentials".to_owned(),
        429 | 503 => match retry_after(&answer.headers) {
            Some(wait) => format!("it asks to wait {} s", wait.as_secs()),
            None => "it asks for patience".to_owned(),
        },
        500.. => "it cannot answer now".to_owned(),
        _ => "where the document (200) was expected".to_owned(),
    };
    FetchError::new(kind, format!("cannot fetch {url}: the server answers {status}: {why}"))
}

pub(crate) fn kind_of_status(answer: &Answer) -> FetchErrorKind {
    let wait = retry_after(&answer.headers);
    match answer.status.as_u16() {
        400 if speaks_of_a_certificate(&answer.body) => FetchErrorKind::Denied,
        401 | 403 | 407 => FetchErrorKind::Denied,
        404 | 410 => FetchErrorKind::NotFound,
        429 => FetchErrorKind::RateLimited { retry_after: wait },
        503 if wait.is_some() => FetchErrorKind::RateLimited { retry_after: wait },
        408 | 504 => FetchErrorKind::DeadlineExceeded,
        413 => FetchErrorKind::TooLarge,
        500.. => FetchErrorKind::Unreachable,
        _ if answer.status == StatusCode::NOT_MODIFIED || !answer.status.is_client_error() => FetchErrorKind::Invalid,
        _ => FetchErrorKind::Other,
    }
}

/// nginx says so with 400 when a client certificate is missing or bad.
fn speaks_of_a_certificate(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    text.contains("No required SSL certificate") || text.contains("The SSL certificate error")
}

fn certificate_words(place: &HttpPlace) -> &'static str {
    if place.options.client_identity.is_some() {
        "it does not accept the client certificate"
    } else {
        "it wants a client certificate and none is given"
    }
}

pub(super) fn late(place: &HttpPlace, what: &str, after: Duration) -> FetchError {
    let message = format!("cannot fetch {}: {what} after {} s", place.display_url(), after.as_secs_f32());
    FetchError::new(FetchErrorKind::DeadlineExceeded, message)
}

/// A request that got no whole answer.
pub(super) fn of_transport(place: &HttpPlace, error: reqwest::Error) -> FetchError {
    // A URL may hold a secret in its query.
    let error = error.without_url();
    let mut words = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push(inner.to_string());
        cause = inner.source();
    }
    let mut words = words.join(": ");
    if words.is_empty() {
        words = error.to_string();
    }
    let (kind, words) = kind_of_words(place, &words, error.is_timeout());
    FetchError::new(kind, format!("cannot fetch {}: {words}", place.display_url()))
}

fn kind_of_words(place: &HttpPlace, words: &str, is_timeout: bool) -> (FetchErrorKind, String) {
    let has = |part: &str| words.contains(part);
    if is_timeout {
        return (FetchErrorKind::DeadlineExceeded, "the server did not answer in time".to_owned());
    }
    if has("invalid peer certificate") {
        let detail = words.split("invalid peer certificate: ").nth(1).unwrap_or(words);
        let fix = if has("UnknownIssuer") { "; give the certificate of the CA that signed it" } else { "" };
        let words = format!("the server's certificate is not trusted ({}){fix}", quoted(detail));
        return (FetchErrorKind::Unreachable, words);
    }
    if has("received fatal alert") && (has("ertificate") || has("UnknownCA") || has("AccessDenied")) {
        return (FetchErrorKind::Denied, format!("{} ({})", certificate_words(place), quoted(words)));
    }
    if has("proxy auth") {
        return (FetchErrorKind::Denied, "the proxy wants other credentials".to_owned());
    }
    (FetchErrorKind::Unreachable, quoted(words))
}
