//! Enrolment requests as the reconciler sees them: who waits for a decision, and who for a certificate.

use fleet_model::{Digest, Labels, OrgId};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::{StoreResult, Ts};

/// An enrolment request that is not finished.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenEnrollment {
    /// The device's name.
    pub name: String,
    /// PEM of the certificate request.
    pub csr: String,
    /// Labels the device asks for.
    pub labels: Labels,
    /// The device's status when it asked.
    pub device_status: Option<Value>,
    /// The version the device is at, when it was managed before.
    pub known_rendered_version: Option<String>,
    /// Whether it is approved and waits only for its certificate.
    pub approved: bool,
    /// Labels given with the approval.
    pub decision_labels: Labels,
    /// Whether those replace the device's own.
    pub replace_labels: bool,
}

/// Requests that are approved and have no certificate, then those that nobody decided on and that were not looked at
/// under these policies yet (`policies`: their digest); the oldest first, at most `limit`, locked for this transaction.
///
/// # Errors
/// When the database fails.
pub async fn open_enrollments(
    connection: &mut PgConnection,
    org: OrgId,
    policies: Digest,
    limit: i64,
) -> StoreResult<Vec<OpenEnrollment>> {
    let rows = sqlx::query!(
        r#"select name, csr, labels as "labels: Json<Labels>", device_status, known_rendered_version,
                  decision is not distinct from 'Approved' as "approved!",
                  decision_labels as "decision_labels: Json<Labels>", replace_labels
           from enrollments
           where org_id = $1 and certificate is null and failure is null and decision is distinct from 'Denied'
             and (decision is not null or policies_seen is distinct from $2)
           order by decision is null, created_at limit $3 for update skip locked"#,
        org.as_uuid(),
        policies.as_bytes(),
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| OpenEnrollment {
            name: row.name,
            csr: row.csr,
            labels: row.labels.0,
            device_status: row.device_status,
            known_rendered_version: row.known_rendered_version,
            approved: row.approved,
            decision_labels: row.decision_labels.0,
            replace_labels: row.replace_labels,
        })
        .collect())
}

/// Approves a request in a policy's name.
///
/// # Errors
/// When the database fails.
pub async fn approve_by_policy(
    connection: &mut PgConnection,
    org: OrgId,
    name: &str,
    policy: &str,
    labels: &Labels,
    at: Ts,
) -> StoreResult<()> {
    sqlx::query!(
        "update enrollments set decision = 'Approved', decided_by = $3, decided_at = $4, decision_labels = $5
         where org_id = $1 and name = $2 and decision is null",
        org.as_uuid(),
        name,
        format!("EnrollmentPolicy/{policy}"),
        at as _,
        Json(labels) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that no policy approves a request; it is looked at again when the policies change.
///
/// # Errors
/// When the database fails.
pub async fn pass_over_enrollment(
    connection: &mut PgConnection,
    org: OrgId,
    name: &str,
    policies: Digest,
) -> StoreResult<()> {
    sqlx::query!(
        "update enrollments set policies_seen = $3 where org_id = $1 and name = $2",
        org.as_uuid(),
        name,
        policies.as_bytes(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuedCertificate {
    /// Hex serial number.
    pub serial: String,
    /// The device it names; `None` for an enrolment certificate.
    pub device: Option<String>,
    /// The signer's name.
    pub signer: String,
    /// SHA-256 of its DER.
    pub fingerprint: Digest,
    /// Valid from.
    pub not_before: Ts,
    /// Valid until.
    pub not_after: Ts,
}

/// Notes an issued certificate.
///
/// # Errors
/// When the database fails, or the serial number was used before.
pub async fn record_certificate(
    connection: &mut PgConnection,
    org: OrgId,
    issued: &IssuedCertificate,
) -> StoreResult<()> {
    sqlx::query!(
        "insert into certificates (serial, org_id, device, signer, fingerprint, not_before, not_after)
         values ($1, $2, $3, $4, $5, $6, $7)",
        issued.serial,
        org.as_uuid(),
        issued.device,
        issued.signer,
        issued.fingerprint.as_bytes(),
        issued.not_before as _,
        issued.not_after as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Hands a request its certificate (a PEM chain).
///
/// # Errors
/// When the database fails.
pub async fn complete_enrollment(
    connection: &mut PgConnection,
    org: OrgId,
    name: &str,
    chain_pem: &str,
) -> StoreResult<()> {
    sqlx::query!(
        "update enrollments set certificate = $3 where org_id = $1 and name = $2 and decision = 'Approved'",
        org.as_uuid(),
        name,
        chain_pem,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes why a request cannot be carried out; it is not tried again.
///
/// # Errors
/// When the database fails.
pub async fn fail_enrollment(connection: &mut PgConnection, org: OrgId, name: &str, failure: &str) -> StoreResult<()> {
    sqlx::query!("update enrollments set failure = $3 where org_id = $1 and name = $2", org.as_uuid(), name, failure,)
        .execute(connection)
        .await?;
    Ok(())
}
