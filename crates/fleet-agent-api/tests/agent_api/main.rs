//! The agent interface as devices meet it: real TLS, real certificates, a real database.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod enrollment;
mod identity;
mod polls;
mod renewal;
mod statuses;
mod world;
