//! HTTP serving that both interfaces share: listeners with TLS, limits, error bodies, request ids, protocol versions.
//!
//! - [`serve`] runs a router behind TLS, [`serve_plain`] without; both join every task they start.
//! - Every request carries a [`PeerConnection`]: who is at the other end, by certificate.
//! - [`with_api_conventions`] wraps a router in what every answer of an API has in common.
//! - [`ApiError`] is the one way to fail: it becomes a `Status` body. [`ApiJson`] reads bodies, [`json`] writes them.
//!
//! It knows nothing of devices, users or the database.
#![forbid(unsafe_code)]

mod body;
mod conventions;
mod error;
mod io;
mod limits;
mod peer;
mod serve;

pub use body::{ApiJson, json, json_bytes, read_bytes, read_json};
pub use conventions::{Conventions, RequestId, with_api_conventions};
pub use error::ApiError;
pub use limits::HttpLimits;
pub use peer::PeerConnection;
pub use serve::{serve, serve_plain};
