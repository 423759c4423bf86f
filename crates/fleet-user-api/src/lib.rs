//! The users' interface: read-mostly HTTP with bearer tokens. Desired state is read-only here, because it comes from
//! Git: whoever tries to write it learns the repository, file and line where to. What may be written is listed in
//! [`PERMITTED_WRITES`].
//!
//! - [`UserApi`] makes the router. It starts no tasks; [`HintSender`] is one to run when there are webhooks.
//! - [`Authenticator`] recognises users by JWTs of the service's [`LocalIssuer`] and of OpenID Connect providers.
//! - [`selector`] parses label and field selectors.
#![forbid(unsafe_code)]

mod api;
mod auth;
mod handlers;
mod listing;
mod metrics;
mod permissions;
mod read_only;
pub mod selector;
mod webhooks;

pub use api::{UserApi, UserApiConfig};
pub use auth::{
    Actor, AuthConfigError, AuthError, Authenticator, KeyLocation, LocalIssuer, LocalIssuerError, OidcConfig,
};
pub use metrics::UserApiMetrics;
pub use permissions::{Action, PERMITTED_WRITES, PermittedWrite};
pub use webhooks::{HintSender, UnknownWebhookProvider, Webhook, WebhookProvider, WebhookSecret, WebhookSecretError};
