//! Liveness, readiness and metrics, in the clear on an address of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fleet_agent_api::AgentApi;
use fleet_store::Store;
use prometheus_client::registry::Registry;

/// How long the database may take to answer before the service counts as not ready.
const DATABASE_DEADLINE: Duration = Duration::from_secs(2);

struct Health {
    store: Store,
    agent_api: AgentApi,
    registry: Registry,
}

/// `/healthz` and `/livez`: the process runs. `/readyz`: the database answers and the devices have been read.
/// `/metrics`: OpenMetrics text.
pub(crate) fn router(store: Store, agent_api: AgentApi, registry: Registry) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Health { store, agent_api, registry }))
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    let not_ready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response();
    match tokio::time::timeout(DATABASE_DEADLINE, health.store.ping()).await {
        Ok(Ok(())) if health.agent_api.is_ready() => "ready\n".into_response(),
        Ok(Ok(())) => not_ready("devices are being read"),
        Ok(Err(_)) => not_ready("the database answers with an error"),
        Err(_) => not_ready("the database does not answer"),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &health.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
