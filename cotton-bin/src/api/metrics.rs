//! Numbers for machines: `/vars.json` with Apache Cotton's names, `/metrics` for Prometheus, `/healthz` and `/readyz`.

use super::Api;
use super::error::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use cotton_core::driver::Metrics;
use cotton_core::{ClusterStatus, ClusterView, CommandError};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::sync::Arc;

/// Name, whether it only grows, and what it counts; those of the scheduler that are not here are gauges without words.
const KNOWN: [(&str, bool, &str); 21] = [
    ("cluster_count", false, "Clusters there are."),
    ("clusters_damaged", false, "Clusters whose stored state was damaged and kept aside."),
    ("elections", true, "Elections begun."),
    ("failovers", true, "Failovers completed."),
    ("framework_registered", false, "Whether the scheduler is connected to Mesos."),
    ("messages_malformed", true, "Messages of executors that were not understood."),
    ("offers_incompatible_role", true, "Offers declined because of their role."),
    ("offers_unused", true, "Offers declined because nothing was wanted."),
    ("resource_offers", true, "Offers received."),
    ("switchovers", true, "Switchovers completed."),
    ("switchovers_failed", true, "Switchovers taken back, or ended by a failover."),
    ("tasks_failed", true, "Tasks that ended with an error."),
    ("tasks_finished", true, "Tasks that ended by themselves without an error."),
    ("tasks_killed", true, "Tasks that ended by a kill."),
    ("tasks_launched", true, "Tasks launched."),
    ("tasks_lost", true, "Tasks lost with their agent or never started."),
    ("tasks_unknown", false, "Tasks that no record accounts for: adopt or discard them."),
    ("total_requested_cpus_milli", false, "Thousandths of cpus asked for by all clusters."),
    ("total_requested_disk_mb", false, "Disk asked for by all clusters, in MiB."),
    ("total_requested_mem_mb", false, "Memory asked for by all clusters, in MiB."),
    ("uptime", false, "Seconds since the start."),
];

const STATUSES: [ClusterStatus; 7] = [
    ClusterStatus::Creating,
    ClusterStatus::Healthy,
    ClusterStatus::Degraded,
    ClusterStatus::Blocked,
    ClusterStatus::FailingOver,
    ClusterStatus::Waiting,
    ClusterStatus::Deleting,
];

/// `GET /vars.json`
pub(super) async fn vars(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    let sample = sample(&api).await?;
    let prefixed = sample.into_iter().map(|(name, value)| match name {
        "total_requested_cpus_milli" => ("scheduler.total_requested_cpus".to_owned(), whole_if_possible(value)),
        name => (format!("scheduler.{name}"), json!(value)),
    });
    Ok(Json(Value::Object(prefixed.collect::<Map<_, _>>())))
}

/// `GET /metrics`
pub(super) async fn prometheus(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let text = exposition(&sample(&api).await?, &api.control.list().await?);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// `GET /healthz`: the process runs and its loop answers.
pub(super) async fn healthz(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    api.control.metrics().await?;
    Ok(Json(json!({ "status": "ok" })))
}

/// `GET /readyz`: commands would be taken.
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Result<Json<Value>, Problem> {
    if !api.was_connected().await? {
        return Err(CommandError::NotConnected.into());
    }
    Ok(Json(json!({ "status": "ready" })))
}

async fn sample(api: &Api) -> Result<Metrics, Problem> {
    let mut sample = api.control.metrics().await?;
    sample.entry("uptime").or_insert_with(|| api.started.elapsed().as_secs());
    Ok(sample)
}

/// Thousandths as Apache Cotton wrote them.
#[expect(clippy::cast_precision_loss, reason = "nobody has that many cpus")]
fn whole_if_possible(milli: u64) -> Value {
    if milli.is_multiple_of(1000) { json!(milli / 1000) } else { json!(milli as f64 / 1000.0) }
}

/// Prometheus' text format.
fn exposition(sample: &Metrics, clusters: &[ClusterView]) -> String {
    let mut text = String::new();
    for (name, value) in sample {
        let known = KNOWN.iter().find(|known| known.0 == *name);
        let (grows, help) = known.map_or((false, "As in /vars.json."), |known| (known.1, known.2));
        let suffix = if grows && !name.ends_with("_total") { "_total" } else { "" };
        let name = format!("cotton_{name}{suffix}");
        head(&mut text, &name, if grows { "counter" } else { "gauge" }, help);
        line(&mut text, &name, "", *value);
    }
    head(&mut text, "cotton_cluster_status", "gauge", "1 for the status that a cluster has.");
    for cluster in clusters {
        for status in STATUSES {
            let labels = format!("cluster=\"{}\",status=\"{}\"", cluster.name, status.name());
            line(&mut text, "cotton_cluster_status", &labels, u64::from(cluster.status == status));
        }
    }
    head(&mut text, "cotton_cluster_size", "gauge", "Members wanted.");
    for cluster in clusters {
        line(&mut text, "cotton_cluster_size", &of(cluster), cluster.size.into());
    }
    head(&mut text, "cotton_cluster_members_healthy", "gauge", "Members that are as they shall be.");
    for cluster in clusters {
        let healthy = cluster.members.iter().filter(|member| member.healthy).count();
        line(&mut text, "cotton_cluster_members_healthy", &of(cluster), healthy as u64);
    }
    head(&mut text, "cotton_cluster_epoch", "gauge", "Current epoch.");
    for cluster in clusters {
        line(&mut text, "cotton_cluster_epoch", &of(cluster), cluster.epoch.0);
    }
    head(&mut text, "cotton_member_lag_seconds", "gauge", "Seconds that a replica is behind.");
    for cluster in clusters {
        for member in &cluster.members {
            if let Some(lag) = member.lag_s {
                let labels = format!("{},member=\"{}\"", of(cluster), member.id);
                line(&mut text, "cotton_member_lag_seconds", &labels, lag);
            }
        }
    }
    head(&mut text, "cotton_member_unapplied", "gauge", "Transactions that a member has received and not applied.");
    for cluster in clusters {
        for member in &cluster.members {
            let labels = format!("{},member=\"{}\"", of(cluster), member.id);
            line(&mut text, "cotton_member_unapplied", &labels, member.unapplied);
        }
    }
    head(&mut text, "cotton_member_errant", "gauge", "1 when a member has transactions that the primary lacks.");
    for cluster in clusters {
        for member in &cluster.members {
            let labels = format!("{},member=\"{}\"", of(cluster), member.id);
            line(&mut text, "cotton_member_errant", &labels, u64::from(member.errant.is_some()));
        }
    }
    head(&mut text, "cotton_cluster_last_failover_ms", "gauge", "How long the latest failover took.");
    for cluster in clusters {
        if let Some(timeline) = &cluster.last_failover {
            line(&mut text, "cotton_cluster_last_failover_ms", &of(cluster), timeline.promoted_ms);
        }
    }
    text
}

fn of(cluster: &ClusterView) -> String {
    format!("cluster=\"{}\"", cluster.name) // names need no escaping
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}"); // a String takes everything
}

fn line(text: &mut String, name: &str, labels: &str, value: u64) {
    let _ =
        if labels.is_empty() { writeln!(text, "{name} {value}") } else { writeln!(text, "{name}{{{labels}}} {value}") };
}
