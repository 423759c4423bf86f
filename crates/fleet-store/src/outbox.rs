//! What Git hosts are to be told of commits. Written in the transaction of the decision that it tells of; told afterwards, at
//! least once. Durable.

use fleet_model::{CommitId, OrgId};
use sqlx::{PgConnection, PgPool};

use crate::sources::parse_commit;
use crate::{StoreResult, Ts};

/// So many things may wait for each source; older ones make room.
pub const MAX_WAITING: i64 = 500;
/// The context of a rollout: its rows stay while it goes on.
pub const ROLLOUT_CONTEXT: &str = "shorebase/rollout";

/// Something to tell.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// The source.
    pub source: &'a str,
    /// Its repository.
    pub url: &'a str,
    /// The commit.
    pub commit: &'a CommitId,
    /// What it is about.
    pub context: &'a str,
    /// `pending`, `success`, `failure` or `error`.
    pub state: &'a str,
    /// One line of at most 140 characters.
    pub description: &'a str,
    /// Where people read more.
    pub target_url: Option<&'a str>,
}

/// Something that waits to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The source.
    pub source: String,
    /// Its repository.
    pub url: String,
    /// The commit.
    pub commit: CommitId,
    /// What it is about.
    pub context: String,
    /// `pending`, `success`, `failure` or `error`.
    pub state: String,
    /// One line.
    pub description: String,
    /// Where people read more.
    pub target_url: Option<String>,
    /// Names this state of the row.
    pub sequence: i64,
    /// How often it was tried.
    pub attempts: i32,
}

/// A message as it is stored.
struct MessageRow {
    source: String,
    url: String,
    commit_id: String,
    context: String,
    state: String,
    description: String,
    target_url: Option<String>,
    sequence: i64,
    attempts: i32,
}

impl MessageRow {
    fn read(self) -> StoreResult<Message> {
        Ok(Message {
            commit: parse_commit(&self.commit_id)?,
            source: self.source,
            url: self.url,
            context: self.context,
            state: self.state,
            description: self.description,
            target_url: self.target_url,
            sequence: self.sequence,
            attempts: self.attempts,
        })
    }
}

/// Puts something into the outbox, in place of what waits or was told in the same context of the same commit. What was told
/// already, in the same words, is not told again. Returns whether there is something new to tell.
///
/// # Errors
/// When the database fails.
pub async fn put_message(
    connection: &mut PgConnection,
    org: OrgId,
    message: &NewMessage<'_>,
    at: Ts,
) -> StoreResult<bool> {
    let done = sqlx::query!(
        "insert into outbox as o
           (org_id, source, url, commit_id, context, state, description, target_url, sequence, created_at, next_attempt_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, nextval('outbox_seq'), $9, $9)
         on conflict (org_id, source, commit_id, context) do update
           set url = excluded.url, state = excluded.state, description = excluded.description,
               target_url = excluded.target_url, sequence = excluded.sequence, created_at = excluded.created_at,
               -- A host that asked for patience gets it for what is new, too.
               next_attempt_at = case when o.sent_at is null then o.next_attempt_at else excluded.next_attempt_at end,
               attempts = case when o.sent_at is null then o.attempts else 0 end,
               last_error = null, sent_at = null
           where (o.url, o.state, o.description, o.target_url)
                 is distinct from (excluded.url, excluded.state, excluded.description, excluded.target_url)",
        org.as_uuid(),
        message.source,
        message.url,
        message.commit.as_str(),
        message.context,
        message.state,
        message.description,
        message.target_url,
        at as _,
    )
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "delete from outbox o using (
           select commit_id, context from outbox where org_id = $1 and source = $2 and sent_at is null
           order by sequence desc offset $3) as old
         where o.org_id = $1 and o.source = $2 and o.commit_id = old.commit_id and o.context = old.context",
        org.as_uuid(),
        message.source,
        MAX_WAITING,
    )
    .execute(connection)
    .await?;
    Ok(true)
}

