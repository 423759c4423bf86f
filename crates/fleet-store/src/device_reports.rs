//! What devices report, written in batches: status documents with the columns derived from them, and heartbeats.

use fleet_model::{DeviceName, OrgId};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{Channel, StoreResult, Ts};

/// A status that a device sent, with what is derived from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReport {
    /// The device's organisation.
    pub org: OrgId,
    /// The device.
    pub name: DeviceName,
    /// The status: text of a JSON object without NUL characters.
    pub document: String,
    /// When it came.
    pub received_at: Ts,
    /// The version that is applied on the device.
    pub reported_version: i64,
    /// `summary.status` as the service sees it.
    pub summary: String,
    /// `applicationsSummary.status` as the service sees it.
    pub applications: String,
    /// What the device says about updating.
    pub update: ReportedUpdate,
    /// Reason of the `Updating` condition.
    pub update_reason: String,
    /// Message of the `Updating` condition.
    pub update_message: String,
}

/// What a device says about updating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportedUpdate {
    /// It is updating now.
    Updating,
    /// It is not: versions decide.
    Idle,
    /// It is not, and runs something else than its version says, whatever the versions are.
    Deviates,
}

/// What the service knew of the device when the status was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusWritten {
    /// `updated.status` as the service sees it: `Updating`, `UpToDate` or `OutOfDate`.
    pub updated: &'static str,
}

/// `updated.status` from what a device reports and what it should have.
fn updated_status(report: &StatusReport, rendered_version: i64, render_failed: bool) -> &'static str {
    match report.update {
        ReportedUpdate::Updating => "Updating",
        ReportedUpdate::Deviates => "OutOfDate",
        ReportedUpdate::Idle if render_failed || report.reported_version != rendered_version => "OutOfDate",
        ReportedUpdate::Idle => "UpToDate",
    }
}

