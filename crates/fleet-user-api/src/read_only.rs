//! Refusals to write desired state: they name the place in Git where the object is defined, or could be.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{ALLOW, HeaderValue};
use axum::response::{IntoResponse, Response};
use fleet_http::{ApiError, read_json};
use fleet_model::Kind;
use fleet_store::read_manifests::{self, ManifestLocation};
use fleet_store::read_sources::{self, SourceRecord};

use crate::api::{Caller, Inner, failed};
use crate::handlers::sources::without_credentials;
use crate::permissions::Action;

/// Bodies are looked at for the object's name, up to so many bytes.
const MAX_BODY: usize = 1 << 20;

/// Answers a write to a path of desired state: 405 with `Allow`.
pub(crate) async fn refuse(State(inner): State<Arc<Inner>>, caller: Caller, kind: Kind, request: Request) -> Response {
    match message(&inner, &caller, kind, request).await {
        Ok(message) => ApiError::method_not_allowed(message)
            .with_header(ALLOW, HeaderValue::from_static("GET, HEAD"))
            .into_response(),
        Err(error) => error.into_response(),
    }
}

async fn message(inner: &Inner, caller: &Caller, kind: Kind, request: Request) -> Result<String, ApiError> {
    caller.require(Action::ReadInventory)?;
    let name = match name_in_path(request.uri().path()) {
        Some(name) => Some(name),
        None if request.method() == Method::POST => name_in_body(request).await,
        None => None,
    };
    let place = match name.as_deref().filter(|name| !name.contains('\0')) {
        Some(name) => read_manifests::locate(inner.pool(), Inner::ORG, kind, name).await.map_err(failed)?,
        None => None,
    };
    if let (Some(name), Some(place)) = (&name, place) {
        return Ok(defined(kind, name, &place));
    }
    let sources = read_sources::list(inner.pool(), Inner::ORG).await.map_err(failed)?;
    Ok(nowhere(kind, name.as_deref(), &sources))
}

/// The name in `…/<collection>/<name>[/…]`; the nested path may or may not begin with `/api/v1`.
fn name_in_path(path: &str) -> Option<String> {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let name = path.split('/').nth(2).filter(|name| !name.is_empty() && name.len() <= 253)?;
    Some(name.to_owned())
}

async fn name_in_body(request: Request) -> Option<String> {
    let body: serde_json::Value = read_json(request, MAX_BODY).await.ok()?;
    let name = body.pointer("/metadata/name")?.as_str()?;
    (!name.is_empty() && name.len() <= 253).then(|| name.to_owned())
}

fn defined(kind: Kind, name: &str, place: &ManifestLocation) -> String {
    let repository = place.url.as_deref().map_or_else(|| "its repository".to_owned(), without_credentials);
    let revision = place.revision.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
    format!(
        "{kind} {name:?} comes from Git and cannot be changed here: it is defined in {}:{} of {repository}{revision}, \
         source {:?}; change it there, and it is applied once it is merged",
        place.file, place.line, place.source
    )
}

fn nowhere(kind: Kind, name: Option<&str>, sources: &[SourceRecord]) -> String {
    let what = name.map_or_else(|| format!("a {kind}"), |name| format!("{kind} {name:?}"));
    if sources.is_empty() {
        return format!(
            "desired state comes from Git and cannot be written here, and no source is configured yet: \
                        add a source to the service's configuration, and define {what} there"
        );
    }
    let list: Vec<String> = sources
        .iter()
        .map(|s| {
            let path = s.path.trim_matches('/');
            let path = if path.is_empty() { String::new() } else { format!(", below {path}/") };
            format!("{:?} ({} at {}{path})", s.name, without_credentials(&s.url), s.revision)
        })
        .collect();
    format!(
        "desired state comes from Git and cannot be written here; {what} is not defined yet: add a manifest to one of \
         the sources: {}",
        list.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_paths() {
        assert_eq!(name_in_path("/api/v1/fleets/pos/templateversions").as_deref(), Some("pos"));
        assert_eq!(name_in_path("/fleets/pos").as_deref(), Some("pos"));
        assert_eq!(name_in_path("/api/v1/fleets"), None);
        assert_eq!(name_in_path("/fleets/"), None);
    }
}
