//! Content that manifests take from HTTP servers and from secret stores.
//!
//! - [`HttpFetcher`] reads one document from an [`HttpPlace`], asks "is it still the same?" with [`Validators`], and bounds
//!   time, size and redirects. Credentials go to the origin that they are for and to no other.
//! - [`SecretProvider`] reads the keys of one secret: from a directory ([`FilesSecrets`]) or from a Kubernetes API
//!   ([`KubernetesSecrets`]).
//!
//! It decides nothing: what a failure means for a commit is the caller's business. It keeps nothing but idle connections.
//! Every error says what it was, where, and what to do; none holds a secret.
#![forbid(unsafe_code)]

mod error;
mod files;
mod http;
mod kubernetes;
mod names;
mod place;
mod secret;
mod secrets;

pub use error::{FetchError, FetchErrorKind};
pub use files::{FilesSecrets, read_secret_directory};
pub use http::{FetchLimits, Fetched, HttpFetcher};
pub use kubernetes::{ApiServer, KubernetesSecrets};
pub use names::{check_secret_key, check_secret_name, check_secret_namespace};
pub use place::{ClientIdentity, HttpAuth, HttpOptions, HttpPlace, Validators};
pub use secret::SecretBytes;
pub use secrets::{MAX_SECRET_BYTES, SecretProvider};
