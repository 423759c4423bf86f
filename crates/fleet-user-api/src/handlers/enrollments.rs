//! Enrolment requests, and the decision on one.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use fleet_http::{ApiError, json, read_json};
use fleet_model::{EnrollmentApproval, EnrollmentRequest, ResourceList, validate_label_key, validate_label_value};
use fleet_store::read_enrollments::{self, EnrollmentRecord};
use fleet_store::{Decided, EnrollmentDecision, NewEvent, Ts, decide_enrollment, record_event};

use crate::api::{Api, Caller, Inner, checked_name, failed, no_such};
use crate::listing::{Params, envelope, next_after};
use crate::permissions::Action;

const KIND: &str = "EnrollmentRequest";
/// A decision has few labels.
const MAX_BODY: usize = 64 * 1024;
/// No decision has more labels.
const MAX_LABELS: usize = 64;
/// How often it is looked whether an approval was carried out.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    params: Params,
) -> Result<Json<ResourceList<EnrollmentRequest>>, ApiError> {
    caller.require(Action::ReadEnrollment)?;
    let mut query = params.list(read_enrollments::FIELDS, true)?;
    let page = read_enrollments::list(inner.pool(), Inner::ORG, &query).await.map_err(failed)?;
    let next = next_after(&page, |request| &request.name);
    let mut remaining = None;
    if next.is_some() {
        query.after.clone_from(&next);
        remaining = Some(read_enrollments::count(inner.pool(), Inner::ORG, &query).await.map_err(failed)?);
    }
    let items = page.items.iter().map(EnrollmentRecord::resource).collect();
    Ok(Json(envelope(KIND, items, next.as_deref(), remaining)))
}

async fn find(inner: &Inner, name: &str) -> Result<EnrollmentRecord, ApiError> {
    let name = checked_name(KIND, name)?;
    let found = read_enrollments::get(inner.pool(), Inner::ORG, name).await.map_err(failed)?;
    found.ok_or_else(|| no_such(KIND, name))
}

pub(crate) async fn get(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<EnrollmentRequest>, ApiError> {
    caller.require(Action::ReadEnrollment)?;
    find(&inner, &name).await.map(|record| Json(record.resource()))
}

/// Records a decision, then waits a moment for it to be carried out. The first decision stands.
pub(crate) async fn decide(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Action::DecideEnrollment)?;
    let name = checked_name(KIND, &name)?;
    let approval: EnrollmentApproval = read_json(request, MAX_BODY).await?;
    check_labels(&approval)?;
    record(&inner, &caller, name, &approval).await?;
    let record = if approval.approved { carried_out(&inner, name).await? } else { find(&inner, name).await? };
    if let Some(failure) = &record.failure {
        let message = format!("enrollment request {name:?} is approved, but it cannot be carried out: {failure}");
        return Err(ApiError::conflict(message));
    }
    let issued = record.certificate.is_some();
    let status = record.resource().status.and_then(|status| status.approval);
    let mut answer = serde_json::to_value(status).map_err(ApiError::internal)?;
    answer["certificateIssued"] = issued.into();
    Ok(json(StatusCode::OK, &answer))
}

fn check_labels(approval: &EnrollmentApproval) -> Result<(), ApiError> {
    let labels = approval.labels.iter().flatten();
    if labels.clone().count() > MAX_LABELS {
        return Err(ApiError::bad_request(format!("labels: more than {MAX_LABELS}")));
    }
    labels
        .into_iter()
        .try_for_each(|(key, value)| validate_label_key(key).and_then(|()| validate_label_value(value)))
        .map_err(|error| ApiError::bad_request(format!("labels: {error}")))
}

async fn record(inner: &Inner, caller: &Caller, name: &str, approval: &EnrollmentApproval) -> Result<(), ApiError> {
    let labels = approval.labels.clone().unwrap_or_default();
    let decision = EnrollmentDecision {
        approved: approval.approved,
        decided_by: &caller.0.name,
        labels: &labels,
        replace_labels: approval.replace_labels,
    };
    let mut transaction = inner.store.begin().await.map_err(failed)?;
    let now = Ts::from(inner.clock.now());
    match decide_enrollment(&mut transaction, Inner::ORG, name, &decision, now).await.map_err(failed)? {
        Decided::Recorded => {}
        Decided::NotFound => return Err(no_such(KIND, name)),
        Decided::AlreadyApproved => return Err(ApiError::bad_request("Enrollment request is already approved")),
        Decided::AlreadyDenied => return Err(ApiError::bad_request("Enrollment request is already denied")),
    }
    let (reason, message) = if approval.approved {
        ("EnrollmentRequestApproved", "Enrollment request was approved")
    } else {
        ("EnrollmentRequestDenied", "Enrollment request was denied")
    };
    let details = serde_json::json!({"labels": labels, "replaceLabels": approval.replace_labels});
    let event = NewEvent {
        kind: KIND,
        name,
        reason,
        warning: false,
        message,
        actor: &caller.0.as_event_actor(),
        details: Some(details),
    };
    record_event(&mut transaction, Inner::ORG, &event).await.map_err(failed)?;
    transaction.commit().await.map_err(|error| failed(error.into()))?;
    inner.metrics.wrote(reason);
    Ok(())
}

/// The request once it has its certificate or failed, or as it is when the wait is over.
async fn carried_out(inner: &Inner, name: &str) -> Result<EnrollmentRecord, ApiError> {
    let until = tokio::time::Instant::now() + inner.config.approval_wait;
    loop {
        let record = find(inner, name).await?;
        let done = record.certificate.is_some() || record.failure.is_some();
        if done || tokio::time::Instant::now() >= until {
            return Ok(record);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
