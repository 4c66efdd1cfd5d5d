//! Agents that are taken down.

use super::{Bench, Config, Fleet, name, names};
use crate::ports::mesos::{MesosCall, MesosEvent, TaskState};
use crate::protocol::{MemberRole, Order, ToExecutor};
use crate::{AgentId, FrameworkId, MemberId};
use std::collections::BTreeSet;

fn ask(bench: &mut Bench, agent: &str) -> Vec<MesosCall> {
    bench.mesos(MesosEvent::Maintenance { id: "i".into(), agent: agent.into(), starts_in_ms: 60_000 });
    bench.calls()
}

fn answer(calls: &[MesosCall]) -> Option<bool> {
    calls
        .iter()
        .find_map(|call| if let MesosCall::AnswerMaintenance { ready, .. } = call { Some(*ready) } else { None })
}

/// Whether somebody is told to step down.
fn steps_down(calls: &[MesosCall]) -> bool {
    let told = |data: &[u8]| match crate::protocol::decode(data) {
        Ok(ToExecutor::Directive(directive)) => matches!(directive.order, Order::StepDown { .. }),
        Ok(ToExecutor::Heard { .. } | ToExecutor::Accounts { .. } | ToExecutor::LetGo) | Err(_) => false,
    };
    calls.iter().any(|call| matches!(call, MesosCall::Message { data, .. } if told(data)))
}

/// A cluster of three, primary 0 on `agent-o0`, all healthy.
fn running() -> (Bench, Vec<String>) {
    let mut bench = Bench::connected();
    bench.create("a", 3).expect("a new cluster");
    bench.calls();
    bench.offer(&[("o0", 1), ("o1", 1), ("o2", 1)]);
    bench.calls();
    for id in 0..3 {
        bench.status(&format!("mysos-a-{id}"), TaskState::Running);
    }
    report(&mut bench, 0, MemberRole::Idle, 0);
    report(&mut bench, 0, MemberRole::Primary, 1);
    for _ in 0..2 {
        for id in 1..3 {
            report(&mut bench, id, MemberRole::Following { connected: true }, 1);
        }
    }
    let members = &bench.fleet.cluster(&name("a")).expect("it is there").state().members;
    let agents = members.values().map(|member| member.agent.to_string()).collect();
    (bench, agents)
}

fn report(bench: &mut Bench, id: u64, role: MemberRole, epoch: u64) {
    bench.now = bench.now.after(1);
    bench.report(&format!("mysos-a-{id}"), role, epoch);
    bench.calls();
}

#[test]
fn an_agent_that_nobody_uses_is_let_go() {
    let (mut bench, _) = running();
    assert_eq!(names(&ask(&mut bench, "other")), ["answer_maintenance"]);
    assert_eq!(answer(&ask(&mut bench, "other")), Some(true));
}

#[test]
fn an_agent_with_a_task_of_a_damaged_cluster_stays() {
    let mut bench = Bench::recover(Vec::new(), &["lost"]).connect();
    assert_eq!(answer(&ask(&mut bench, "agent-o1")), Some(false), "its tasks may not have been heard of yet");
    bench.status("mysos-lost-1", TaskState::Running);
    let agent = bench.fleet.unknown().next().expect("that task").agent.to_string();
    assert_eq!(answer(&ask(&mut bench, &agent)), Some(false));
    assert_eq!(answer(&ask(&mut bench, &agent)), Some(false), "it may be a primary");
    assert_eq!(answer(&ask(&mut bench, "agent-o1")), Some(true), "nobody is there");
    bench.status("mysos-lost-1", TaskState::Finished);
    assert_eq!(answer(&ask(&mut bench, &agent)), Some(true));
}

#[test]
fn a_primary_hands_over_first() {
    let (mut bench, agents) = running();
    let calls = ask(&mut bench, &agents[0]);
    assert_eq!((answer(&calls), steps_down(&calls)), (Some(false), false));
    bench.pass(1_000);
    assert!(steps_down(&bench.calls()), "once others had the time to be announced with it");
    let calls = ask(&mut bench, &agents[0]);
    assert_eq!((answer(&calls), steps_down(&calls)), (Some(false), false), "asked again, it is told no more often");
}

#[test]
fn replicas_are_let_go_while_enough_are_left() {
    let (mut bench, agents) = running();
    assert_eq!(answer(&ask(&mut bench, &agents[1])), Some(false), "not before it is durable");
    assert_eq!(answer(&ask(&mut bench, &agents[1])), Some(true), "one replica suffices");
    assert_eq!(answer(&ask(&mut bench, &agents[2])), Some(false), "not without the other, too");
    assert_eq!(answer(&ask(&mut bench, &agents[2])), Some(false));
    assert_eq!(answer(&ask(&mut bench, &agents[1])), Some(true), "as was said");
    bench.pass(1_000);
    let view = bench.fleet.view(bench.now, &name("a")).expect("it is there");
    let texts: Vec<_> =
        view.reasons.iter().filter(|r| r.code.name() == "maintenance").map(|r| r.text.as_str()).collect();
    let why = "no other healthy replica would be left to acknowledge commits";
    assert_eq!(texts, [format!("agent {} is to be taken down, and cannot be let go: {why}", agents[2])]);
    bench.mesos(MesosEvent::AgentLost(AgentId::from(agents[1].as_str())));
    bench.calls();
    ask(&mut bench, &agents[2]);
    assert_eq!(answer(&ask(&mut bench, &agents[2])), Some(true), "what it was agreed for has come and gone");
}

