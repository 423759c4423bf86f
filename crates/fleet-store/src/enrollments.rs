//! Enrolment requests as devices send them and people decide on them. What becomes of an approved one is in
//! `enrollment_work`; how they are listed, in [`crate::read_enrollments`].

use fleet_model::{
    API_VERSION, Condition, ConditionStatus, DeviceName, EnrollmentApprovalStatus, EnrollmentRequest,
    EnrollmentRequestSpec, EnrollmentRequestStatus, Labels, ObjectMeta, OrgId,
};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::read_enrollments::EnrollmentRecord;
use crate::{Channel, StoreResult, Ts};

/// A request as a device sends it. That its name is the fingerprint of the request's key, and that the sender holds
/// the key, was checked.
#[derive(Debug, Clone)]
pub struct EnrollmentSubmission<'a> {
    /// The device's name.
    pub name: &'a DeviceName,
    /// PEM of the certificate request.
    pub csr: &'a str,
    /// Labels the device asks for.
    pub labels: &'a Labels,
    /// The device's status: a JSON object.
    pub device_status: Option<&'a Value>,
    /// The version the device is at.
    pub known_rendered_version: Option<&'a str>,
    /// `image` or `package`.
    pub os_mode: Option<&'a str>,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It is new and waits for a decision.
    Created,
    /// The device was approved before and has no certificate that works: it gets a new one without a new decision.
    Recovered,
    /// There is a request already; nothing was written.
    Exists,
}

/// Stores a request, and wakes whoever decides on it.
///
/// A device that was approved before gets a new certificate when its enrolment certificate has expired at `now`, or
/// when the approval could not be carried out; its labels stay as they were approved. Never when it was denied, or
/// when any certificate of it was revoked: then a person has to act.
///
/// # Errors
/// When the database fails.
pub async fn submit_enrollment(
    connection: &mut PgConnection,
    org: OrgId,
    submission: &EnrollmentSubmission<'_>,
    now: Ts,
) -> StoreResult<Submitted> {
    let inserted = sqlx::query!(
        "insert into enrollments (org_id, name, created_at, csr, labels, device_status, known_rendered_version, os_mode)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
        org.as_uuid(),
        submission.name.as_str(),
        now as _,
        submission.csr,
        Json(submission.labels) as _,
        submission.device_status,
        submission.known_rendered_version,
        submission.os_mode,
    )
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() == 1 {
        Channel::Enrollment.notify(connection, submission.name.as_str()).await?;
        return Ok(Submitted::Created);
    }
    let recovered = sqlx::query!(
        "update enrollments e
         set csr = $3, certificate = null, failure = null, device_status = coalesce($4, e.device_status),
             os_mode = coalesce($5, e.os_mode)
         where e.org_id = $1 and e.name = $2 and e.decision = 'Approved'
           and (e.certificate is not null or e.failure is not null)
           and not exists (
             select from certificates c
             where c.org_id = e.org_id and c.device = e.name
               and (c.revoked_at is not null
                    or e.failure is null and c.not_after > $6))",
        org.as_uuid(),
        submission.name.as_str(),
        submission.csr,
        submission.device_status,
        submission.os_mode,
        now as _,
    )
    .execute(&mut *connection)
    .await?;
    if recovered.rows_affected() == 0 {
        return Ok(Submitted::Exists);
    }
    Channel::Enrollment.notify(connection, submission.name.as_str()).await?;
    Ok(Submitted::Recovered)
}

/// A person's decision on a request.
#[derive(Debug, Clone)]
pub struct EnrollmentDecision<'a> {
    /// Yes or no.
    pub approved: bool,
    /// The user's name.
    pub decided_by: &'a str,
    /// Labels given with the decision.
    pub labels: &'a Labels,
    /// Whether those replace the device's own.
    pub replace_labels: bool,
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// It stands.
    Recorded,
    /// The request was approved before; nothing was written.
    AlreadyApproved,
    /// The request was denied before; nothing was written.
    AlreadyDenied,
    /// There is no such request.
    NotFound,
}

/// Records a decision and wakes whoever carries it out. The first decision stands.
///
/// # Errors
/// When the database fails.
pub async fn decide_enrollment(
    connection: &mut PgConnection,
    org: OrgId,
    name: &str,
    decision: &EnrollmentDecision<'_>,
    now: Ts,
) -> StoreResult<Decided> {
    let word = if decision.approved { "Approved" } else { "Denied" };
    let done = sqlx::query!(
        "update enrollments
         set decision = $3, decided_by = $4, decided_at = $5, decision_labels = $6, replace_labels = $7
         where org_id = $1 and name = $2 and decision is null",
        org.as_uuid(),
        name,
        word,
        decision.decided_by,
        now as _,
        Json(decision.labels) as _,
        decision.replace_labels,
    )
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 1 {
        Channel::Enrollment.notify(connection, name).await?;
        return Ok(Decided::Recorded);
    }
    let before =
        sqlx::query_scalar!("select decision from enrollments where org_id = $1 and name = $2", org.as_uuid(), name)
            .fetch_optional(connection)
            .await?;
    Ok(match before.flatten().as_deref() {
        Some("Approved") => Decided::AlreadyApproved,
        Some(_) => Decided::AlreadyDenied,
        None => Decided::NotFound,
    })
}

impl EnrollmentRecord {
    /// The request as both interfaces show it.
    pub fn resource(&self) -> EnrollmentRequest {
        EnrollmentRequest {
            api_version: API_VERSION.to_owned(),
            kind: "EnrollmentRequest".to_owned(),
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                creation_timestamp: Some(seconds(self.created_at)),
                ..ObjectMeta::default()
            },
            spec: EnrollmentRequestSpec {
                csr: self.csr.clone(),
                // A status that this version cannot read is left out, not an error: the request itself is fine.
                device_status: self
                    .device_status
                    .as_ref()
                    .and_then(|status| serde_json::from_value(status.0.clone()).ok()),
                labels: (!self.labels.is_empty()).then(|| self.labels.clone()),
                known_rendered_version: self.known_rendered_version.clone(),
                os_mode: self.os_mode.clone(),
            },
            status: Some(self.status()),
        }
    }

    fn status(&self) -> EnrollmentRequestStatus {
        let by = self.decided_by.clone().unwrap_or_default();
        let at = self.decided_at.map(seconds).unwrap_or_default();
        let approved = self.decision.as_deref() == Some("Approved");
        let mut conditions = Vec::new();
        if self.decision.is_some() {
            let (kind, reason) = match (approved, by.starts_with("EnrollmentPolicy/")) {
                (true, true) => ("Approved", "PolicyApproved"),
                (true, false) => ("Approved", "ManuallyApproved"),
                (false, _) => ("Denied", "ManuallyDenied"),
            };
            conditions.push(Condition::new(kind, ConditionStatus::True, reason, format!("{kind} by {by}"), &at));
        }
        if let Some(failure) = &self.failure {
            conditions.push(Condition::new("Failed", ConditionStatus::True, "NotIssued", failure, &at));
        }
        let approval = self.decision.is_some().then(|| EnrollmentApprovalStatus {
            approved,
            labels: (!self.decision_labels.is_empty()).then(|| self.decision_labels.clone()),
            approved_by: by,
            approved_at: at,
        });
        EnrollmentRequestStatus { conditions, certificate: self.certificate.clone(), approval }
    }
}

/// RFC 3339 with whole seconds.
fn seconds(at: Ts) -> String {
    let at = at.to_jiff();
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
