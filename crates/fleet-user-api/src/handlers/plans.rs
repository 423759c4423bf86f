//! Plans: what the applied commits of a source changed, newest first.

use axum::Json;
use axum::extract::{Path, State};
use fleet_http::ApiError;
use fleet_model::{
    AppliedPlan, AppliedPlanSpec, AppliedPlanStatus, Digest, ObjectMeta, ResourceList, SHOREBASE_API_VERSION,
};
use fleet_store::read_plans::{self, PlanRecord};
use serde_json::Value;

use super::{sources, whole_seconds};
use crate::api::{Api, Caller, Inner, checked_name, failed, no_such};
use crate::listing::{Params, envelope};
use crate::permissions::Action;

/// The text form of a digest from the database; `None` when it is none.
pub(super) fn plan_digest(raw: &[u8]) -> Option<String> {
    Digest::try_from(raw).ok().map(|digest| digest.to_string())
}

fn plan(record: PlanRecord, whole: Option<Value>) -> AppliedPlan {
    AppliedPlan {
        api_version: SHOREBASE_API_VERSION.to_owned(),
        kind: "Plan".to_owned(),
        metadata: ObjectMeta {
            name: Some(record.commit_id.clone()),
            owner: Some(format!("Source/{}", record.source)),
            creation_timestamp: Some(whole_seconds(record.created_at)),
            ..ObjectMeta::default()
        },
        spec: AppliedPlanSpec { source: record.source, commit: record.commit_id, base_commit: record.base_commit },
        status: AppliedPlanStatus {
            digest: plan_digest(&record.digest).unwrap_or_default(),
            summary: record.summary,
            plan: whole,
        },
    }
}

pub(crate) async fn list(
    State(inner): Api,
    caller: Caller,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<ResourceList<AppliedPlan>>, ApiError> {
    caller.require(Action::ReadInventory)?;
    let limit = usize::from(params.list(&[], false)?.limit);
    sources::find(&inner, &name).await?;
    let mut all = read_plans::list(inner.pool(), Inner::ORG, &name).await.map_err(failed)?;
    // There are few: whoever asks for less gets the newest, and no further page.
    all.truncate(limit);
    let mut list = envelope("Plan", all.into_iter().map(|record| plan(record, None)).collect(), None, None);
    SHOREBASE_API_VERSION.clone_into(&mut list.api_version);
    Ok(Json(list))
}

pub(crate) async fn get(
    State(inner): Api,
    caller: Caller,
    Path((name, commit)): Path<(String, String)>,
) -> Result<Json<AppliedPlan>, ApiError> {
    caller.require(Action::ReadInventory)?;
    let (name, commit) = (checked_name("Source", &name)?, checked_name("Plan", &commit)?);
    let found = read_plans::get(inner.pool(), Inner::ORG, name, commit).await.map_err(failed)?;
    let (record, whole) = found.ok_or_else(|| no_such("Plan", commit))?;
    Ok(Json(plan(record, Some(whole))))
}