#[test]
fn the_agent_of_a_cluster_that_is_deleted_is_let_go_once_that_is_durable() {
    let (mut bench, agents) = running();
    ask(&mut bench, &agents[0]);
    bench.calls();
    let now = bench.now;
    bench.fleet.delete(now, &name("a")).expect("it is there");
    bench.mesos(MesosEvent::Maintenance { id: "i".into(), agent: agents[0].as_str().into(), starts_in_ms: 60_000 });
    let told = bench.calls();
    assert_eq!(answer(&told), Some(false), "it was asked for before that was saved");
    ask(&mut bench, &agents[0]); // what it may agree to now is saved first
    assert_eq!(answer(&ask(&mut bench, &agents[0])), Some(true));
}

#[test]
fn what_was_agreed_to_is_remembered() {
    let (mut bench, agents) = running();
    ask(&mut bench, &agents[1]);
    assert_eq!(answer(&ask(&mut bench, &agents[1])), Some(true));
    let cluster = bench.fleet.cluster(&name("a")).expect("it is there").state().clone();
    let stored = Some(bench.fleet.state.clone()); // all of it is saved
    let fleet = Fleet::recover(Config::default(), stored, vec![cluster], BTreeSet::new(), bench.now);
    let mut after = Bench { fleet, now: bench.now, saving: Vec::new() }.connect();
    for id in 0..3 {
        after.status(&format!("mysos-a-{id}"), TaskState::Running);
    }
    report(&mut after, 0, MemberRole::Primary, 1);
    for id in 1..3 {
        report(&mut after, id, MemberRole::Following { connected: true }, 1);
    }
    for _ in 0..3 {
        assert_eq!(answer(&ask(&mut after, &agents[2])), Some(false), "the other one is gone or about to go");
    }
    assert_eq!(answer(&ask(&mut after, &agents[1])), Some(true));
}

#[test]
fn what_goes_some_day_does_not_count() {
    let (mut bench, agents) = running();
    let far = |bench: &mut Bench, agent: &str| {
        let (id, agent) = ("i".into(), agent.into());
        bench.mesos(MesosEvent::Maintenance { id, agent, starts_in_ms: 86_400_000 });
        bench.calls()
    };
    let calls = far(&mut bench, &agents[0]);
    assert_eq!((answer(&calls), steps_down(&calls)), (Some(false), false), "there is time enough");
    assert_eq!(answer(&far(&mut bench, &agents[1])), Some(false), "when it comes nearer");
    ask(&mut bench, &agents[2]);
    assert_eq!(answer(&ask(&mut bench, &agents[2])), Some(true), "the other one is there until tomorrow");
    assert_eq!(answer(&far(&mut bench, &agents[2])), Some(false), "if it is put off, it does not count any more");
    assert_eq!(bench.fleet.state.let_go.len(), 0);
    // A rolling maintenance: the primary's agent is first, and its successor's comes last.
    ask(&mut bench, &agents[0]);
    bench.pass(1_000);
    assert!(steps_down(&bench.calls()), "agent {} stays longest", agents[1]);
}

#[test]
fn who_is_not_asked_after_stays() {
    let (mut bench, agents) = running();
    ask(&mut bench, &agents[1]);
    assert_eq!(answer(&ask(&mut bench, &agents[1])), Some(true));
    let mut offered = super::offer("p", 1);
    offered.agent = agents[1].as_str().into();
    bench.mesos(MesosEvent::Offers(vec![offered]));
    bench.calls();
    ask(&mut bench, &agents[2]);
    assert_eq!(answer(&ask(&mut bench, &agents[2])), Some(true), "the other one was offered without an end");
    bench.pass(1_000);
    assert_eq!(bench.fleet.maintenance.soon().len(), 1);
    let cluster = bench.fleet.cluster(&name("a")).expect("it is there");
    assert_eq!(cluster.state().primary, Some(MemberId(0)));
    bench.mesos(MesosEvent::Disconnected);
    bench.pass(300_000);
    assert_eq!(bench.fleet.maintenance.soon().len(), 1, "nobody could ask");
    bench.mesos(MesosEvent::Subscribed(FrameworkId::from("f")));
    bench.pass(40_000);
    assert_eq!((bench.fleet.maintenance.soon().len(), bench.fleet.state.let_go.len()), (1, 1));
    bench.pass(30_000);
    assert_eq!((bench.fleet.maintenance.soon().len(), bench.fleet.state.let_go.len()), (0, 0));
    assert_eq!(bench.fleet.maintenance.next(bench.now, true), None);
}
