//! Enrolment and certificate signing requests as the read API shows them.

use fleet_model::{Labels, OrgId};
use sqlx::types::Json;
use sqlx::{PgPool, Postgres, QueryBuilder};

use crate::read_filter::{Field, ListQuery, Page};
use crate::{StoreResult, Ts};

const NAME: Field = Field::text("metadata.name", "e.name");
/// The fields that enrolment requests can be filtered by.
pub const FIELDS: &[Field] = &[
    NAME,
    Field::text("metadata.owner", "(null::text)"),
    Field::time("metadata.creationTimestamp", "e.created_at"),
    Field::text(
        "status.approval.approved",
        "(case e.decision when 'Approved' then 'true' when 'Denied' then 'false' end)",
    ),
    Field::text("status.certificate", "e.certificate"),
];

/// An enrolment request and what became of it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EnrollmentRecord {
    /// The device's name.
    pub name: String,
    /// When it came.
    pub created_at: Ts,
    /// PEM of the PKCS#10 request.
    pub csr: String,
    /// Labels the device asks for.
    #[sqlx(json)]
    pub labels: Labels,
    /// The device's status at that time.
    pub device_status: Option<Json<serde_json::Value>>,
    /// The version the device is at.
    pub known_rendered_version: Option<String>,
    /// `image` or `package`.
    pub os_mode: Option<String>,
    /// `Approved` or `Denied`.
    pub decision: Option<String>,
    /// Who decided.
    pub decided_by: Option<String>,
    /// When.
    pub decided_at: Option<Ts>,
    /// Labels given with the decision.
    #[sqlx(json)]
    pub decision_labels: Labels,
    /// PEM chain of the management certificate.
    pub certificate: Option<String>,
    /// Why an approved request could not be carried out.
    pub failure: Option<String>,
}

/// A page of enrolment requests, by name.
///
/// # Errors
/// When the database fails.
pub async fn list(pool: &PgPool, org: OrgId, query: &ListQuery) -> StoreResult<Page<EnrollmentRecord>> {
    let mut sql = QueryBuilder::<Postgres>::new(
        "select e.name, e.created_at, e.csr, e.labels, e.device_status, e.known_rendered_version, e.os_mode, e.decision,
            e.decided_by, e.decided_at, e.decision_labels, e.certificate, e.failure
         from enrollments e where e.org_id = ",
    );
    sql.push_bind(org.as_uuid());
    query.push_filter(&mut sql, "e.labels");
    query.push_page(&mut sql, "e.name");
    Ok(Page::cut(sql.build_query_as().fetch_all(pool).await?, query.limit))
}

/// How many enrolment requests the query selects after its page's begin.
///
/// # Errors
/// When the database fails.
pub async fn count(pool: &PgPool, org: OrgId, query: &ListQuery) -> StoreResult<i64> {
    let mut sql = QueryBuilder::<Postgres>::new("select count(*) from enrollments e where e.org_id = ");
    sql.push_bind(org.as_uuid());
    query.push_filter(&mut sql, "e.labels");
    if let Some(after) = &query.after {
        sql.push(" and e.name > ").push_bind(after.clone());
    }
    Ok(sql.build_query_scalar().fetch_one(pool).await?)
}

/// One enrolment request.
///
/// # Errors
/// When the database fails.
pub async fn get(pool: &PgPool, org: OrgId, name: &str) -> StoreResult<Option<EnrollmentRecord>> {
    Ok(list(pool, org, &ListQuery::named(NAME, name)).await?.items.pop())
}

const CSR_NAME: Field = Field::text("metadata.name", "c.name");
/// The fields that certificate signing requests can be filtered by.
pub const CSR_FIELDS: &[Field] = &[
    CSR_NAME,
    Field::text("metadata.owner", "c.owner"),
    Field::time("metadata.creationTimestamp", "c.created_at"),
    Field::text("status.certificate", "c.certificate"),
];

/// A certificate signing request and its answer.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct CsrRecord {
    /// Name.
    pub name: String,
    /// When it came.
    pub created_at: Ts,
    /// `Device/<name>` or `User/<name>`.
    pub owner: String,
    /// Base64 of the PEM of the request.
    pub request: String,
    /// Who is to sign.
    pub signer_name: String,
    /// What the certificate is for.
    pub usages: Vec<String>,
    /// A shorter life than the signer's default.
    pub expiration_seconds: Option<i64>,
    /// Base64 of the PEM chain, as stored.
    pub certificate: Option<String>,
}

/// A page of certificate signing requests, by name.
///
/// # Errors
/// When the database fails.
pub async fn list_csrs(pool: &PgPool, org: OrgId, query: &ListQuery) -> StoreResult<Page<CsrRecord>> {
    let mut sql = QueryBuilder::<Postgres>::new(
        "select c.name, c.created_at, c.owner, c.request, c.signer_name, c.usages, c.expiration_seconds, c.certificate
         from certificate_signing_requests c where c.org_id = ",
    );
    sql.push_bind(org.as_uuid());
    query.push_filter(&mut sql, "'{}'::jsonb");
    query.push_page(&mut sql, "c.name");
    Ok(Page::cut(sql.build_query_as().fetch_all(pool).await?, query.limit))
}

/// One certificate signing request.
///
/// # Errors
/// When the database fails.
pub async fn get_csr(pool: &PgPool, org: OrgId, name: &str) -> StoreResult<Option<CsrRecord>> {
    Ok(list_csrs(pool, org, &ListQuery::named(CSR_NAME, name)).await?.items.pop())
}
