//! Webhooks: a Git host says that refs changed, so that sources are looked at now and not at the next poll. A request is
//! authenticated and is still no more than a hint: it wakes sources, which ask the host themselves. It is answered from
//! memory; Git and, but for a rare look at the list of sources, the database are not waited for.

mod hint;
mod place;
mod queue;
mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::response::Response;
use fleet_http::{ApiError, PeerConnection, json, read_bytes};
use fleet_model::OrgId;
use fleet_runtime::Pace;
use fleet_store::{SourcePlace, Store, StoreResult, source_places, taken_places};
use serde_json::json;
use tracing::warn;

use crate::api::{Api, failed};
use crate::metrics::UserApiMetrics;
use hint::Hint;
pub use queue::HintSender;
use queue::Queue;
use secret::Proof;
pub use secret::{UnknownWebhookProvider, Webhook, WebhookProvider, WebhookSecret, WebhookSecretError};

/// The largest body. Git hosts send up to 25 MiB for pushes of thousands of commits; the poll finds those.
const MAX_BODY: usize = 1 << 20;
/// Requests of one hook that are taken at once, and how often there may be one in the long run.
const BURST: u32 = 300;
const PERIOD: Duration = Duration::from_millis(20);
/// How old the list of sources may be. A new source looks at its host by itself.
const LIST_AGE: Duration = Duration::from_secs(5);
/// How long the database may take to give the list.
const LIST_DEADLINE: Duration = Duration::from_secs(2);
/// How often refused requests of one hook are told of in the log.
const TELL: Duration = Duration::from_secs(60);
/// The label of hooks that there are not; no hook can be named so.
const NO_HOOK: &str = "-";

/// All hooks, and what their requests share.
#[derive(Debug)]
pub(crate) struct Webhooks {
    hooks: BTreeMap<String, Hook>,
    /// Stands in for a hook that there is not, so that looking for one takes as long.
    nobody: Hook,
    queue: Arc<Queue>,
    places: tokio::sync::Mutex<Option<(Instant, Arc<Places>)>>,
}

/// What hints are compared with.
#[derive(Debug)]
struct Places {
    /// Where sources lie.
    sources: Vec<SourcePlace>,
    /// What sources take content from.
    taken: Vec<SourcePlace>,
}

impl Places {
    async fn read(store: &Store, org: OrgId) -> StoreResult<Self> {
        let (sources, taken) = tokio::try_join!(source_places(store.pool(), org), taken_places(store.pool(), org))?;
        Ok(Self { sources, taken })
    }
}

#[derive(Debug)]
struct Hook {
    proof: Proof,
    url_prefix: Option<String>,
    pace: Mutex<Pace>,
    told: Mutex<Told>,
}

/// Refusals, and when the log was last told.
#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    since: u64,
}

impl Hook {
    fn new(proof: Proof, url_prefix: Option<String>) -> Self {
        Self { proof, url_prefix, pace: Mutex::new(Pace::new(BURST, PERIOD)), told: Mutex::default() }
    }

    fn may_pass(&self) -> bool {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).try_take(Instant::now())
    }

    /// How many refusals the log should be told of now, if any.
    fn refused(&self) -> Option<u64> {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.since += 1;
        if told.at.is_some_and(|at| now.duration_since(at) < TELL) {
            return None;
        }
        told.at = Some(now);
        Some(std::mem::take(&mut told.since))
    }
}

