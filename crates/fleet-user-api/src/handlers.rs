//! The handlers, by what they show, and what their answers have in common.

pub(crate) mod csrs;
pub(crate) mod decisions;
pub(crate) mod devices;
pub(crate) mod enrollments;
pub(crate) mod events;
pub(crate) mod manifests;
pub(crate) mod plans;
pub(crate) mod sources;

use fleet_store::Ts;
use jiff::Timestamp;

/// RFC 3339 with whole seconds, as resources carry it.
fn whole_seconds(at: Ts) -> String {
    let at = at.to_jiff();
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
