//! Agents on which members fail are used last.

use super::*;
use crate::EventKind;

/// The agents of the members that are launched.
fn agents(calls: &[MesosCall]) -> Vec<String> {
    let agent = |call: &MesosCall| {
        let MesosCall::Accept { agent, launches, .. } = call else { return None };
        (!launches.is_empty()).then(|| agent.to_string())
    };
    calls.iter().filter_map(agent).collect()
}

/// Its disk is full, and it has the most room as far as Mesos knows.
#[test]
fn an_agent_on_which_members_fail_gets_no_further_ones_while_others_are_idle() {
    let mut bench = Bench::connected();
    bench.create("a", 3).expect("a new name");
    bench.create("b", 1).expect("a new name");
    bench.calls();
    let offers = [("full", 90), ("x", 9), ("y", 9), ("z", 9)];
    bench.offer(&offers[..3]);
    let mut placed = agents(&bench.calls());
    placed.sort();
    assert_eq!(placed, ["agent-full", "agent-x", "agent-y"]);
    let first = bench.fleet.cluster(&name("a")).expect("it exists").state().members.clone();
    let on_full = first.iter().find(|(_, member)| member.agent.as_str() == "agent-full").expect("one is there").0;
    bench.status(&format!("mysos-a-{on_full}"), TaskState::Failed);
    let logged = |effects: &[Effect]| {
        let failing = |effect: &&Effect| matches!(effect, Effect::Log(_, event) if matches!(event.kind, EventKind::AgentFailing { .. }));
        effects.iter().filter(failing).count()
    };
    bench.begin_saving();
    let keys: Vec<StateKey> = bench.saving.iter().map(Checkpoint::key).collect();
    for key in &keys {
        bench.saved(key);
    }
    assert_eq!(logged(&bench.effects()), 1);
    let view = bench.fleet.view(bench.now, &name("a")).expect("it exists");
    let retries: Vec<_> = view.retries.iter().map(|retry| (retry.what, retry.failures, retry.in_ms)).collect();
    assert_eq!(retries, [("launch", 1, 500), ("agent", 1, 1_000)]);
    bench.pass(500);
    bench.offer(&[("full", 90)]);
    assert_eq!(agents(&bench.calls()), [] as [&str; 0], "there is a pause, also when nobody else offers");
    let view = bench.fleet.view(bench.now, &name("a")).expect("it exists");
    assert_eq!(view.refusals.iter().map(|refusal| refusal.code).collect::<Vec<_>>(), ["failing"]);
    bench.pass(2_000);
    bench.offer(&offers);
    assert_eq!(agents(&bench.calls()), ["agent-z"], "last, also when the pause is over");
    bench.create("c", 1).expect("a new name");
    bench.calls();
    bench.offer(&[("full", 90), ("x", 9)]);
    assert_eq!(agents(&bench.calls()), ["agent-x"], "of all clusters");
}

#[test]
fn with_no_other_agent_it_is_used_after_the_pause_and_success_clears_it() {
    let mut bench = Bench::connected();
    bench.create("a", 1).expect("a new name");
    bench.calls();
    let mut waits = Vec::new();
    for member in 0..9 {
        let since = bench.now;
        while {
            bench.offer(&[("full", 9)]);
            agents(&bench.calls()).is_empty()
        } {
            bench.pass(500);
        }
        waits.push(bench.now.since(since));
        bench.status(&format!("mysos-a-{member}"), TaskState::Failed);
        bench.calls();
    }
    assert_eq!(waits, [0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 120_000]);
    bench.pass(120_000);
    bench.offer(&[("full", 9)]);
    bench.calls();
    bench.status("mysos-a-9", TaskState::Running);
    bench.report("mysos-a-9", MemberRole::Idle, 0);
    bench.calls();
    bench.now = bench.now.after(1);
    bench.report("mysos-a-9", MemberRole::Primary, 1);
    bench.calls();
    assert_eq!(bench.fleet.view(bench.now, &name("a")).expect("it exists").retries, []);
    bench.create("b", 1).expect("a new name");
    bench.calls();
    bench.offer(&[("full", 9), ("x", 1)]);
    assert_eq!(agents(&bench.calls()), ["agent-full"], "the roomiest, as before");
}
