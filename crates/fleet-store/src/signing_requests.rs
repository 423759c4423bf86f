//! Certificate signing requests of devices that renew, and the revocation of certificates.

use fleet_model::{DeviceName, OrgId};
use sqlx::{PgConnection, PgPool};

use crate::devices::lock_device_changes;
use crate::{Channel, StoreResult, Ts};

/// A request that was signed.
#[derive(Debug, Clone)]
pub struct SignedRequest<'a> {
    /// The request's name.
    pub name: &'a str,
    /// Who asked: `Device/<name>` or `User/<name>`.
    pub owner: &'a str,
    /// Base64 of the PEM of the request.
    pub request: &'a str,
    /// Who signed.
    pub signer_name: &'a str,
    /// What the certificate is for.
    pub usages: &'a [String],
    /// The life that was asked for, in seconds.
    pub expiration_seconds: Option<i64>,
    /// Base64 of the PEM of the chain.
    pub certificate: &'a str,
}

/// Stores a signed request. `false` when the name is taken; nothing was written then. The certificate itself is noted
/// with [`crate::record_certificate`] in the same transaction.
///
/// # Errors
/// When the database fails.
pub async fn insert_signed_request(
    connection: &mut PgConnection,
    org: OrgId,
    request: &SignedRequest<'_>,
    now: Ts,
) -> StoreResult<bool> {
    let done = sqlx::query!(
        "insert into certificate_signing_requests
           (org_id, name, created_at, owner, request, signer_name, usages, expiration_seconds, certificate)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
        org.as_uuid(),
        request.name,
        now as _,
        request.owner,
        request.request,
        request.signer_name,
        request.usages,
        request.expiration_seconds,
        request.certificate,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps other transactions that issue or revoke certificates of this device waiting until this one ends.
///
/// # Errors
/// When the database fails.
pub async fn lock_device_certificates(
    connection: &mut PgConnection,
    org: OrgId,
    device: &DeviceName,
) -> StoreResult<()> {
    sqlx::query!(
        "select 1 as one from devices where org_id = $1 and name = $2 for no key update",
        org.as_uuid(),
        device.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// Whether any certificate of the device was revoked.
///
/// # Errors
/// When the database fails.
pub async fn has_revoked_certificate(
    connection: &mut PgConnection,
    org: OrgId,
    device: &DeviceName,
) -> StoreResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select from certificates where org_id = $1 and device = $2 and revoked_at is not null)
           as "any!""#,
        org.as_uuid(),
        device.as_str(),
    )
    .fetch_one(connection)
    .await?)
}

/// Revokes every certificate of a device that is not revoked yet, and wakes the API replicas, which cut the device's
/// sessions. Returns how many there were.
///
/// # Errors
/// When the database fails.
pub async fn revoke_device_certificates(
    connection: &mut PgConnection,
    org: OrgId,
    device: &DeviceName,
    reason: &str,
    now: Ts,
) -> StoreResult<u64> {
    lock_device_changes(connection).await?;
    // Renewals of the device wait from here on, or are seen below.
    lock_device_certificates(connection, org, device).await?;
    let revoked = sqlx::query!(
        "update certificates set revoked_at = $3, revocation_reason = $4
         where org_id = $1 and device = $2 and revoked_at is null",
        org.as_uuid(),
        device.as_str(),
        now as _,
        reason,
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    sqlx::query!(
        "update devices set change_seq = nextval('device_change_seq') where org_id = $1 and name = $2",
        org.as_uuid(),
        device.as_str(),
    )
    .execute(&mut *connection)
    .await?;
    Channel::Devices.notify(connection, "").await?;
    Ok(revoked)
}

/// Whether the certificate with this serial number (lower-case hex) was revoked. One that was never noted was not.
///
/// # Errors
/// When the database fails.
pub async fn is_certificate_revoked(pool: &PgPool, serial: &str) -> StoreResult<bool> {
    let revoked = sqlx::query_scalar!(
        r#"select revoked_at is not null as "revoked!" from certificates where serial = $1"#,
        serial,
    )
    .fetch_optional(pool)
    .await?;
    Ok(revoked.unwrap_or(false))
}
