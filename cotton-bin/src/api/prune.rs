//! `/api/v1/prune` and `/api/v1/clusters/{name}/prune`: the disk of what nobody needs, and of what is kept of members that
//! are gone.

use super::error::{Code, Problem};
use super::request::{self, Body};
use super::v1::{self, PathName};
use super::{Api, name};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use cotton_core::cluster::levers::Lever;
use cotton_core::fleet::Left;
use cotton_core::{AgentId, ClusterName, MemberId, VolumeId};
use cotton_mesos::local::{Leftover, LeftoverKind, Local};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long the removal of volumes is waited for, which takes as long as their agents need to offer them.
const REMOVED_WITHIN: Duration = Duration::from_secs(10);

const OF_MESOS: &str = "sandboxes of tasks that have ended belong to Mesos' agents, which remove them by themselves \
                        (--gc_delay of the agents)";
const VOLUMES: &str = "volumes that nobody needs are released as soon as their agents offer them; each is an event";

/// `POST /api/v1/prune`
pub(super) async fn prune(State(api): State<Arc<Api>>, headers: HeaderMap, body: Body) -> Result<Json<Value>, Problem> {
    let fields = v1::optional_json(&headers, body, &["dry_run"])?;
    let dry_run = request::flag(&fields, "dry_run")?;
    let answer = match &api.agents {
        Some(local) => prune_local(&api, local, dry_run).await?,
        None => prune_mesos(&api, dry_run).await?,
    };
    Ok(Json(answer))
}

/// `POST /api/v1/clusters/{name}/prune`
pub(super) async fn prune_kept(
    State(api): State<Arc<Api>>,
    path: PathName,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = name(path)?;
    let fields = v1::change(&api, &name, &headers, body, &["accept_loss", "told"]).await?;
    let accepted = request::accepted_loss(&fields)?;
    api.control.pull(&name, Lever::ReleaseKept { accepted }).await?;
    v1::accepted(&api, &name).await
}

async fn prune_mesos(api: &Api, dry_run: bool) -> Result<Value, Problem> {
    if !dry_run {
        api.control.release_leftovers().await?;
    }
    let volumes = api.control.leftover_volumes().await?;
    let kept = volumes.kept.iter().map(|volume| json!({ "kind": "volume", "id": volume, "why": kept_words(volume) }));
    Ok(json!({
        "dry_run": dry_run,
        "freed": [],
        "freed_bytes": 0,
        "awaited": volumes.awaited,
        "kept": kept.collect::<Vec<_>>(),
        "notes": [OF_MESOS, VOLUMES],
    }))
}

async fn prune_local(api: &Api, local: &Local, dry_run: bool) -> Result<Value, Problem> {
    let failed = |error: cotton_mesos::Error| Problem::new(Code::Internal, error.chain());
    let leftovers = local.leftovers().await.map_err(failed)?;
    let members: Vec<_> = leftovers.iter().filter_map(|left| owner(&left.what)).collect();
    let mut verdicts = api.control.left(members).await?.into_iter();
    let (mut freed, mut kept, mut volumes) = (Vec::new(), Vec::new(), Vec::new());
    let mut freed_bytes = 0;
    for leftover in leftovers {
        let verdict = owner(&leftover.what).and_then(|_| verdicts.next());
        let Some(left) = verdict else {
            kept.push(describe(&leftover, "it was not named by this scheduler"));
            continue;
        };
        match &leftover.what {
            LeftoverKind::Volume(volume) if left == Left::Kept => kept.push(describe(&leftover, &kept_words(volume))),
            _ if !left.is_free() => kept.push(describe(&leftover, &left.to_string())),
            LeftoverKind::Volume(volume) if !dry_run => volumes.push((leftover.clone(), volume.clone(), left)),
            LeftoverKind::Sandbox(task) if !dry_run => match local.remove_sandbox(&leftover.agent, task).await {
                Ok(bytes) => {
                    freed_bytes += bytes;
                    freed.push(describe(&leftover, &left.to_string()));
                }
                Err(error) => kept.push(describe(&leftover, &error.chain())),
            },
            LeftoverKind::Volume(_) | LeftoverKind::Sandbox(_) => {
                freed_bytes += leftover.bytes;
                freed.push(describe(&leftover, &left.to_string()));
            }
        }
    }
    if !volumes.is_empty() {
        api.control.release_leftovers().await?;
        let wanted: Vec<(AgentId, VolumeId)> =
            volumes.iter().map(|(leftover, volume, _)| (leftover.agent.clone(), volume.clone())).collect();
        let there = local.until_removed(&wanted, REMOVED_WITHIN).await;
        for (leftover, volume, left) in volumes {
            if there.contains(&volume) {
                kept.push(describe(&leftover, "it is released as soon as its agent offers it"));
            } else {
                freed_bytes += leftover.bytes;
                freed.push(describe(&leftover, &left.to_string()));
            }
        }
    }
    Ok(json!({
        "dry_run": dry_run,
        "freed": freed,
        "freed_bytes": freed_bytes,
        "awaited": [],
        "kept": kept,
        "notes": [],
    }))
}

/// Whose it was, as its name tells.
fn owner(what: &LeftoverKind) -> Option<(ClusterName, MemberId)> {
    match what {
        LeftoverKind::Sandbox(task) => task.parse().ok().map(|(name, member, _)| (name, member)),
        LeftoverKind::Volume(volume) => volume.parse().ok(),
    }
}

fn kept_words(volume: &VolumeId) -> String {
    let name = volume.parse().map(|(name, _)| name.to_string()).unwrap_or_default();
    format!("{}: 'cotton prune {name}' releases it", Left::Kept)
}

fn describe(leftover: &Leftover, why: &str) -> Value {
    let (kind, id) = match &leftover.what {
        LeftoverKind::Sandbox(task) => ("sandbox", task.to_string()),
        LeftoverKind::Volume(volume) => ("volume", volume.to_string()),
    };
    json!({
        "kind": kind,
        "id": id,
        "agent": leftover.agent,
        "path": leftover.path,
        "bytes": leftover.bytes,
        "why": why,
    })
}
