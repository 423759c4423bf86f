//! The poll for what a device should be: answered at once when there is news, held otherwise.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use fleet_http::{ApiError, PeerConnection};
use fleet_model::annotations;
use fleet_store::{IndexedDevice, indexed_device};
use tokio::time::Instant;
use tracing::warn;

use crate::answer::device_answer;
use crate::failure::{path_name, store_failure};
use crate::index::{DeviceKey, Slot, Wake};
use crate::metrics::Parked;
use crate::specs::SpecError;
use crate::{AgentApi, Shared};

/// How long a poll waits for the first reading of all devices.
const LOAD_WAIT: Duration = Duration::from_secs(5);
/// The highest version a device may claim to know beyond what it was given; leaves room for as many more.
pub(crate) const MAX_VERSION: i64 = 1_000_000_000_000_000;

/// `GET /devices/{name}/rendered?knownRenderedVersion=N`: 200 with the device, or 204 when there is nothing new.
pub(crate) async fn rendered(
    State(api): State<AgentApi>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    peer: PeerConnection,
) -> Result<Response, ApiError> {
    let name = path_name(path)?;
    let api = &*api.0;
    let caller = api.device_caller(&peer, Some(&name))?;
    let slot = api.slot(&caller.key).await?;
    let known = Known::parse(query.as_deref());
    let deadline = Instant::now() + api.config.poll_hold;
    let mut device = slot.device();
    let ahead = known.ahead_of(device.rendered_version).or_else(|| other_contents(&known, &headers, &device));
    api.heard_of(&slot, ahead);
    loop {
        api.check_device(&peer, &caller, &device)?;
        if known.wants(device.rendered_version) {
            return api.news(&device).await;
        }
        if known == Known::Nothing || Instant::now() >= deadline {
            api.metrics.polls_unchanged.inc();
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let Some(woken) = slot.wait_unless_changed(&device) else {
            device = slot.device();
            continue;
        };
        let parked = Parked::new(&api.metrics.parked_polls);
        let wake = tokio::select! {
            wake = woken => wake.unwrap_or(Wake::Changed),
            () = tokio::time::sleep_until(deadline) => Wake::Changed,
            () = peer.closing() => return Ok(StatusCode::NO_CONTENT.into_response()),
        };
        drop(parked);
        if wake == Wake::Replaced {
            api.metrics.polls_replaced.inc();
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        device = slot.device();
        // A version that was just given out may be one that the device has already, with other contents.
        if let Some(ahead) = other_contents(&known, &headers, &device) {
            api.heard_of(&slot, Some(ahead));
        }
    }
}

/// A device that holds other contents under the version it should have: the database came from a backup, and has given
/// the version out a second time. The device takes a version once only, so it counts as one ahead, and gets a fresh one.
/// Agents that do not say what they hold are believed.
fn other_contents(known: &Known, headers: &HeaderMap, device: &IndexedDevice) -> Option<i64> {
    let held = headers.get(annotations::SPEC_HASH_HEADER)?.to_str().ok()?;
    let wanted = device.rendered_digest?.hex();
    let same_version = *known == Known::Version(device.rendered_version) && device.rendered_version < MAX_VERSION;
    if !same_version || held == wanted {
        return None;
    }
    let shown: String = held.chars().take(64).collect();
    warn!(device = %device.name, version = device.rendered_version, held = shown, wanted, "A device holds other contents");
    Some(device.rendered_version + 1)
}

impl Shared {
    /// The device in the index; one that is not there is looked for in the database once.
    pub(crate) async fn slot(&self, key: &DeviceKey) -> Result<Arc<Slot>, ApiError> {
        if let Some(slot) = self.index.find(key) {
            return Ok(slot);
        }
        if !self.index.wait_loaded(LOAD_WAIT).await {
            return Err(ApiError::unavailable("the service is starting; try again later", 10));
        }
        if let Some(slot) = self.index.find(key) {
            return Ok(slot);
        }
        self.metrics.poll_sql_statements.inc();
        match indexed_device(self.store.pool(), key.0, &key.1).await {
            Ok(Some(device)) => Ok(self.index.put(device)),
            Ok(None) => {
                // Not "not found": a device told so would wipe its certificate, and the database may be an old one.
                warn!(device = %key.1, "A device with a valid certificate is not in the database");
                Err(ApiError::unavailable("this device is not known here at present; try again later", 60))
            }
            Err(error) => Err(store_failure(error)),
        }
    }

    async fn news(&self, device: &IndexedDevice) -> Result<Response, ApiError> {
        let missing = || ApiError::unavailable("the device's specification is being made again; try again later", 10);
        let Some(digest) = device.rendered_digest else { return Err(missing()) };
        match self.specs.get(&self.store, digest, &self.metrics.poll_sql_statements).await {
            Ok(spec) => {
                self.metrics.polls_answered.inc();
                Ok(device_answer(device, Some(&spec.body), None))
            }
            Err(SpecError::Missing) => {
                warn!(device = %device.name, %digest, "A rendered document is missing; it is being made again");
                Err(missing())
            }
            // Also while desired state is made again and its tables are gone: never an answer without a document.
            Err(SpecError::Store(error)) => Err(missing().with_source(error)),
        }
    }
}

/// The version a device says it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// It does not say: it wants what there is.
    Nothing,
    /// A number.
    Version(i64),
    /// Something else: whatever there is differs from it.
    Other,
}

impl Known {
    fn parse(query: Option<&str>) -> Self {
        let value = query.unwrap_or_default().split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == "knownRenderedVersion").then_some(value)
        });
        let Some(value) = value else { return Self::Nothing };
        match value.parse::<i64>() {
            // As texts: "07" and "+7" are not the text of version 7.
            Ok(version) if version >= 0 && version.to_string() == value => Self::Version(version),
            _ => Self::Other,
        }
    }

    /// Whether a device that knows this is to get `version`. Never one below what it knows: that happens only when
    /// the database came from a backup, and the device gets a higher one soon. Never version 0: it has no document.
    fn wants(&self, version: i64) -> bool {
        match *self {
            Self::Version(known) if known <= MAX_VERSION.max(version) => version > known,
            Self::Version(_) | Self::Nothing | Self::Other => version > 0,
        }
    }

    /// The known version when it is above `version`, and possible.
    fn ahead_of(&self, version: i64) -> Option<i64> {
        match *self {
            Self::Version(known) if known > version && known <= MAX_VERSION => Some(known),
            Self::Version(_) | Self::Nothing | Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_version_is_compared_as_text_and_never_goes_back() {
        for (query, version, wanted) in [
            (None, 5, true),
            (None, 0, false),
            (Some(""), 5, true),
            (Some("knownRenderedVersion="), 5, true),
            (Some("knownRenderedVersion"), 5, true),
            (Some("knownRenderedVersion=5"), 5, false),
            (Some("knownRenderedVersion=05"), 5, true),
            (Some("knownRenderedVersion=4"), 5, true),
            (Some("a=b&knownRenderedVersion=5&knownRenderedVersion=4"), 5, false),
            (Some("knownRenderedVersion=7"), 5, false),
            (Some("knownRenderedVersion=0"), 0, false),
            (Some("knownRenderedVersion=x"), 0, false),
            (Some("knownRenderedVersion=9223372036854775807"), 5, true),
        ] {
            assert_eq!(Known::parse(query).wants(version), wanted, "{query:?} {version}");
        }
        assert_eq!(Known::parse(Some("knownRenderedVersion=7")).ahead_of(5), Some(7));
        assert_eq!(Known::parse(Some("knownRenderedVersion=9223372036854775807")).ahead_of(5), None);
    }

    proptest::proptest! {
        #[test]
        fn any_query_is_read_and_only_the_exact_text_is_known(query: String, version in 1..i64::MAX) {
            let _ = Known::parse(Some(&query));
            let exact = format!("x=1&knownRenderedVersion={version}");
            proptest::prop_assert_eq!(Known::parse(Some(&exact)), Known::Version(version));
        }
    }
}
