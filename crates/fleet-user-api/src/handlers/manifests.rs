//! Desired state as Git defines it: fleets with their revisions, repositories, resource syncs.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use fleet_http::ApiError;
use fleet_model::{API_VERSION, Kind, ResourceList, annotations};
use fleet_store::read_devices::{self, DevicesSummary};
use fleet_store::read_filter::{ListQuery, Page};
use fleet_store::read_fleets::{self, FleetState, RevisionRecord};
use fleet_store::read_manifests::{self, DependencyRecord, ManifestRecord};
use fleet_store::read_sources::{self, SourceRecord};
use serde_json::Value;

use super::whole_seconds;
use crate::api::{Api, Caller, Inner, checked_name, failed, no_such};
use crate::listing::{Params, envelope, next_after};
use crate::permissions::Action;

type Listed = Result<Json<ResourceList<Value>>, ApiError>;
type One = Result<Json<Value>, ApiError>;

/// A page of manifests, what follows it, and how much.
async fn page(
    inner: &Inner,
    kind: Kind,
    mut query: ListQuery,
) -> Result<(Page<ManifestRecord>, Option<String>, Option<i64>), ApiError> {
    let page = read_manifests::list(inner.pool(), Inner::ORG, kind, &query).await.map_err(failed)?;
    let next = next_after(&page, |manifest| &manifest.name);
    let mut remaining = None;
    if next.is_some() {
        query.after.clone_from(&next);
        remaining = Some(read_manifests::count(inner.pool(), Inner::ORG, kind, &query).await.map_err(failed)?);
    }
    Ok((page, next, remaining))
}

async fn one(inner: &Inner, kind: Kind, name: &str) -> Result<ManifestRecord, ApiError> {
    let name = checked_name(kind.as_str(), name)?;
    let found = read_manifests::get(inner.pool(), Inner::ORG, kind, name).await.map_err(failed)?;
    found.ok_or_else(|| no_such(kind.as_str(), name))
}

/// The manifest as a resource: what Git says, and where it says so.
fn resource(manifest: &ManifestRecord) -> Value {
    let mut object = manifest.document.clone();
    if !object.is_object() {
        object = serde_json::json!({});
    }
    if !object["metadata"].is_object() {
        object["metadata"] = serde_json::json!({});
    }
    let metadata = &mut object["metadata"];
    metadata["name"] = manifest.name.as_str().into();
    metadata["owner"] = manifest.owner().into();
    metadata["generation"] = manifest.generation.into();
    metadata["resourceVersion"] = manifest.generation.to_string().into();
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = serde_json::json!({});
    }
    metadata["annotations"][annotations::SOURCE] = manifest.source.as_str().into();
    metadata["annotations"][annotations::COMMIT] = manifest.commit_id.as_str().into();
    metadata["annotations"]["shorebase/file"] = format!("{}:{}", manifest.file, manifest.line).into();
    if let (Some(commit), Some(at), Some(until)) = (&manifest.removed_by, manifest.removed_at, manifest.expires_at) {
        metadata["deletionTimestamp"] = whole_seconds(at).into();
        metadata["annotations"][annotations::REMOVED_BY] = commit.as_str().into();
        metadata["annotations"][annotations::IN_FORCE_UNTIL] = whole_seconds(until).into();
    }
    object
}

/// That an object left Git, for people.
fn terminating(manifest: &ManifestRecord) -> Option<Value> {
    let (commit, at, until) = (manifest.removed_by.as_deref()?, manifest.removed_at?, manifest.expires_at?);
    let commit: String = commit.chars().take(12).collect();
    let message = format!(
        "left Git with commit {commit}; in force until {}, and back as it was when a commit has it again before",
        whole_seconds(until)
    );
    Some(condition("Terminating", "True", "RemovedFromGit", &message, &whole_seconds(at)))
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, at: &str) -> Value {
    serde_json::json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at,
    })
}

const BEGINNING: &str = "1970-01-01T00:00:00Z";

/// When each source was applied last: the closest to when its objects last changed.
async fn applied(inner: &Inner) -> Result<BTreeMap<String, String>, ApiError> {
    let sources = read_sources::list(inner.pool(), Inner::ORG).await.map_err(failed)?;
    Ok(sources.into_iter().filter_map(|s| Some((s.name, whole_seconds(s.applied_at?)))).collect())
}

