//! The router: every path, and the authentication in front of them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, Router};
use fleet_http::{ApiError, Conventions, PeerConnection, with_api_conventions};
use fleet_model::{DeviceName, Kind, OrgId};
use fleet_pki::{CertificateAuthority, Lifetime};
use fleet_runtime::Clock;
use fleet_store::{PgPool, Store, StoreError};
use tracing::{info, warn};

use crate::auth::{Actor, Authenticator};
use crate::handlers::{csrs, decisions, devices, enrollments, events, manifests, plans, sources};
use crate::metrics::UserApiMetrics;
use crate::permissions::Action;
use crate::read_only;
use crate::webhooks::{self, HintSender, Webhook, Webhooks};

/// Settings of the users' interface.
#[derive(Debug, Clone)]
pub struct UserApiConfig {
    /// Where agents find the service: `https://host:7443`.
    pub agent_url: String,
    /// PEM certificates that agents trust when they talk to it; the built-in authority's when absent.
    pub agent_ca_pem: Option<String>,
    /// Base URL for the link that a person follows to approve a device; may be empty.
    pub enrollment_ui_url: String,
    /// How long enrolment certificates live at most.
    pub enrollment_certificate_life: Duration,
    /// How long an approval waits for the certificate before it answers without.
    pub approval_wait: Duration,
    /// Who may announce that repositories changed.
    pub webhooks: Vec<Webhook>,
}

impl UserApiConfig {
    /// Enrolment certificates of a year, approvals that wait 2 s.
    pub fn new(agent_url: impl Into<String>) -> Self {
        Self {
            agent_url: agent_url.into(),
            agent_ca_pem: None,
            enrollment_ui_url: String::new(),
            enrollment_certificate_life: Duration::from_secs(365 * 24 * 60 * 60),
            approval_wait: Duration::from_secs(2),
            webhooks: Vec::new(),
        }
    }
}

/// The users' interface.
#[derive(Debug, Clone)]
pub struct UserApi(Arc<Inner>);

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) auth: Authenticator,
    pub(crate) ca: Arc<CertificateAuthority>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: UserApiConfig,
    pub(crate) metrics: UserApiMetrics,
    pub(crate) webhooks: Webhooks,
}

pub(crate) type Api = State<Arc<Inner>>;

impl Inner {
    pub(crate) fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    /// The one organisation.
    pub(crate) const ORG: OrgId = OrgId::DEFAULT;

    pub(crate) fn enrollment_life(&self) -> Lifetime {
        Lifetime::at_most(self.config.enrollment_certificate_life)
    }
}

impl UserApi {
    /// The interface over a database. `ca` signs enrolment certificates.
    pub fn new(
        store: Store,
        auth: Authenticator,
        ca: Arc<CertificateAuthority>,
        clock: Arc<dyn Clock>,
        config: UserApiConfig,
        metrics: UserApiMetrics,
    ) -> Self {
        let webhooks = Webhooks::new(&config.webhooks);
        Self(Arc::new(Inner { store, auth, ca, clock, config, metrics, webhooks }))
    }

    /// The task that passes on what webhooks hint at; none when there are no webhooks.
    pub fn hint_sender(&self) -> Option<HintSender> {
        let inner = &self.0;
        (!inner.config.webhooks.is_empty()).then(|| inner.webhooks.sender(inner.store.clone(), Inner::ORG))
    }

    /// All paths, below `/api/v1`, with the conventions of [`with_api_conventions`].
    pub fn router(&self) -> Router {
        let inner = Arc::clone(&self.0);
        let api = inventory()
            .merge(enrollment())
            .merge(service())
            .method_not_allowed_fallback(unknown_method)
            .layer(from_fn_with_state(Arc::clone(&inner), authenticate))
            .route("/auth/config", get(auth_config))
            .route("/webhooks/{hook}", post(webhooks::receive))
            .with_state(Arc::clone(&inner));
        let pages = Router::new().route("/enroll/{name}", get(approve_page)).route("/manage/{name}", get(look_page));
        let counted = Router::new().nest("/api/v1", api).merge(pages).layer(from_fn_with_state(inner, count));
        with_api_conventions(counted, Conventions::default())
    }
}

/// Where the link and QR code on a device's banner lead while it waits: what a person types to let it in.
async fn approve_page(Path(name): Path<String>) -> Result<String, ApiError> {
    let name = page_name(&name)?;
    Ok(format!("Device {name} asks to be managed.\n\nTo approve it:\n\n  fleetctl approve {name} -l KEY=VALUE\n"))
}

/// Where they lead once it is managed.
async fn look_page(Path(name): Path<String>) -> Result<String, ApiError> {
    let name = page_name(&name)?;
    Ok(format!("Device {name}.\n\nTo look at it:\n\n  fleetctl describe device {name}\n"))
}

/// Only what can be a device's name is repeated; whether there is such a device is told to nobody without a token.
fn page_name(text: &str) -> Result<DeviceName, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("this is no device's name"))
}

/// A path of desired state: `GET` answers, everything else says where the object is defined.
fn desired(read: MethodRouter<Arc<Inner>>, kind: Kind) -> MethodRouter<Arc<Inner>> {
    read.fallback(move |state, caller, request| read_only::refuse(state, caller, kind, request))
}

