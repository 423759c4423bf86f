//! Events and organisations.

use axum::Json;
use axum::extract::State;
use fleet_http::ApiError;
use fleet_model::{API_VERSION, ResourceList};
use fleet_store::read_events::{self, EventOrder, EventRecord};
use serde_json::Value;

use super::whole_seconds;
use crate::api::{Api, Caller, Inner, failed};
use crate::listing::{Params, envelope};
use crate::permissions::Action;

fn event(record: EventRecord) -> Value {
    let mut object = serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": "Event",
        "metadata": {"name": record.id.to_string(), "creationTimestamp": whole_seconds(record.at)},
        "involvedObject": {"kind": record.kind, "name": record.name},
        "reason": record.reason,
        "type": record.event_type,
        "message": record.message,
        "actor": record.actor,
        "source": {"component": "shorebase"},
    });
    if let Some(details) = record.details {
        object["details"] = details.0;
    }
    object
}

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    params: Params,
) -> Result<Json<ResourceList<Value>>, ApiError> {
    caller.require(Action::ReadInventory)?;
    let order = match params.get("order") {
        None | Some("desc") => EventOrder::NewestFirst,
        Some("asc") => EventOrder::OldestFirst,
        Some(_) => return Err(ApiError::bad_request("order must be asc or desc")),
    };
    let query = params.list(read_events::FIELDS, false)?;
    let bad = |_| ApiError::bad_request("continue: this is not a token of a list of events");
    let after = query.after.as_deref().map(str::parse).transpose().map_err(bad)?;
    let page = read_events::list(inner.pool(), Inner::ORG, &query, order, after).await.map_err(failed)?;
    let next = if page.more { page.items.last().map(|last| last.id.to_string()) } else { None };
    Ok(Json(envelope("Event", page.items.into_iter().map(event).collect(), next.as_deref(), None)))
}

pub(crate) async fn organizations(
    State(inner): Api,
    caller: Caller,
    _params: Params,
) -> Result<Json<ResourceList<Value>>, ApiError> {
    caller.require(Action::ReadService)?;
    let all = read_events::organizations(inner.pool()).await.map_err(failed)?;
    let items = all
        .into_iter()
        .map(|org| {
            serde_json::json!({
                "apiVersion": API_VERSION,
                "kind": "Organization",
                "metadata": {"name": org.id.to_string(), "creationTimestamp": whole_seconds(org.created_at)},
                "spec": {"displayName": org.name, "externalId": org.id.to_string()},
            })
        })
        .collect();
    Ok(Json(envelope("Organization", items, None, None)))
}
