//! Persistent volumes: made, used again, released, and found again after whatever went wrong half way.

use crate::scheduler::{SMALL, STEP, Scheduler, config, connection};
use crate::{Outcome, mesos, subscribed};
use cotton_core::ports::mesos::{Held, Mesos, MesosCall, MesosEvent, Offer, Storage, TaskState, VolumeOutcome};
use cotton_core::resources::MIB;
use cotton_core::{ClusterName, MemberId, Ports, Resources, VolumeId};
use cotton_tests::{Failure, MesosOptions, RealMesos, Settings, within};
use serde_json::{Value, json};
use std::time::Duration;

/// Of the task and its executor together.
const WHOLE: Resources = Resources { cpus_milli: 110, mem_bytes: 64 * MIB, disk_bytes: 17 * MIB };

fn volume(member: u64) -> VolumeId {
    VolumeId::of(&"orders".parse::<ClusterName>().expect("a name"), MemberId(member))
}

fn first_port(offer: &Offer) -> u16 {
    offer.ports.ranges().first().expect("ports are offered").0
}

fn holds(offer: &Offer, volume: &VolumeId) -> Option<Held> {
    offer.held.iter().find(|held| held.volume == *volume).cloned()
}

/// An offer that holds all of a small task on its volume.
async fn with_all_held(scheduler: &mut Scheduler, id: &VolumeId) -> Result<(Offer, Held), Failure> {
    let all = |offer: &Offer| holds(offer, id).is_some_and(|held| held.resources == WHOLE);
    let offer = scheduler.offer_with("all that is held", all).await?;
    let held = holds(&offer, id).expect("picked by that");
    Ok((offer, held))
}

/// Makes a volume on an agent, with a task that writes a line; gives the task's port.
async fn make(scheduler: &mut Scheduler, id: &VolumeId, task: &str) -> Result<(Offer, u16), Failure> {
    let fits = |offer: &Offer| offer.resources.lacks(&WHOLE).is_none() && !offer.ports.is_empty();
    let offer = scheduler.offer_with("an offer to make a volume", fits).await?;
    let port = first_port(&offer);
    let data = format!("append {task}");
    scheduler.launch_on(&offer, port, task, SMALL, Storage::NewVolume(id.clone()), &data).await?;
    assert_eq!(scheduler.volume(id).await?, VolumeOutcome::Made);
    assert_eq!(scheduler.state(task, TaskState::Running).await?.message, format!("{task};"));
    Ok((offer, port))
}

async fn end(scheduler: &mut Scheduler, mesos: &RealMesos, task: &str) -> Result<(), Failure> {
    let executor = mesos.task_processes(0).into_iter().find(|process| process.task.as_deref() == Some(task));
    executor.ok_or_else(|| Failure::new("no executor runs"))?.kill();
    scheduler.state(task, TaskState::Failed).await.map(drop)
}

async fn release(scheduler: &mut Scheduler, offer: Offer, id: &VolumeId) -> Result<VolumeOutcome, Failure> {
    let (launches, releases) = (Vec::new(), vec![id.clone()]);
    scheduler.call(MesosCall::Accept { offer: offer.id, agent: offer.agent, launches, releases }).await?;
    scheduler.volume(id).await
}