async fn fleets(inner: &Inner, manifests: &[ManifestRecord], summary: bool) -> Result<Vec<Value>, ApiError> {
    let names: Vec<String> = manifests.iter().map(|m| m.name.clone()).collect();
    let states = read_fleets::states(inner.pool(), Inner::ORG, &names).await.map_err(failed)?;
    let mut summaries = None;
    if summary {
        let read = read_devices::summaries_of_fleets(inner.pool(), Inner::ORG, &names).await;
        summaries = Some(read.map_err(failed)?);
    }
    let applied = applied(inner).await?;
    let none = DevicesSummary::default();
    Ok(manifests
        .iter()
        .map(|manifest| {
            let at = applied.get(&manifest.source).map_or(BEGINNING, String::as_str);
            let mut object = fleet(manifest, states.get(&manifest.name), at);
            if let Some(all) = &summaries {
                let summary = all.get(&manifest.name).unwrap_or(&none);
                object["status"]["devicesSummary"] = super::devices::summary_json(summary);
            }
            object
        })
        .collect())
}

fn fleet(manifest: &ManifestRecord, state: Option<&FleetState>, at: &str) -> Value {
    let mut object = resource(manifest);
    if let Some(revision) = state.and_then(|s| s.revision.as_deref()) {
        object["metadata"]["annotations"][annotations::TEMPLATE_VERSION] = revision.into();
    }
    let valid = match state {
        Some(FleetState { problem: Some(problem), .. }) => condition("Valid", "False", "Invalid", problem, at),
        Some(FleetState { revision: Some(_), .. }) => condition("Valid", "True", "Valid", "", at),
        _ => condition("Valid", "Unknown", "Pending", "no revision was made of this fleet yet", at),
    };
    let conditions: Vec<Value> = [valid].into_iter().chain(terminating(manifest)).collect();
    object["status"] = serde_json::json!({"conditions": conditions});
    object
}

pub(crate) async fn list_fleets(State(inner): Api, caller: Caller, params: Params) -> Listed {
    caller.require(Action::ReadInventory)?;
    let query = params.list(read_manifests::FLEET_FIELDS, true)?;
    let (page, next, remaining) = page(&inner, Kind::Fleet, query).await?;
    let items = fleets(&inner, &page.items, params.flag("addDevicesSummary")?).await?;
    Ok(Json(envelope("Fleet", items, next.as_deref(), remaining)))
}

pub(crate) async fn get_fleet(State(inner): Api, caller: Caller, Path(name): Path<String>, params: Params) -> One {
    caller.require(Action::ReadInventory)?;
    let manifest = one(&inner, Kind::Fleet, &name).await?;
    let mut found = fleets(&inner, &[manifest], params.flag("addDevicesSummary")?).await?;
    found.pop().map(Json).ok_or_else(|| no_such("Fleet", &name))
}

fn revision(record: RevisionRecord) -> Value {
    let mut status = record.template;
    if !status.is_object() {
        status = serde_json::json!({});
    }
    let at = whole_seconds(record.created_at);
    status["updatedAt"] = at.as_str().into();
    status["conditions"] = serde_json::json!([]);
    serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": "TemplateVersion",
        "metadata": {
            "name": record.name,
            "owner": format!("Fleet/{}", record.fleet),
            "creationTimestamp": at,
            "annotations": {annotations::SOURCE: record.source, annotations::COMMIT: record.commit_id},
        },
        "spec": {"fleet": record.fleet},
        "status": status,
    })
}

pub(crate) async fn list_revisions(
    State(inner): Api,
    caller: Caller,
    Path(fleet): Path<String>,
    params: Params,
) -> Listed {
    caller.require(Action::ReadInventory)?;
    let fleet = checked_name("Fleet", &fleet)?;
    let query = params.list(read_fleets::REVISION_FIELDS, false)?;
    let page = read_fleets::revisions(inner.pool(), Inner::ORG, fleet, &query).await.map_err(failed)?;
    let next = next_after(&page, |r| &r.name);
    let items = page.items.into_iter().map(revision).collect();
    Ok(Json(envelope("TemplateVersion", items, next.as_deref(), None)))
}

pub(crate) async fn get_revision(
    State(inner): Api,
    caller: Caller,
    Path((fleet, name)): Path<(String, String)>,
) -> One {
    caller.require(Action::ReadInventory)?;
    let (fleet, name) = (checked_name("Fleet", &fleet)?, checked_name("TemplateVersion", &name)?);
    let found = read_fleets::revision(inner.pool(), Inner::ORG, fleet, name).await.map_err(failed)?;
    found.map(revision).map(Json).ok_or_else(|| no_such("TemplateVersion", name))
}

/// The fields of a repository that hold secrets when somebody let one through.
const SECRETS: [&str; 8] = [
    "/spec/httpConfig/username",
    "/spec/httpConfig/password",
    "/spec/httpConfig/token",
    "/spec/httpConfig/tls.crt",
    "/spec/httpConfig/tls.key",
    "/spec/sshConfig/sshPrivateKey",
    "/spec/sshConfig/privateKeyPassphrase",
    "/spec/ociAuth/password",
];