/// Writes status reports of different devices: document and derived columns. The answers are in the order of
/// `reports`; `None` for a device that does not exist, of which nothing is written.
///
/// A device that reports a higher version than it was ever given (the database came from a backup) is marked dirty,
/// so that it gets a document with a version above that.
///
/// # Errors
/// When the database fails; [`crate::StoreError::is_retryable`] tells whether to try again at once.
pub async fn write_status_reports(
    connection: &mut PgConnection,
    reports: &[StatusReport],
) -> StoreResult<Vec<Option<StatusWritten>>> {
    let orgs: Vec<Uuid> = reports.iter().map(|r| r.org.as_uuid()).collect();
    let names: Vec<String> = reports.iter().map(|r| r.name.as_str().to_owned()).collect();
    // Locked in one order, so that batches of several replicas do not wait for each other in a circle.
    let known = sqlx::query!(
        r#"select u.at as "at!", d.rendered_version, d.render_error is not null as "render_failed!"
           from devices d join unnest($1::uuid[], $2::text[]) with ordinality as u (org_id, name, at)
             on d.org_id = u.org_id and d.name = u.name
           order by d.org_id, d.name for no key update of d"#,
        &orgs,
        &names,
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut answers = vec![None; reports.len()];
    let mut rows = Columns::default();
    let mut ahead = false;
    for device in known {
        let at = usize::try_from(device.at - 1).unwrap_or(usize::MAX);
        let Some(report) = reports.get(at) else { continue };
        let updated = updated_status(report, device.rendered_version, device.render_failed);
        ahead |= report.reported_version > device.rendered_version;
        answers[at] = Some(StatusWritten { updated });
        rows.push(report, updated);
    }
    rows.write(connection).await?;
    if ahead {
        Channel::Enrollment.notify(connection, "").await?;
    }
    Ok(answers)
}

/// One array for each column.
#[derive(Default)]
struct Columns {
    orgs: Vec<Uuid>,
    names: Vec<String>,
    documents: Vec<String>,
    received: Vec<Ts>,
    versions: Vec<i64>,
    summaries: Vec<String>,
    updated: Vec<String>,
    applications: Vec<String>,
    reasons: Vec<String>,
    messages: Vec<String>,
}

impl Columns {
    fn push(&mut self, report: &StatusReport, updated: &str) {
        self.orgs.push(report.org.as_uuid());
        self.names.push(report.name.as_str().to_owned());
        self.documents.push(report.document.clone());
        self.received.push(report.received_at);
        self.versions.push(report.reported_version);
        self.summaries.push(report.summary.clone());
        self.updated.push(updated.to_owned());
        self.applications.push(report.applications.clone());
        self.reasons.push(report.update_reason.clone());
        self.messages.push(report.update_message.clone());
    }

    async fn write(&self, connection: &mut PgConnection) -> StoreResult<()> {
        sqlx::query!(
            "insert into device_status (org_id, name, document, received_at)
             select u.org_id, u.name, u.document::jsonb, u.received_at
             from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[])
               as u (org_id, name, document, received_at)
             on conflict (org_id, name) do update
               set document = excluded.document, received_at = excluded.received_at",
            &self.orgs,
            &self.names,
            &self.documents,
            &self.received as _,
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!(
            "update devices d
             set reported_version = u.version, summary_status = u.summary, updated_status = u.updated,
                 applications_status = u.applications, update_reason = u.reason, update_message = u.message,
                 dirty = d.dirty or u.version > d.rendered_version
             from unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
                         $8::text[])
               as u (org_id, name, version, summary, updated, applications, reason, message)
             where d.org_id = u.org_id and d.name = u.name
               and (u.version > d.rendered_version
                    or (d.reported_version, d.summary_status, d.updated_status, d.applications_status,
                        d.update_reason, d.update_message)
                       is distinct from
                       (u.version, u.summary, u.updated, u.applications, u.reason, u.message))",
            &self.orgs,
            &self.names,
            &self.versions,
            &self.summaries,
            &self.updated,
            &self.applications,
            &self.reasons,
            &self.messages,
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// A device was heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The device's organisation.
    pub org: OrgId,
    /// The device.
    pub name: DeviceName,
    /// When.
    pub at: Ts,
}

/// Writes heartbeats of different devices. A time never goes back.
///
/// # Errors
/// When the database fails.
pub async fn write_heartbeats(connection: &mut PgConnection, beats: &[Heartbeat]) -> StoreResult<()> {
    let orgs: Vec<Uuid> = beats.iter().map(|b| b.org.as_uuid()).collect();
    let names: Vec<String> = beats.iter().map(|b| b.name.as_str().to_owned()).collect();
    let times: Vec<Ts> = beats.iter().map(|b| b.at).collect();
    sqlx::query!(
        "insert into device_liveness (org_id, name, last_seen)
         select * from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as u (org_id, name, at)
         order by u.org_id, u.name
         on conflict (org_id, name) do update set last_seen = excluded.last_seen
           where device_liveness.last_seen < excluded.last_seen",
        &orgs,
        &names,
        &times as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that devices know of higher versions than they were ever given (the database came from a backup), and marks
/// them to get a document with a version above that.
///
/// # Errors
/// When the database fails.
pub async fn raise_reported_versions(
    connection: &mut PgConnection,
    known: &[(OrgId, DeviceName, i64)],
) -> StoreResult<()> {
    let orgs: Vec<Uuid> = known.iter().map(|(org, _, _)| org.as_uuid()).collect();
    let names: Vec<String> = known.iter().map(|(_, name, _)| name.as_str().to_owned()).collect();
    let versions: Vec<i64> = known.iter().map(|(_, _, version)| *version).collect();
    let done = sqlx::query!(
        "update devices d set reported_version = greatest(d.reported_version, u.version), dirty = true
         from unnest($1::uuid[], $2::text[], $3::bigint[]) as u (org_id, name, version)
         where d.org_id = u.org_id and d.name = u.name and u.version > d.rendered_version",
        &orgs,
        &names,
        &versions,
    )
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() > 0 {
        Channel::Enrollment.notify(connection, "").await?;
    }
    Ok(())
}

/// The status that a device reported last, as it was answered; `None` before its first.
///
/// # Errors
/// When the database fails.
pub async fn status_document(pool: &PgPool, org: OrgId, name: &str) -> StoreResult<Option<serde_json::Value>> {
    Ok(sqlx::query_scalar!("select document from device_status where org_id = $1 and name = $2", org.as_uuid(), name,)
        .fetch_optional(pool)
        .await?)
}
