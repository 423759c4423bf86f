//! Plans: what the applied commits of a source changed, newest first, and what the one that waits would change.

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

fn plan(record: PlanRecord, held: bool, whole: Option<Value>) -> AppliedPlan {
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
            held,
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
    let mut list = envelope("Plan", all.into_iter().map(|record| plan(record, false, None)).collect(), None, None);
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
    // A commit in force can wait, too: when something that it takes from elsewhere has moved.
    if let Some((record, whole)) = read_plans::get_held(inner.pool(), Inner::ORG, name, commit).await.map_err(failed)? {
        return Ok(Json(plan(record, true, Some(whole))));
    }
    let found = read_plans::get(inner.pool(), Inner::ORG, name, commit).await.map_err(failed)?;
    let (record, whole) = found.ok_or_else(|| no_such("Plan", commit))?;
    Ok(Json(plan(record, false, Some(whole))))
}