fn inventory() -> Router<Arc<Inner>> {
    Router::new()
        .route("/devices", desired(get(devices::list), Kind::Device))
        .route("/devices/{name}", desired(get(devices::get), Kind::Device))
        .route("/devices/{name}/rendered", desired(get(devices::rendered), Kind::Device))
        .route("/devices/{name}/lastseen", desired(get(devices::last_seen), Kind::Device))
        .route("/fleets", desired(get(manifests::list_fleets), Kind::Fleet))
        .route("/fleets/{name}", desired(get(manifests::get_fleet), Kind::Fleet))
        .route("/fleets/{name}/templateversions", desired(get(manifests::list_revisions), Kind::Fleet))
        .route("/fleets/{name}/templateversions/{revision}", desired(get(manifests::get_revision), Kind::Fleet))
        .route("/repositories", desired(get(manifests::list_repositories), Kind::Repository))
        .route("/repositories/{name}", desired(get(manifests::get_repository), Kind::Repository))
        .route("/resourcesyncs", desired(get(manifests::list_resource_syncs), Kind::ResourceSync))
        .route("/resourcesyncs/{name}", desired(get(manifests::get_resource_sync), Kind::ResourceSync))
        .route("/labels", get(devices::labels))
        .route("/events", get(events::list))
        .route("/sources", get(sources::list))
        .route("/sources/{name}", get(sources::get))
        .route("/sources/{name}/sync", post(sources::sync))
        .route("/sources/{name}/approve", post(decisions::approve))
        .route("/sources/{name}/reject", post(decisions::reject))
        .route("/sources/{name}/suspend", post(decisions::suspend))
        .route("/sources/{name}/resume", post(decisions::resume))
        .route("/sources/{name}/plans", get(plans::list))
        .route("/sources/{name}/plans/{commit}", get(plans::get))
}

fn enrollment() -> Router<Arc<Inner>> {
    Router::new()
        .route("/enrollmentrequests", get(enrollments::list))
        .route("/enrollmentrequests/{name}", get(enrollments::get))
        .route("/enrollmentrequests/{name}/approval", put(enrollments::decide))
        .route("/certificatesigningrequests", get(csrs::list).post(csrs::create))
        .route("/certificatesigningrequests/{name}", get(csrs::get))
        .route("/enrollmentconfig", get(csrs::enrollment_config))
}

fn service() -> Router<Arc<Inner>> {
    Router::new()
        .route("/organizations", get(events::organizations))
        .route("/version", get(version))
        .route("/auth/userinfo", get(user_info))
}

async fn unknown_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(format!("{method} is not possible on {}", uri.path()))
}

async fn version(caller: Caller) -> Result<Json<serde_json::Value>, ApiError> {
    caller.require(Action::ReadService)?;
    Ok(Json(serde_json::json!({"version": env!("CARGO_PKG_VERSION")})))
}

async fn user_info(Caller(actor): Caller) -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "preferred_username": actor.name,
        "roles": actor.roles,
        "organizations": [{
            "apiVersion": fleet_model::API_VERSION,
            "kind": "Organization",
            "metadata": {"name": OrgId::DEFAULT.to_string()},
        }],
    }))
}

/// Whose tokens are accepted. Open to all: a client asks before it has one.
async fn auth_config(State(inner): Api) -> Json<serde_json::Value> {
    let local = fleet_model::local_token::ISSUER;
    let providers: Vec<_> = inner
        .auth
        .issuers()
        .filter(|issuer| *issuer != local)
        .map(|issuer| {
            serde_json::json!({
                "apiVersion": fleet_model::API_VERSION,
                "kind": "AuthProvider",
                "metadata": {"name": issuer},
                "spec": {"providerType": "oidc", "issuer": issuer},
            })
        })
        .collect();
    Json(serde_json::json!({
        "apiVersion": fleet_model::API_VERSION,
        "organizationsEnabled": false,
        "providers": providers,
    }))
}

/// The user behind a request; an extension that [`authenticate`] adds.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Actor);

impl Caller {
    pub(crate) fn require(&self, action: Action) -> Result<(), ApiError> {
        action.require(&self.0)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| crate::AuthError::Missing.answer())
    }
}

async fn authenticate(State(inner): Api, peer: PeerConnection, mut request: Request, next: Next) -> Response {
    let actor = match inner.auth.authenticate(request.headers().get(AUTHORIZATION)).await {
        Ok(actor) => actor,
        Err(error) => {
            inner.metrics.refused_token();
            if error != crate::AuthError::Missing {
                warn!(peer = %peer.addr(), reason = %error, "Refused a token");
            }
            return error.answer().into_response();
        }
    };
    // The request's headers are kept by nobody behind this point.
    request.headers_mut().remove(AUTHORIZATION);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let name = actor.name.clone();
    request.extensions_mut().insert(Caller(actor));
    let response = next.run(request).await;
    if response.status() == axum::http::StatusCode::FORBIDDEN {
        info!(user = name, %method, path = %path.escape_debug(), "Refused: the user has no role for this");
    }
    response
}

async fn count(State(inner): Api, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    inner.metrics.answered(response.status().as_u16());
    response
}

/// The answer when the database fails.
pub(crate) fn failed(error: StoreError) -> ApiError {
    if error.is_unavailable() {
        return ApiError::unavailable("the database is away; try again", 2).with_source(error);
    }
    ApiError::internal(error)
}

/// The answer when there is no such object; worded as clients of this protocol expect.
pub(crate) fn no_such(kind: &str, name: &str) -> ApiError {
    let name: String = name.chars().take(253).collect();
    ApiError::not_found(format!("{kind} of name {name:?} not found"))
}

/// A name from a path or parameter that can be looked for: the database refuses NUL in text.
pub(crate) fn checked_name<'a>(kind: &str, name: &'a str) -> Result<&'a str, ApiError> {
    if name.len() <= 253 && !name.contains('\0') { Ok(name) } else { Err(no_such(kind, name)) }
}
