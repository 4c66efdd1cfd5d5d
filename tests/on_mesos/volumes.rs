//! Members on persistent volumes: what ends a task does not end its data.

use crate::{Outcome, SOME, STEP, checks, cluster};
use cotton_tests::{Cluster, Failure, Member, MesosOptions, Stock, StockOptions, Writer};
use serde_json::{Value, json};
use std::time::Instant;

/// Agents and a scheduler that has a role, and thus makes volumes.
pub(crate) async fn with_volumes(agents: u16) -> Result<Option<Stock>, Failure> {
    let mesos = MesosOptions { agents, ..MesosOptions::default() };
    let flags = vec![("framework_role", "db".to_owned())];
    Stock::start_with(StockOptions { mesos, flags, ..StockOptions::default() }).await
}

/// All persistent volumes, and how much of what is reserved, as the master tells.
async fn reserved(stock: &Stock) -> Result<Vec<String>, Failure> {
    let said = stock.mesos.operator(json!({ "type": "GET_AGENTS" })).await?;
    let agents = said["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
    let resources = agents.iter().filter_map(|agent| agent["total_resources"].as_array()).flatten();
    let mine = resources.filter(|resource| resource["reservations"].as_array().is_some_and(|all| !all.is_empty()));
    let name = |resource: &Value| {
        let volume = resource["disk"]["persistence"]["id"].as_str().and_then(|id| id.split_once('.'));
        volume.map_or_else(|| resource["name"].as_str().unwrap_or("?").to_owned(), |(_, volume)| volume.to_owned())
    };
    let mut names: Vec<String> = mine.map(name).collect();
    names.sort_unstable();
    Ok(names)
}

async fn volumes(stock: &Stock) -> Result<Vec<String>, Failure> {
    let mut names = reserved(stock).await?;
    names.retain(|name| name.starts_with("mysos-"));
    Ok(names)
}

/// A member with its data is back as another task.
pub(crate) fn is_back(cluster: &Cluster, before: &Member) -> bool {
    let now = cluster.member(before.id);
    cluster.is_healthy() && now.is_some_and(|now| now.task != before.task && now.agent == before.agent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_comes_back_to_its_data() -> Outcome {
    let Some(mut stock) = with_volumes(3).await? else { return Ok(()) };
    let (client, seen) = cluster(&stock, "a", 3).await?;
    let api = stock.api(0);
    let writer = Writer::start(&api, "a", client.clone(), 2).await?;
    writer.progress(SOME, STEP).await?;
    let all = ["mysos-a-0", "mysos-a-1", "mysos-a-2"].map(str::to_owned).to_vec();
    assert_eq!(volumes(&stock).await?, all);

    // The executor of the primary: there is no fourth agent, so only its volume can make the cluster whole.
    let old = seen.primary()?.clone();
    let killed = Instant::now();
    stock.executor(&old)?.1.kill();
    writer.first_elsewhere(old.endpoint.port, killed, STEP).await?;
    let seen = api.until("a", STEP, "whole with it", |c| is_back(c, &old)).await?;
    assert_eq!((seen.epoch, seen.member(old.id).map(|m| &m.endpoint)), (2, Some(&old.endpoint)));
    let events = api.events("a", 0).await?;
    assert!(events.iter().any(|event| event.kind == "resting" && event.member() == Some(old.id)));
    assert!(!events.iter().any(|event| matches!(event.kind.as_str(), "ended" | "leaving")), "nobody was given up");
    writer.progress(SOME, STEP).await?;

    // A whole machine, which comes back.
    let old = seen.primary()?.clone();
    let (agent, _) = stock.server(&old)?;
    let lost = Instant::now();
    stock.kill_machine(agent)?;
    writer.first_elsewhere(old.endpoint.port, lost, STEP).await?;
    stock.mesos.start_agent(agent)?;
    let seen = api.until("a", STEP, "whole with it", |c| is_back(c, &old)).await?;
    writer.progress(SOME, STEP).await?;

    // And everything at once, the scheduler too.
    stock.kill_scheduler(0).await?;
    for (_, executor) in stock.executors(3) {
        executor.kill();
    }
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    let back = |c: &Cluster| seen.members.iter().all(|member| is_back(c, member));
    let seen = api.until("a", STEP, "whole again", back).await?;
    writer.progress(SOME, STEP).await?;
    assert_eq!(volumes(&stock).await?, all);
    checks::whole(&stock, writer, &seen).await?;

    api.delete("a", client.password()).await?;
    checks::until("nothing stays reserved", &Vec::new(), async || reserved(&stock).await).await
}

/// Without replicas there is nobody else who has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_replicas_loses_nothing_with_its_task() -> Outcome {
    let Some(stock) = with_volumes(2).await? else { return Ok(()) };
    let (client, seen) = cluster(&stock, "one", 1).await?;
    let api = stock.api(0);
    let writer = Writer::start(&api, "one", client, 2).await?;
    for _ in 0..2 {
        writer.progress(SOME, STEP).await?;
        let old = api.until_healthy("one", STEP).await?.primary()?.clone();
        stock.executor(&old)?.1.kill();
        api.until("one", STEP, "back", |c| is_back(c, &old)).await?;
    }
    writer.progress(SOME, STEP).await?;
    let seen = api.until("one", STEP, "healthy", |c| c.is_healthy() && c.members.len() == seen.members.len()).await?;
    checks::whole(&stock, writer, &seen).await
}

/// What is not wanted any more is given back, member by member, also when its member is not there to be asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_of_members_that_leave_are_released() -> Outcome {
    let Some(mut stock) = with_volumes(4).await? else { return Ok(()) };
    let (client, _) = cluster(&stock, "a", 3).await?;
    let api = stock.api(0);
    api.scale("a", 2).await?;
    let smaller = api.until("a", STEP, "smaller", |c| c.size == 2 && c.is_healthy()).await?;
    let kept: Vec<String> = smaller.members.iter().map(|member| format!("mysos-a-{}", member.id)).collect();
    checks::until("two are left", &kept, async || volumes(&stock).await).await?;

    // An agent that stays away for too long has a volume that nobody wants when it is back.
    api.scale("a", 3).await?;
    let whole = api.until("a", STEP, "larger", |c| c.size == 3 && c.is_healthy()).await?;
    let old = whole.primary()?.clone();
    let (agent, _) = stock.server(&old)?;
    stock.kill_machine(agent)?;
    let without = |c: &Cluster| c.is_healthy() && c.member(old.id).is_none_or(|member| member.leaving);
    api.until("a", STEP, "whole without it", without).await?;
    stock.mesos.start_agent(agent)?;
    let seen_again = api.until("a", STEP, "rid of it", |c| c.is_healthy() && c.member(old.id).is_none()).await?;
    let kept: Vec<String> = seen_again.members.iter().map(|member| format!("mysos-a-{}", member.id)).collect();
    checks::until("its volume is gone", &kept, async || volumes(&stock).await).await?;

    // Killed in the middle of a deletion, the next scheduler finishes it.
    api.delete("a", client.password()).await?;
    stock.kill_scheduler(0).await?;
    stock.start_scheduler(0)?;
    stock.until_ready(0).await?;
    checks::until("nothing stays reserved", &Vec::new(), async || reserved(&stock).await).await
}
