//! What each role may do, and the complete list of what users may write. Desired state is not in it: it comes from Git.

use std::collections::BTreeSet;

use axum::http::Method;
use fleet_http::ApiError;
use fleet_model::Role;

use crate::auth::Actor;

/// Something that needs a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read who one is, the version and the organizations.
    ReadService,
    /// Read devices, fleets, repositories, sources with their plans, and events.
    ReadInventory,
    /// Read rendered documents, which hold file contents.
    ReadRendered,
    /// Read enrolment and certificate signing requests.
    ReadEnrollment,
    /// Approve or deny an enrolment request.
    DecideEnrollment,
    /// Get an enrolment certificate.
    RequestEnrollmentCertificate,
    /// Have a source polled now.
    SyncSource,
    /// Announce that repositories changed. No role gives it: each webhook has a secret of its own, and no user.
    SendHint,
    /// Approve or reject a commit that waits for a person.
    DecideHold,
    /// Suspend a source, or resume it.
    SuspendSource,
}

impl Action {
    /// The roles of which one is needed.
    pub fn roles(self) -> &'static [Role] {
        use Role::{Admin, Installer, Operator, Viewer};
        match self {
            Self::ReadService | Self::ReadEnrollment => &[Viewer, Operator, Installer, Admin],
            Self::ReadInventory => &[Viewer, Operator, Admin],
            Self::ReadRendered | Self::SyncSource => &[Operator, Admin],
            Self::SendHint => &[],
            Self::DecideEnrollment | Self::RequestEnrollmentCertificate => &[Installer, Admin],
            Self::DecideHold | Self::SuspendSource => &[Admin],
        }
    }

    /// Checks that the actor has one of the roles.
    ///
    /// # Errors
    /// 403 that names the roles that would do.
    pub fn require(self, actor: &Actor) -> Result<(), ApiError> {
        if self.roles().iter().any(|role| actor.roles.contains(role)) {
            return Ok(());
        }
        let names =
            |roles: &mut dyn Iterator<Item = &Role>| roles.map(|role| role.as_str()).collect::<Vec<_>>().join(" or ");
        let needed = names(&mut self.roles().iter());
        let held: &BTreeSet<Role> = &actor.roles;
        let held = if held.is_empty() { "no role".to_owned() } else { names(&mut held.iter()).replace(" or ", ", ") };
        Err(ApiError::forbidden(format!("{} has {held}; this needs {needed}", actor.name)))
    }
}

/// One thing that users may write.
#[derive(Debug, Clone)]
pub struct PermittedWrite {
    /// HTTP method.
    pub method: Method,
    /// Path below `/api/v1`.
    pub path: &'static str,
    /// The permission it needs.
    pub action: Action,
    /// The reasons of the events that tell of it.
    pub event_reasons: &'static [&'static str],
}

/// All that users may write, and Git hosts. Every entry is authorised by its [`Action`] and, where it has reasons, recorded
/// as an event with its actor.
pub const PERMITTED_WRITES: [PermittedWrite; 8] = [
    PermittedWrite {
        method: Method::PUT,
        path: "/enrollmentrequests/{name}/approval",
        action: Action::DecideEnrollment,
        event_reasons: &["EnrollmentRequestApproved", "EnrollmentRequestDenied"],
    },
    PermittedWrite {
        method: Method::POST,
        path: "/certificatesigningrequests",
        action: Action::RequestEnrollmentCertificate,
        event_reasons: &["EnrollmentCertificateIssued"],
    },
    PermittedWrite {
        method: Method::POST,
        path: "/sources/{name}/sync",
        action: Action::SyncSource,
        event_reasons: &["SourceSyncRequested"],
    },
    PermittedWrite {
        method: Method::POST,
        path: "/sources/{name}/approve",
        action: Action::DecideHold,
        event_reasons: &["HoldApproved"],
    },
    PermittedWrite {
        method: Method::POST,
        path: "/sources/{name}/reject",
        action: Action::DecideHold,
        event_reasons: &["HoldRejected"],
    },
    PermittedWrite {
        method: Method::POST,
        path: "/sources/{name}/suspend",
        action: Action::SuspendSource,
        event_reasons: &["SourceSuspended"],
    },
    PermittedWrite {
        method: Method::POST,
        path: "/sources/{name}/resume",
        action: Action::SuspendSource,
        event_reasons: &["SourceResumed"],
    },
    // It wakes sources and notes when; there may be many, so they are counted and no events.
    PermittedWrite { method: Method::POST, path: "/webhooks/{name}", action: Action::SendHint, event_reasons: &[] },
];