/// The oldest thing that waits in each context of each source, where its time has come: what is next to tell. Of
/// repositories whose URL starts with `prefix` and with none of `except`; oldest first.
///
/// # Errors
/// When the database fails.
pub async fn due_messages(
    pool: &PgPool,
    org: OrgId,
    prefix: &str,
    except: &[String],
    now: Ts,
    limit: i64,
) -> StoreResult<Vec<Message>> {
    let rows = sqlx::query_as!(
        MessageRow,
        "select source, url, commit_id, context, state, description, target_url, sequence, attempts
         from (select distinct on (source, context) * from outbox
               where org_id = $1 and sent_at is null and starts_with(url, $2)
                 and not exists (select from unnest($3::text[]) as other (prefix) where starts_with(url, other.prefix))
               order by source, context, sequence) as first
         where next_attempt_at <= $4
         order by sequence limit $5",
        org.as_uuid(),
        prefix,
        except,
        now as _,
        limit,
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(MessageRow::read).collect()
}

/// The repositories, as other sources name them, that anything is or was to be told of for this commit, not longer ago than
/// rows are kept.
///
/// # Errors
/// When the database fails.
pub async fn told_by_others(pool: &PgPool, org: OrgId, source: &str, commit: &CommitId) -> StoreResult<Vec<String>> {
    let sql = "select distinct url from outbox where org_id = $1 and source <> $2 and commit_id = $3";
    Ok(sqlx::query_scalar(sql).bind(org.as_uuid()).bind(source).bind(commit.as_str()).fetch_all(pool).await?)
}

/// Notes that a message is done with: told, or given up because of an error. When it says something else by now, that waits.
///
/// # Errors
/// When the database fails.
pub async fn message_done(
    connection: &mut PgConnection,
    org: OrgId,
    message: &Message,
    error: Option<&str>,
    at: Ts,
) -> StoreResult<()> {
    sqlx::query!(
        "update outbox set sent_at = $6, attempts = attempts + 1, last_error = $7
         where org_id = $1 and source = $2 and commit_id = $3 and context = $4 and sequence = $5",
        org.as_uuid(),
        message.source,
        message.commit.as_str(),
        message.context,
        message.sequence,
        at as _,
        error,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that a message could not be told, and when to try again. A newer state in its place waits as long.
///
/// # Errors
/// When the database fails.
pub async fn message_failed(
    connection: &mut PgConnection,
    org: OrgId,
    message: &Message,
    error: &str,
    again_at: Ts,
) -> StoreResult<()> {
    sqlx::query!(
        "update outbox set attempts = attempts + 1, last_error = $5, next_attempt_at = $6
         where org_id = $1 and source = $2 and commit_id = $3 and context = $4 and sent_at is null",
        org.as_uuid(),
        message.source,
        message.commit.as_str(),
        message.context,
        error,
        again_at as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes what was told before `told_before`, and what nobody could be told and is older than `written_before`. The row of a
/// rollout that goes on stays. Returns how many went.
///
/// # Errors
/// When the database fails.
pub async fn tidy_outbox(
    connection: &mut PgConnection,
    org: OrgId,
    told_before: Ts,
    written_before: Ts,
) -> StoreResult<u64> {
    let done = sqlx::query!(
        "delete from outbox o
         where o.org_id = $1 and (o.sent_at < $2 or o.created_at < $3)
           and not (o.context = 'shorebase/rollout' and o.state in ('pending', 'failure')
                    and exists (select from desired.sources s where s.org_id = o.org_id and s.name = o.source
                                and s.applied_commit = o.commit_id))",
        org.as_uuid(),
        told_before as _,
        written_before as _,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Removes what waits since before `written_before` for a forge that nobody tells anything: `forges` are the prefixes of those
/// there are, with whether they are told. Returns how many went.
///
/// # Errors
/// When the database fails.
pub async fn drop_untold(
    connection: &mut PgConnection,
    org: OrgId,
    forges: &[(String, bool)],
    written_before: Ts,
) -> StoreResult<u64> {
    let prefixes: Vec<String> = forges.iter().map(|(prefix, _)| prefix.clone()).collect();
    let told: Vec<bool> = forges.iter().map(|(_, told)| *told).collect();
    let done = sqlx::query!(
        "delete from outbox o
         where o.org_id = $1 and o.sent_at is null and o.created_at < $4
           and not coalesce((select f.told from unnest($2::text[], $3::bool[]) as f (prefix, told)
                             where starts_with(o.url, f.prefix) order by length(f.prefix) desc limit 1), false)",
        org.as_uuid(),
        &prefixes,
        &told,
        written_before as _,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// A rollout that is told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenRollout {
    /// The source.
    pub source: String,
    /// Its repository.
    pub url: String,
    /// The commit in force.
    pub commit: CommitId,
    /// What was said last.
    pub description: String,
}

/// Rollouts of commits in force whose end was not told yet.
///
/// # Errors
/// When the database fails.
pub async fn open_rollouts(pool: &PgPool, org: OrgId) -> StoreResult<Vec<OpenRollout>> {
    let rows = sqlx::query!(
        "select o.source, o.url, o.commit_id, o.description from outbox o
         join desired.sources s on s.org_id = o.org_id and s.name = o.source and s.applied_commit = o.commit_id
         where o.org_id = $1 and o.context = 'shorebase/rollout' and o.state in ('pending', 'failure') order by o.source",
        org.as_uuid(),
    )
    .fetch_all(pool)
    .await?;
    let open = rows.into_iter().map(|row| {
        let commit = parse_commit(&row.commit_id)?;
        Ok(OpenRollout { source: row.source, url: row.url, commit, description: row.description })
    });
    open.collect()
}

/// Messages about commits of a source other than `commit` that stand as `pending`: what they said is over.
///
/// # Errors
/// When the database fails.
pub async fn pending_messages(
    connection: &mut PgConnection,
    org: OrgId,
    source: &str,
    commit: &CommitId,
) -> StoreResult<Vec<Message>> {
    let rows = sqlx::query_as!(
        MessageRow,
        "select source, url, commit_id, context, state, description, target_url, sequence, attempts from outbox
         where org_id = $1 and source = $2 and commit_id <> $3 and state = 'pending' order by sequence limit 100",
        org.as_uuid(),
        source,
        commit.as_str(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(MessageRow::read).collect()
}

/// How many messages wait, and how many seconds the oldest has waited.
///
/// # Errors
/// When the database fails.
pub async fn outbox_backlog(pool: &PgPool, org: OrgId, now: Ts) -> StoreResult<(i64, i64)> {
    let row = sqlx::query!(
        r#"select count(*) as "waiting!",
                  coalesce(extract(epoch from $2::timestamptz - min(created_at)), 0)::bigint as "oldest!"
           from outbox where org_id = $1 and sent_at is null"#,
        org.as_uuid(),
        now as _,
    )
    .fetch_one(pool)
    .await?;
    Ok((row.waiting, row.oldest.max(0)))
}
