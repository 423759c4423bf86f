//! The REST APIs of GitHub, GitLab and Gitea (Forgejo): commit statuses, open pull requests, and one comment on each that is
//! kept up to date. It writes nothing else, and reads no contents of repositories.
//!
//! Answers come from outside: they are bounded in size, in time and in pages, and no redirect is followed, so that the
//! token goes to the configured host alone.
#![forbid(unsafe_code)]

mod api;
mod comments;
mod error;
mod place;
mod pulls;
mod settings;
mod status;
mod token;

pub use api::{DEADLINE, Forge};
pub use comments::{Commented, MAX_COMMENT_BYTES, comment_mark};
pub use error::{ForgeError, ForgeErrorKind};
pub use place::{RepositoryPath, host_of};
pub use pulls::{MAX_PULLS, Pull};
pub use settings::{ForgeKind, ForgeSettings, ForgeSettingsError, UnknownForgeKind};
pub use status::{MAX_DESCRIPTION, Status, StatusState, brief};