fn repository(manifest: &ManifestRecord, hosts: &[DependencyRecord]) -> Value {
    let mut object = resource(manifest);
    for pointer in SECRETS {
        if let Some(secret) = object.pointer_mut(pointer) {
            *secret = "*****".into();
        }
    }
    if let Some(url) = object.pointer_mut("/spec/url") {
        *url = url.as_str().map(super::sources::without_credentials).into();
    }
    let of_this = || hosts.iter().filter(|host| host.repository == manifest.name);
    let at = of_this().filter_map(|host| host.last_polled_at).map(whole_seconds).max();
    let at = at.as_deref().unwrap_or(BEGINNING);
    let failed = of_this().find_map(|host| Some((host.error.as_deref()?, &host.revision)));
    let accessible = match failed {
        Some((error, revision)) => {
            vec![condition("Accessible", "False", "Inaccessible", &format!("revision {revision}: {error}"), at)]
        }
        None if of_this().next().is_some() => vec![condition("Accessible", "True", "Accessible", "", at)],
        None => Vec::new(),
    };
    object["status"] = serde_json::json!({"conditions": accessible});
    object
}

async fn hosts(inner: &Inner, manifests: &[ManifestRecord]) -> Result<Vec<DependencyRecord>, ApiError> {
    let names: Vec<String> = manifests.iter().map(|m| m.name.clone()).collect();
    read_manifests::dependencies(inner.pool(), Inner::ORG, &names).await.map_err(failed)
}

pub(crate) async fn list_repositories(State(inner): Api, caller: Caller, params: Params) -> Listed {
    caller.require(Action::ReadInventory)?;
    let query = params.list(read_manifests::REPOSITORY_FIELDS, true)?;
    let (page, next, remaining) = page(&inner, Kind::Repository, query).await?;
    let hosts = hosts(&inner, &page.items).await?;
    let items = page.items.iter().map(|m| repository(m, &hosts)).collect();
    Ok(Json(envelope("Repository", items, next.as_deref(), remaining)))
}

pub(crate) async fn get_repository(State(inner): Api, caller: Caller, Path(name): Path<String>) -> One {
    caller.require(Action::ReadInventory)?;
    let manifest = one(&inner, Kind::Repository, &name).await?;
    let hosts = hosts(&inner, std::slice::from_ref(&manifest)).await?;
    Ok(Json(repository(&manifest, &hosts)))
}

/// Our conditions of a source under the names that resource syncs have.
const RESOURCE_SYNC_CONDITIONS: [(&str, &str); 3] =
    [("SourceReachable", "Accessible"), ("Parsed", "ResourceParsed"), ("Ready", "Synced")];

fn resource_sync(manifest: &ManifestRecord, sources: &[SourceRecord]) -> Value {
    let mut object = resource(manifest);
    let origin = format!("ResourceSync/{}", manifest.name);
    let source = sources.iter().find(|source| source.origin == origin);
    let mut status = serde_json::json!({"conditions": []});
    if let Some(source) = source {
        let conditions: Vec<Value> = source
            .conditions
            .0
            .iter()
            .filter_map(|c| {
                let (_, name) = RESOURCE_SYNC_CONDITIONS.into_iter().find(|(ours, _)| *ours == c.kind)?;
                let mut condition = serde_json::to_value(c).ok()?;
                condition["type"] = name.into();
                Some(condition)
            })
            .collect();
        status["conditions"] = conditions.into();
        status["observedGeneration"] = manifest.generation.into();
        if let Some(commit) = &source.observed_commit {
            status["observedCommit"] = commit.as_str().into();
        }
    }
    object["status"] = status;
    object
}

pub(crate) async fn list_resource_syncs(State(inner): Api, caller: Caller, params: Params) -> Listed {
    caller.require(Action::ReadInventory)?;
    let query = params.list(read_manifests::RESOURCE_SYNC_FIELDS, true)?;
    let (page, next, remaining) = page(&inner, Kind::ResourceSync, query).await?;
    let sources = read_sources::list(inner.pool(), Inner::ORG).await.map_err(failed)?;
    let items = page.items.iter().map(|m| resource_sync(m, &sources)).collect();
    Ok(Json(envelope("ResourceSync", items, next.as_deref(), remaining)))
}

pub(crate) async fn get_resource_sync(State(inner): Api, caller: Caller, Path(name): Path<String>) -> One {
    caller.require(Action::ReadInventory)?;
    let manifest = one(&inner, Kind::ResourceSync, &name).await?;
    let sources = read_sources::list(inner.pool(), Inner::ORG).await.map_err(failed)?;
    Ok(Json(resource_sync(&manifest, &sources)))
}
