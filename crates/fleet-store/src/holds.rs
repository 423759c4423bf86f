//! Commits that wait for a person, and the decisions about them. Durable: they outlive desired state.

use fleet_model::{CommitId, Digest, OrgId};
use serde_json::Value;
use sqlx::PgConnection;

use crate::sources::parse_commit;
use crate::{StoreError, StoreResult, Ts};

/// A held commit as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct HoldRow {
    /// The commit.
    pub commit: CommitId,
    /// The plan that was made last.
    pub digest: Digest,
    /// `BlastRadius`, `NonFastForward` or `PlanStale`.
    pub reason: String,
    /// Why, in sentences.
    pub sentences: Vec<String>,
    /// What was decided.
    pub decision: Option<HoldDecision>,
}

/// What somebody decided about a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldDecision {
    /// The plan.
    pub digest: Digest,
    /// Whether it may be applied.
    pub approved: bool,
    /// Who decided: `user:<name>`.
    pub by: String,
    /// In their words; may be empty.
    pub reason: String,
}

/// A hold to store.
#[derive(Debug, Clone)]
pub struct NewHold<'a> {
    /// The source.
    pub source: &'a str,
    /// The commit.
    pub commit: &'a CommitId,
    /// The commit that stays applied.
    pub base: Option<&'a CommitId>,
    /// `BlastRadius`, `NonFastForward` or `PlanStale`.
    pub reason: &'a str,
    /// Why, in sentences.
    pub sentences: &'a [String],
    /// The plan's digest.
    pub digest: Digest,
    /// Counts, and one sentence for people.
    pub summary: Value,
    /// The whole plan.
    pub plan: Value,
}

/// What came of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldDecided {
    /// It is recorded.
    Recorded,
    /// The same was decided before.
    Already,
    /// Another plan is held by now.
    Changed {
        /// Its commit.
        commit: CommitId,
        /// Its digest.
        digest: Digest,
    },
    /// No commit of the source is held.
    NotHeld,
}

fn digest(raw: &[u8]) -> StoreResult<Digest> {
    Digest::try_from(raw).map_err(|e| StoreError::Corrupt { what: "plan digest", reason: e.to_string() })
}

/// The held commit of a source. Locks it for the transaction.
///
/// # Errors
/// When the database fails.
pub async fn lock_hold(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<Option<HoldRow>> {
    let row = sqlx::query!(
        "select commit_id, digest, reason, sentences, decided_digest, approved, decided_by, decision_reason
         from source_holds where org_id = $1 and source = $2 for update",
        org.as_uuid(),
        source,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let decision = match (row.decided_digest, row.approved, row.decided_by, row.decision_reason) {
            (Some(raw), Some(approved), Some(by), Some(reason)) => {
                Some(HoldDecision { digest: digest(&raw)?, approved, by, reason })
            }
            (_, _, _, _) => None,
        };
        Ok(HoldRow {
            commit: parse_commit(&row.commit_id)?,
            digest: digest(&row.digest)?,
            reason: row.reason,
            sentences: row.sentences,
            decision,
        })
    })
    .transpose()
}

/// Stores a hold in place of the one the source has, without a decision. While it is the same commit it keeps since when it
/// is held.
///
/// # Errors
/// When the database fails.
pub async fn record_hold(connection: &mut PgConnection, org: OrgId, hold: &NewHold<'_>, at: Ts) -> StoreResult<()> {
    sqlx::query!(
        "insert into source_holds as h
           (org_id, source, commit_id, base_commit, reason, sentences, digest, summary, plan, held_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (org_id, source) do update
           set commit_id = excluded.commit_id, base_commit = excluded.base_commit, reason = excluded.reason,
               sentences = excluded.sentences, digest = excluded.digest, summary = excluded.summary,
               plan = excluded.plan,
               held_at = case when h.commit_id = excluded.commit_id then h.held_at else excluded.held_at end,
               decided_digest = null, approved = null, decided_by = null, decided_at = null, decision_reason = null",
        org.as_uuid(),
        hold.source,
        hold.commit.as_str(),
        hold.base.map(CommitId::as_str),
        hold.reason,
        hold.sentences,
        hold.digest.as_bytes(),
        hold.summary,
        hold.plan,
        at as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the hold of a source.
///
/// # Errors
/// When the database fails.
pub async fn clear_hold(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<()> {
    sqlx::query!("delete from source_holds where org_id = $1 and source = $2", org.as_uuid(), source)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends the hold of a source, unless its commit was rejected: the branch may go back to it, and nobody is asked again.
///
/// # Errors
/// When the database fails.
pub async fn clear_hold_unless_rejected(connection: &mut PgConnection, org: OrgId, source: &str) -> StoreResult<()> {
    sqlx::query("delete from source_holds where org_id = $1 and source = $2 and approved is distinct from false")
        .bind(org.as_uuid())
        .bind(source)
        .execute(connection)
        .await?;
    Ok(())
}

/// Records a decision when exactly this plan is held; with `commit`, when it is held for exactly that commit. The last
/// decision stands until the commit is applied or another one is held.
///
/// # Errors
/// When the database fails.
pub async fn decide_hold(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    commit: Option<&CommitId>,
    decision: &HoldDecision,
    at: Ts,
) -> StoreResult<HoldDecided> {
    let Some(held) = lock_hold(&mut *connection, org, source).await? else { return Ok(HoldDecided::NotHeld) };
    if held.digest != decision.digest || commit.is_some_and(|commit| *commit != held.commit) {
        return Ok(HoldDecided::Changed { commit: held.commit, digest: held.digest });
    }
    if held.decision.is_some_and(|old| (old.digest, old.approved) == (decision.digest, decision.approved)) {
        return Ok(HoldDecided::Already);
    }
    sqlx::query!(
        "update source_holds
         set decided_digest = $3, approved = $4, decided_by = $5, decided_at = $6, decision_reason = $7
         where org_id = $1 and source = $2",
        org.as_uuid(),
        source,
        decision.digest.as_bytes(),
        decision.approved,
        decision.by,
        at as _,
        decision.reason,
    )
    .execute(connection)
    .await?;
    Ok(HoldDecided::Recorded)
}
