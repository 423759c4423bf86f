//! The service: configuration, the embedded database, and the wiring of all parts.
#![forbid(unsafe_code)]

pub mod config;
mod credentials;
mod data_dir;
mod health;
mod listeners;
pub mod postgres;
mod service;

pub use service::{migrate, serve};