/// Waits until Mesos knows of no dynamic reservation, no volume and no operation.
async fn clean(mesos: &RealMesos) -> Outcome {
    let clean = async {
        loop {
            let agents = mesos.operator(json!({ "type": "GET_AGENTS" })).await?;
            let agents = agents["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
            let text = agents.iter().map(|agent| agent["total_resources"].clone()).collect::<Value>().to_string();
            let operations = mesos.operator(json!({ "type": "GET_OPERATIONS" })).await?;
            let operations = operations["get_operations"]["operations"].as_array().map_or(0, Vec::len);
            if !text.contains("DYNAMIC") && !text.contains("persistence") && operations == 0 {
                return Ok::<(), Failure>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(STEP, "Mesos is as it was", clean).await?
}

#[tokio::test]
async fn a_task_comes_back_on_its_volume() -> Outcome {
    let Some(mut mesos) = mesos(1).await? else { return Ok(()) };
    let mut scheduler = subscribed(&mesos).await?;
    let (first, port) = make(&mut scheduler, &volume(1), "t1").await?;
    assert!(first.held.is_empty());
    let agents = mesos.operator(json!({ "type": "GET_AGENTS" })).await?.to_string();
    assert!(agents.contains("DYNAMIC") && agents.contains("persistence"), "as `clean` looks for: {agents}");
    // Beside it is another one, whose things are not mixed up with its own.
    make(&mut scheduler, &volume(2), "t2").await?;
    end(&mut scheduler, &mesos, "t1").await?;

    let (offer, held) = with_all_held(&mut scheduler, &volume(1)).await?;
    assert_eq!((held.exists, held.ports), (true, Ports::new([(port, port)])));
    assert!(!offer.ports.contains(port) && holds(&offer, &volume(2)).is_none());
    let rest = offer.resources.plus(&WHOLE).plus(&WHOLE);
    assert_eq!(rest, first.resources, "what is held is not offered to others");
    let on_it = Storage::Volume(volume(1));
    scheduler.launch_on(&offer, port, "t1-r1", SMALL, on_it.clone(), "append again").await?;
    assert_eq!(scheduler.state("t1-r1", TaskState::Running).await?.message, "t1;again;");

    // The agent restarts meanwhile: the volume is still there.
    end(&mut scheduler, &mesos, "t1-r1").await?;
    let (before, _) = with_all_held(&mut scheduler, &volume(1)).await?;
    mesos.kill_agent(0)?;
    mesos.start_agent(0)?;
    let void = MesosEvent::Rescinded(before.id);
    scheduler.wait("its offer is void", |event| (*event == void).then_some(())).await?;
    let (offer, held) = with_all_held(&mut scheduler, &volume(1)).await?;
    assert!(held.exists);
    // Bigger than before: the rest comes from what is not reserved.
    let bigger = Resources { cpus_milli: 300, mem_bytes: 100 * MIB, ..SMALL };
    scheduler.launch_on(&offer, port, "t1-r2", bigger, on_it, "append bigger").await?;
    assert_eq!(scheduler.state("t1-r2", TaskState::Running).await?.message, "t1;again;bigger;");

    for (id, task) in [(volume(1), "t1-r2"), (volume(2), "t2")] {
        end(&mut scheduler, &mesos, task).await?;
        let (offer, _) = with_all_held(&mut scheduler, &id).await?;
        assert_eq!(release(&mut scheduler, offer, &id).await?, VolumeOutcome::Released);
    }
    let whole_again = |offer: &Offer| offer.resources == first.resources && offer.held.is_empty();
    let offer = scheduler.offer_with("everything again", whole_again).await?;
    assert_eq!(offer.ports, first.ports);
    assert!(!scheduler.has_news_of(&volume(1)) && !scheduler.has_news_of(&volume(2)), "told once");
    clean(&mesos).await
}

#[tokio::test]
async fn what_is_left_of_a_volume_that_could_not_be_made_is_found() -> Outcome {
    if !RealMesos::is_installed() {
        return Ok(());
    }
    // Reserving is allowed, making volumes is not.
    let acls = json!({ "create_volumes": [{ "principals": { "type": "ANY" }, "roles": { "type": "NONE" } }] });
    let master = Settings::from([("ACLS".to_owned(), acls.to_string())]);
    let mesos = RealMesos::start(MesosOptions { master, ..MesosOptions::default() }).await?;
    let mut mine = config();
    mine.framework.principal = Some("cotton".to_owned());
    let mut scheduler = Scheduler::start(connection(mine, &mesos.master().to_string()), None).await?;
    let offer = scheduler.offer(&WHOLE).await?;
    let port = first_port(&offer);
    scheduler.launch_on(&offer, port, "t1", SMALL, Storage::NewVolume(volume(1)), "").await?;
    let VolumeOutcome::Failed { reason } = scheduler.volume(&volume(1)).await? else { panic!("not failed") };
    assert!(reason.starts_with("create: ") && reason.contains("CREATE_VOLUME"), "{reason}");
    let dropped = scheduler.state("t1", TaskState::Dropped).await?;
    assert!(!dropped.message.is_empty());

    let (offer, held) = with_all_held(&mut scheduler, &volume(1)).await?;
    assert_eq!((held.exists, held.ports), (false, Ports::new([(port, port)])));
    let port = first_port(&offer);
    let new = Storage::NewVolume(volume(1));
    scheduler.launch_on(&offer, port, "t2", SMALL, new, "").await?;
    let VolumeOutcome::Failed { reason } = scheduler.volume(&volume(1)).await? else { panic!("not failed") };
    assert!(reason.contains("has to be released first"), "{reason}");
    scheduler.state("t2", TaskState::Dropped).await?;
    let (offer, _) = with_all_held(&mut scheduler, &volume(1)).await?;
    assert_eq!(release(&mut scheduler, offer, &volume(1)).await?, VolumeOutcome::Released);
    clean(&mesos).await
}

#[tokio::test]
async fn a_volume_is_made_on_what_an_operator_has_reserved() -> Outcome {
    if !RealMesos::is_installed() {
        return Ok(());
    }
    let resources = "cpus(mysql):0.05;cpus:1;mem:512;disk(mysql):128;disk:1024;disk(other):64".to_owned();
    let mesos = RealMesos::start(MesosOptions { resources, ..MesosOptions::default() }).await?;
    let mut scheduler = subscribed(&mesos).await?;
    let (first, port) = make(&mut scheduler, &volume(1), "t1").await?;
    end(&mut scheduler, &mesos, "t1").await?;
    // What is reserved anyway is not reserved again, so anybody of the role may have it; the volume is known by its name.
    let mine = Resources { cpus_milli: 60, mem_bytes: 64 * MIB, disk_bytes: 16 * MIB };
    let held_is = |wanted: Resources| {
        move |offer: &Offer| holds(offer, &volume(1)).is_some_and(|held| held.exists && held.resources == wanted)
    };
    let offer = scheduler.offer_with("the volume", held_is(mine)).await?;
    scheduler.launch_on(&offer, port, "t2", SMALL, Storage::Volume(volume(1)), "append again").await?;
    assert_eq!(scheduler.state("t2", TaskState::Running).await?.message, "t1;again;");
    end(&mut scheduler, &mesos, "t2").await?;
    let offer = scheduler.offer_with("the volume", held_is(mine)).await?;
    assert_eq!(release(&mut scheduler, offer, &volume(1)).await?, VolumeOutcome::Released);
    let whole_again = |offer: &Offer| offer.resources == first.resources && offer.held.is_empty();
    let offer = scheduler.offer_with("everything again", whole_again).await?;

    // Larger than any part of the disk.
    let (size, new) = (Resources { disk_bytes: 1100 * MIB, ..SMALL }, Storage::NewVolume(volume(2)));
    scheduler.launch_on(&offer, port, "t3", size, new, "").await?;
    let VolumeOutcome::Failed { reason } = scheduler.volume(&volume(2)).await? else { panic!("not failed") };
    assert!(reason.contains("a volume must be of one reservation"), "{reason}");
    assert_eq!(scheduler.state("t3", TaskState::Dropped).await?.message, reason);
    clean(&mesos).await
}

#[tokio::test]
async fn roles_below_a_role_have_volumes_and_everybody_has_none() -> Outcome {
    if !RealMesos::is_installed() {
        return Ok(());
    }
    // Half of it is reserved for the role above: our reservation refines that.
    let resources = "cpus(db):0.1;cpus:1;mem:512;disk(db):128;disk:1024".to_owned();
    let mesos = RealMesos::start(MesosOptions { resources, ..MesosOptions::default() }).await?;
    let masters = mesos.master().to_string();
    let mut below = config();
    below.framework.roles = vec!["db/mysql".to_owned()];
    let mut scheduler = Scheduler::start(connection(below, &masters), None).await?;
    make(&mut scheduler, &volume(1), "t1").await?;
    end(&mut scheduler, &mesos, "t1").await?;
    let (offer, held) = with_all_held(&mut scheduler, &volume(1)).await?;
    assert!(held.exists);
    assert_eq!(release(&mut scheduler, offer, &volume(1)).await?, VolumeOutcome::Released);
    clean(&mesos).await?;
    scheduler.mesos.teardown().await?;

    let mut everybody = config();
    everybody.framework.roles = vec!["*".to_owned()];
    let mut scheduler = Scheduler::start(connection(everybody, &masters), None).await?;
    let offer = scheduler.offer(&WHOLE).await?;
    let port = first_port(&offer);
    scheduler.launch_on(&offer, port, "t1", SMALL, Storage::NewVolume(volume(1)), "").await?;
    assert!(matches!(scheduler.volume(&volume(1)).await?, VolumeOutcome::Failed { .. }));
    let dropped = scheduler.state("t1", TaskState::Dropped).await?;
    assert!(dropped.message.contains("role of the framework's own"), "{}", dropped.message);
    Ok(())
}

#[tokio::test]
async fn a_scheduler_that_comes_back_learns_what_became_of_its_volumes() -> Outcome {
    let Some(mut mesos) = mesos(1).await? else { return Ok(()) };
    let mut first = subscribed(&mesos).await?;
    let (framework, masters) = (first.framework.clone(), mesos.master().to_string());
    // It asks for a volume, and is gone before it learns anything.
    let offer = first.offer(&WHOLE).await?;
    let port = first_port(&offer);
    first.launch_on(&offer, port, "t1", SMALL, Storage::NewVolume(volume(1)), "append t1").await?;
    drop(first);
    let mut second = Scheduler::start(connection(config(), &masters), Some(framework.clone())).await?;
    assert_eq!(second.volume(&volume(1)).await?, VolumeOutcome::Made);
    second.state("t1", TaskState::Running).await?;
    end(&mut second, &mesos, "t1").await?;

    // The agent is cut off while the volume is released, so nobody knows anything until it is back.
    let (offer, _) = with_all_held(&mut second, &volume(1)).await?;
    mesos.signal_agent(0, rustix::process::Signal::STOP);
    let (launches, releases) = (Vec::new(), vec![volume(1)]);
    second.call(MesosCall::Accept { offer: offer.id, agent: offer.agent.clone(), launches, releases }).await?;
    let mut third = Scheduler::start(connection(config(), &masters), Some(framework)).await?;
    mesos.signal_agent(0, rustix::process::Signal::CONT);
    let mut outcome = third.volume(&volume(1)).await?;
    if outcome == VolumeOutcome::Made {
        // That, too, is news until it is acknowledged.
        outcome = third.volume(&volume(1)).await?;
    }
    assert_eq!(outcome, VolumeOutcome::Released);
    clean(&mesos).await?;

    // An offer that is void, for Mesos or for us.
    let offer = third.offer(&WHOLE).await?;
    mesos.kill_agent(0)?;
    third
        .wait("its agent is lost", |event| (*event == MesosEvent::AgentLost(offer.agent.clone())).then_some(()))
        .await?;
    let port = first_port(&offer);
    third.launch_on(&offer, port, "t2", SMALL, Storage::NewVolume(volume(2)), "").await?;
    assert!(matches!(third.volume(&volume(2)).await?, VolumeOutcome::Failed { .. }));
    third.state("t2", TaskState::Dropped).await?;
    Ok(())
}

#[tokio::test]
async fn a_role_with_volumes_cannot_be_left() -> Outcome {
    let Some(mesos) = mesos(1).await? else { return Ok(()) };
    let masters = mesos.master().to_string();
    let mut first = subscribed(&mesos).await?;
    let framework = first.framework.clone();
    make(&mut first, &volume(1), "t1").await?;
    drop(first);
    let other = || {
        let mut other = config();
        other.framework.roles = vec!["other".to_owned()];
        connection(other, &masters)
    };
    let error = other().subscribe(Some(framework.clone())).await.expect_err("refused");
    assert!(!error.is_temporary(), "{}", error.chain());
    assert!(error.chain().contains("holds volumes under role 'mysql', one of them on 127.0.0.1"), "{}", error.chain());

    // Nothing has changed by that. Without the volume it may have another role.
    let mut second = Scheduler::start(connection(config(), &masters), Some(framework.clone())).await?;
    end(&mut second, &mesos, "t1").await?;
    let (offer, _) = with_all_held(&mut second, &volume(1)).await?;
    assert_eq!(release(&mut second, offer, &volume(1)).await?, VolumeOutcome::Released);
    clean(&mesos).await?;
    drop(second);
    let mut third = Scheduler::start(other(), Some(framework)).await?;
    let frameworks = mesos.operator(json!({ "type": "GET_FRAMEWORKS" })).await?;
    let info = &frameworks["get_frameworks"]["frameworks"][0]["framework_info"];
    assert_eq!(info["roles"], json!(["other"]));
    make(&mut third, &volume(2), "t2").await.map(drop)
}