impl Webhooks {
    pub(crate) fn new(hooks: &[Webhook]) -> Self {
        let ready = |hook: &Webhook| Hook::new(Proof::of(hook), hook.url_prefix.clone());
        Self {
            hooks: hooks.iter().map(|hook| (hook.name.clone(), ready(hook))).collect(),
            nobody: Hook::new(Proof::of_nobody(), None),
            queue: Arc::default(),
            places: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn sender(&self, store: Store, org: OrgId) -> HintSender {
        HintSender::new(Arc::clone(&self.queue), store, org)
    }

    /// The list of sources, from memory unless that is old. While the database is slow or away, an old one will do.
    async fn places(&self, store: &Store, org: OrgId) -> StoreResult<Option<Arc<Places>>> {
        let mut known = self.places.lock().await;
        if let Some((at, list)) = &*known
            && at.elapsed() < LIST_AGE
        {
            return Ok(Some(Arc::clone(list)));
        }
        let read = tokio::time::timeout(LIST_DEADLINE, Places::read(store, org)).await;
        let old = known.as_ref().map(|(_, list)| Arc::clone(list));
        match read {
            Ok(Ok(list)) => {
                let list = Arc::new(list);
                *known = Some((Instant::now(), Arc::clone(&list)));
                Ok(Some(list))
            }
            Ok(Err(error)) if old.is_none() => Err(error),
            Ok(Err(_)) | Err(_) => {
                if let Some((at, _)) = known.as_mut() {
                    *at = Instant::now();
                }
                Ok(old)
            }
        }
    }
}

/// Takes a request of a Git host. A hook that there is not and a proof that does not hold are answered alike.
///
/// Answers 202 with what was made of it, 200 to a ping; 400 when an authenticated body makes no sense, 401, 413 over
/// 1 MiB, 429 when a hook sends too much, 503 when the list of sources was never read and the database is away.
pub(crate) async fn receive(
    State(inner): Api,
    Path(name): Path<String>,
    peer: PeerConnection,
    request: Request,
) -> Result<Response, ApiError> {
    let webhooks = &inner.webhooks;
    let (label, hook, is_known) = match webhooks.hooks.get_key_value(&name) {
        Some((name, hook)) => (name.as_str(), hook, true),
        None => (NO_HOOK, &webhooks.nobody, false),
    };
    let count = |result: &'static str| count(&inner.metrics, label, result);
    let headers = request.headers().clone();
    let body = read_bytes(request, MAX_BODY).await.inspect_err(|_| count("unread"))?;
    // Not limited before this: who does not know the secret must not be able to use up the hook's share.
    let holds = hook.proof.holds(&headers, &body);
    if !(holds && is_known) {
        count("refused");
        if let Some(refused) = hook.refused() {
            warn!(hook = label, refused, peer = %peer.addr(), "Refused requests to a webhook; see its secret");
        }
        return Err(ApiError::unauthorized("no such webhook, or the request is not signed with its secret"));
    }
    if !hook.may_pass() {
        count("limited");
        let message = format!("too many requests to this webhook; {BURST} at once and 50 a second are taken");
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message);
        return Err(error.with_header(RETRY_AFTER, HeaderValue::from_static("1")));
    }
    let change = match Hint::read(&headers, &body) {
        Ok(Hint::Change(change)) => change,
        Ok(Hint::Ping) => {
            count("ping");
            return Ok(answer(StatusCode::OK, "ping", "the webhook works", &[]));
        }
        Ok(Hint::Other(why)) => {
            count("ignored");
            return Ok(answer(StatusCode::ACCEPTED, "ignored", why, &[]));
        }
        Err(problem) => {
            count("unread");
            return Err(ApiError::bad_request(problem));
        }
    };
    let list = webhooks.places(&inner.store, OrgId::DEFAULT).await.map_err(failed);
    let Some(list) = list.inspect_err(|_| count("failed"))? else {
        count("failed");
        return Err(ApiError::unavailable("the database is away; try again", 2));
    };
    let within = |place: &&SourcePlace| hook.url_prefix.as_ref().is_none_or(|prefix| place.url.starts_with(prefix));
    let concerned = |places: &[SourcePlace]| -> BTreeSet<String> {
        let concerned = places.iter().filter(within).filter(|place| change.concerns(place));
        concerned.map(|place| place.name.clone()).collect()
    };
    let announced = concerned(&list.sources);
    let woken: BTreeSet<String> = concerned(&list.taken).difference(&announced).cloned().collect();
    if announced.is_empty() && woken.is_empty() {
        count("unmatched");
        let message =
            "no source that this webhook may wake follows that repository and branch, or takes content from it";
        return Ok(answer(StatusCode::ACCEPTED, "unmatched", message, &[]));
    }
    webhooks.queue.add(&announced, &woken);
    let names: Vec<String> = announced.union(&woken).cloned().collect();
    count("accepted");
    Ok(answer(StatusCode::ACCEPTED, "accepted", "these sources are looked at now", &names))
}

fn count(metrics: &UserApiMetrics, hook: &str, result: &'static str) {
    metrics.webhook(hook, result);
}

fn answer(code: StatusCode, result: &str, message: &str, sources: &[String]) -> Response {
    json(code, &json!({"result": result, "message": message, "sources": sources}))
}
