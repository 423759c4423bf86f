//! The database: the only user of sqlx. One module for each aggregate; SQL is visible and checked at build time.
//!
//! Functions that change something take a connection, so that the caller owns the transaction. Times go in and come
//! out as [`Ts`].
#![forbid(unsafe_code)]

mod device_index;
mod device_reports;
mod devices;
mod enrollment_work;
mod enrollments;
mod error;
mod events;
mod fleets;
mod holds;
mod http_files;
mod input_values;
mod installation_key;
mod inventory;
mod lease;
mod manifests;
mod notify;
mod object_owners;
mod outbox;
mod plans;
mod progress;
pub mod read_devices;
pub mod read_enrollments;
pub mod read_events;
pub mod read_filter;
pub mod read_fleets;
pub mod read_manifests;
pub mod read_plans;
pub mod read_sources;
mod signing_requests;
mod source_hints;
mod source_pins;
mod source_positions;
mod sources;
mod store;
mod suspensions;
mod tombstones;

pub use device_index::{IndexedDevice, devices_changed_since, indexed_device, newest_device_change};
pub use device_reports::{
    Heartbeat, ReportedUpdate, StatusReport, StatusWritten, raise_reported_versions, status_document, write_heartbeats,
    write_status_reports,
};
pub use devices::{
    DeviceRow, DeviceScope, DeviceUpdate, any_dirty_device, devices_in_scope, insert_rendered, lock_device_changes,
    mark_all_devices_dirty, put_enrolled_device, rendered_body, update_devices,
};
pub use enrollment_work::{
    IssuedCertificate, OpenEnrollment, approve_by_policy, complete_enrollment, fail_enrollment, open_enrollments,
    pass_over_enrollment, record_certificate,
};
pub use enrollments::{
    Decided, EnrollmentDecision, EnrollmentSubmission, Submitted, decide_enrollment, submit_enrollment,
};
pub use error::{StoreError, StoreResult};
pub use events::{NewEvent, forget_events, record_event};
pub use fleets::{
    DependencySeen, FleetRow, InputKind, PinnedInput, RevisionRow, TreeContent, TreeFile, find_revisions,
    fleets_in_force, insert_blobs, insert_revision, insert_tree, known_blobs, known_revisions, list_fleets, load_trees,
    record_dependency, replace_fleets, source_dependencies, source_has_problems,
};
pub use holds::{
    HoldDecided, HoldDecision, HoldRow, NewHold, clear_hold, clear_hold_unless_rejected, decide_hold, lock_hold,
    record_hold,
};
pub use http_files::{HttpFile, forget_http_files, http_file, record_http_file};
pub use input_values::{InputValueRow, input_values, settle_input_values, want_input_values};
pub use installation_key::installation_key;
pub use inventory::{
    DeviceManifest, EnrolledDevice, Presence, count_known_devices, device_manifests, enrolled_devices,
};
pub use jiff_sqlx::Timestamp as Ts;
pub use lease::session::LeaseSession;
pub use lease::{Lease, LeaseName};
pub use manifests::{
    ManifestChanges, ManifestPlace, ManifestRow, ManifestState, ManifestStates, StoredManifest, count_manifests,
    manifest_documents, manifests_elsewhere, replace_manifests, stored_manifests,
};
pub use notify::{Channel, Listener};
pub use object_owners::{ObjectOwner, owned_by_absent};
pub use outbox::{
    MAX_WAITING, Message, NewMessage, OpenRollout, ROLLOUT_CONTEXT, drop_untold, due_messages, message_done,
    message_failed, open_rollouts, outbox_backlog, pending_messages, put_message, tidy_outbox, told_by_others,
};
pub use plans::{KEEP_PLANS, PlanRow, record_plan};
pub use progress::{
    RolloutProgress, SourceProgress, record_behind, record_progress, rollout_progress, source_progress,
};
pub use signing_requests::{
    SignedRequest, has_revoked_certificate, insert_signed_request, is_certificate_revoked, lock_device_certificates,
    revoke_device_certificates,
};
pub use source_hints::{SourcePlace, announce_hints, last_hint, replace_taken, source_places, taken_places};
pub use source_pins::{SourcePins, record_pins, source_pins};
pub use source_positions::{SourcePosition, forget_positions_except, last_position, unsettled_sources};
pub use sources::{
    ORIGIN_CONFIG, Observation, SourceDefinition, SourceRow, Verdict, applied_commit, judged_trust, list_sources,
    lock_source, orphaned_sources, put_source, record_applied, record_commit, record_judged_trust, record_observation,
    record_polls, record_verified, remove_source, source_defines_anything, source_origin, sources_above,
};
pub use sqlx::{PgConnection, PgPool, Postgres, Transaction};
pub use store::{ConnectOptions, Store};
pub use suspensions::{Suspension, end_suspension, source_suspension, suspend_source};
pub use tombstones::{Grace, Tombstone, bury, count_tombstones, mark_leaving, remove_expired, restore_leaving, revive};
