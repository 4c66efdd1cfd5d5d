//! Obeying the scheduler.

use super::*;
use crate::ports::mysql::{Followed, Promotion};
use crate::protocol::Stage;
use std::collections::BTreeSet;

fn attached(bench: &mut Bench) -> Operation {
    bench.finish("follow", Outcome::Followed(Followed::Attached))
}

#[test]
fn nothing_is_obeyed_before_it_is_durable() {
    for order in [freeze(), promote(), follow(), Order::Detach] {
        let mut bench = Bench::up();
        bench.durable = false;
        bench.feed(directive(4, order.clone()));
        assert_eq!(bench.names(), [] as [&str; 0], "{order:?}");
        let (_, state) = bench.machine.checkpoint().expect("a rank to persist");
        assert_eq!(state.obeyed.map(|rank| rank.epoch), Some(Epoch(4)));
        assert_eq!(state.promoted, matches!(order, Order::Promote { .. }).then_some(Epoch(4)));
        bench.persist();
        assert!(matches!(bench.effects[0], Effect::Operate { .. }), "{order:?}: {:?}", bench.names());
    }
}

#[test]
fn freeze_answers_with_the_position_at_once() {
    let mut bench = Bench::up();
    bench.feed(directive(2, freeze()));
    assert_eq!(bench.names(), ["freeze"], "no report in between");
    bench.finish("freeze", frozen("0-1-9"));
    let report = bench.report();
    assert_eq!((report.role, report.epoch, report.position), (MemberRole::Frozen, Epoch(2), gtids("0-1-9")));
    assert_eq!(report.stage, Some(Stage::Freeze));
    bench.effects.clear();
    bench.feed(directive(2, freeze()));
    assert_eq!(bench.names(), ["report"], "the repeated order is answered, not carried out");
    bench.effects.clear();
    bench.feed(directive(3, freeze()));
    assert_eq!(bench.names(), ["freeze"], "a new election wants a new answer");
}

#[test]
fn repeated_orders_do_not_disturb_a_running_operation() {
    for order in [freeze(), promote(), follow(), Order::Detach] {
        let mut bench = Bench::up();
        bench.feed(directive(2, order.clone()));
        let operations = |bench: &Bench| bench.names().iter().filter(|name| **name != "report").count();
        assert_eq!(operations(&bench), 1);
        for _ in 0..5 {
            bench.feed(directive(2, order.clone()));
        }
        assert_eq!(operations(&bench), 1, "{order:?}: {:?}", bench.names());
    }
}

#[test]
fn lower_ranks_are_refused_for_ever() {
    let mut bench = Bench::up();
    bench.feed(directive(5, follow()));
    attached(&mut bench);
    bench.probe(following_status(LinkState::Connected));
    bench.effects.clear();
    for stale in [directive(4, promote()), directive(5, freeze()), directive(4, Order::Detach)] {
        bench.feed(stale);
        assert_eq!(bench.names(), ["report"], "only who obeys what is told");
        bench.effects.clear();
    }
    assert_eq!(bench.machine.ignored(), 3);
    let (state, _) = (bench.machine.state.clone(), bench);
    let mut bench = Bench::with(state);
    bench.feed(Input::Connected);
    bench.feed(Input::Launch { task: task() });
    bench.finish("provision", Outcome::Done);
    bench.finish("start", started(false));
    bench.probe(status());
    assert_eq!((bench.report().role, bench.report().epoch), (MemberRole::Idle, Epoch(5)));
    bench.effects.clear();
    bench.feed(directive(5, freeze()));
    assert_eq!(bench.names(), ["report"], "also by the next incarnation");
    bench.effects.clear();
    bench.feed(directive(5, promote()));
    assert_eq!(bench.names(), ["report", "warn"], "an epoch does not change its primary");
    bench.feed(directive(5, follow()));
    assert!(bench.has("follow"), "an equal rank is obeyed again");
}

#[test]
fn an_epoch_has_one_primary() {
    let mut bench = Bench::primary(3);
    bench.feed(directive(3, follow()));
    assert_eq!(bench.names(), ["report", "warn"]);
    assert_eq!(bench.report().role, MemberRole::Primary);
}

#[test]
fn promotion_is_told_while_it_lasts_and_when_it_is_done() {
    let mut bench = Bench::up();
    bench.feed(directive(1, promote()));
    assert_eq!(bench.names(), ["promote", "report"]);
    assert_eq!((bench.report().role, bench.report().epoch), (MemberRole::Promoting, Epoch(1)));
    let promotion = Promotion { must_contain: GtidSet::Empty, acks: 1 };
    let operation = bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-7"))));
    assert_eq!(operation, Operation::Promote { epoch: Epoch(1), promotion });
    let report = bench.report();
    assert_eq!((report.role, report.epoch, report.position), (MemberRole::Primary, Epoch(1), gtids("0-1-7")));
    bench.probe(ServerStatus { waiting: 4, ..primary_status(2) });
    assert_eq!((bench.report().replicas, bench.report().waiting), (Some(2), Some(4)));
    bench.effects.clear();
    bench.feed(directive(1, promote()));
    assert_eq!(bench.names(), ["report"]);
}

#[test]
fn changed_parameters_of_the_same_rank_are_obeyed() {
    let mut bench = Bench::primary(1);
    let more = Order::Promote { must_contain: GtidSet::Empty, acks: 2, lease_ms: None };
    bench.feed(directive(1, more));
    assert_eq!(bench.names(), ["promote"]);
    bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-7"))));
    assert!(!bench.has("kill"));
    let mut bench = Bench::up();
    bench.feed(directive(1, follow_from(1, &[])));
    attached(&mut bench);
    bench.feed(directive(1, follow_from(2, &[])));
    let following = Following { primary: endpoint(2), semi_sync: true };
    assert_eq!(attached(&mut bench), Operation::Follow { epoch: Epoch(1), following });
}

#[test]
fn a_new_epoch_of_the_same_primary_does_not_close_it() {
    let mut bench = Bench::primary(1);
    bench.feed(directive(2, promote()));
    assert_eq!(bench.names(), ["promote", "report"]);
    assert_eq!((bench.report().role, bench.report().epoch), (MemberRole::Promoting, Epoch(2)));
    bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-7"))));
    assert_eq!((bench.report().role, bench.report().epoch), (MemberRole::Primary, Epoch(2)));
}

#[test]
fn a_failing_promotion_is_tried_again() {
    let mut bench = Bench::up();
    bench.feed(directive(1, promote()));
    bench.fail("promote");
    let report = bench.report();
    assert_eq!(report.role, MemberRole::Promoting);
    assert_eq!(report.trouble, Some(Trouble::Failing { detail: "promote: no luck".into() }));
    bench.effects.clear();
    bench.pass(49);
    assert!(!bench.has("promote"));
    bench.pass(1);
    bench.finish("promote", Outcome::Promoted(Promoted::Writable(gtids("0-1-7"))));
    assert_eq!((bench.report().role, bench.report().trouble), (MemberRole::Primary, None));
}

#[test]
fn an_incomplete_member_says_what_it_was() {
    let mut bench = Bench::up();
    bench.feed(directive(1, freeze()));
    bench.finish("freeze", frozen("0-1-5"));
    bench.feed(directive(1, promote()));
    bench.finish("promote", Outcome::Promoted(Promoted::Incomplete("0-1-6".into())));
    let report = bench.report();
    assert_eq!((report.role, report.epoch), (MemberRole::Frozen, Epoch(1)));
    assert_eq!(report.trouble, Some(Trouble::Incomplete { detail: "0-1-6".into() }));
    bench.feed(directive(2, follow()));
    assert!(bench.has("follow") && !bench.has("kill"), "it never was open");
}

#[test]
fn a_promotion_dies_with_the_server_start_that_it_was_for() {
    // Up, then crashed: by itself, by the repeated order, and by the next incarnation.
    let mut bench = Bench::primary(3);
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.finish("start", started(false));
    bench.probe(status());
    bench.feed(directive(3, promote()));
    bench.pass(30_000);
    assert!(!bench.has("promote"), "{:?}", bench.names());
    let report = bench.report();
    assert_eq!((report.role, report.epoch, report.boot), (MemberRole::Idle, Epoch(3), 2));
    assert!(matches!(report.trouble, Some(Trouble::Failing { .. })));
    let state = bench.machine.state.clone();
    bench.feed(directive(4, promote()));
    assert!(bench.has("promote"), "a new election opens it");

    let mut bench = Bench::with(state);
    bench.feed(Input::Connected);
    bench.feed(Input::Launch { task: task() });
    bench.finish("provision", Outcome::Done);
    bench.finish("start", started(false));
    bench.probe(status());
    bench.feed(directive(3, promote()));
    bench.pass(30_000);
    assert!(!bench.has("promote"), "{:?}", bench.names());
    assert_eq!((bench.report().role, bench.report().epoch), (MemberRole::Idle, Epoch(3)));
}

#[test]
fn a_promotion_that_finds_the_server_down_is_not_obeyed_later() {
    let mut bench = Bench::up();
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.feed(directive(3, promote()));
    bench.finish("start", started(false));
    bench.probe(status());
    bench.pass(5_000);
    assert!(!bench.has("promote"));
    assert_eq!((bench.report().role, bench.report().epoch), (MemberRole::Idle, Epoch(3)));
}

#[test]
fn following_is_looked_at_soon_until_it_is_connected() {
    let mut bench = Bench::up();
    bench.feed(directive(2, follow()));
    attached(&mut bench);
    let report = bench.report();
    assert_eq!((report.role, report.epoch), (MemberRole::Following { connected: false }, Epoch(2)));
    let start = bench.now;
    bench.probe(following_status(LinkState::Connecting));
    assert_eq!(bench.now.since(start), 20);
    bench.probe(following_status(LinkState::Connecting));
    assert_eq!(bench.now.since(start), 70);
    bench.probe(following_status(LinkState::Connected));
    assert_eq!(bench.report().role, MemberRole::Following { connected: true });
    bench.effects.clear();
    bench.feed(directive(2, follow()));
    assert_eq!(bench.names(), ["report"]);
    bench.probe(following_status(LinkState::Connecting));
    assert_eq!(bench.report().role, MemberRole::Following { connected: false }, "the primary is gone: told at once");
}

#[test]
fn replication_that_stopped_is_set_up_again_with_pauses() {
    let mut bench = Bench::up();
    bench.feed(directive(2, follow()));
    attached(&mut bench);
    let mut times = Vec::new();
    for _ in 0..4 {
        bench.probe(following_status(LinkState::Stopped));
        assert!(matches!(bench.report().trouble, Some(Trouble::Failing { .. })));
        let since = bench.now;
        while !bench.has("follow") {
            bench.pass(1);
        }
        times.push(bench.now.since(since));
        attached(&mut bench);
    }
    assert_eq!(times, [50, 100, 200, 400]);
    bench.probe(following_status(LinkState::Connected));
    assert_eq!(bench.report().trouble, None);
}

#[test]
fn a_follower_follows_again_after_a_crash() {
    let mut bench = Bench::up();
    bench.feed(directive(2, follow()));
    attached(&mut bench);
    bench.probe(following_status(LinkState::Connected));
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.finish("start", started(false));
    attached(&mut bench);
    bench.probe(status()); // began before that, and is not believed
    bench.probe(following_status(LinkState::Connected));
    let report = bench.report();
    assert_eq!((report.role, report.boot), (MemberRole::Following { connected: true }, 2));
}

#[test]
fn an_errant_member_stays_as_it_is_and_checks_slowly() {
    let mut bench = Bench::up();
    bench.feed(directive(2, follow()));
    bench.finish("follow", Outcome::Followed(Followed::Errant("0-1-6".into())));
    let report = bench.report();
    assert_eq!((report.role, report.epoch), (MemberRole::Idle, Epoch(2)));
    assert_eq!(report.trouble, Some(Trouble::Errant { gtids: "0-1-6".into() }));
    bench.effects.clear();
    bench.pass(9_999);
    assert!(!bench.has("follow"));
    bench.pass(1);
    assert!(bench.has("follow"));
}

#[test]
fn an_errant_member_answers_the_order_that_it_refuses() {
    let mut bench = Bench::up();
    bench.feed(directive(1, follow()));
    bench.finish("follow", Outcome::Followed(Followed::Attached));
    bench.feed(directive(2, follow()));
    bench.finish("follow", Outcome::Followed(Followed::Errant("0-1-6".into())));
    let report = bench.report();
    assert_eq!((report.role, report.epoch), (MemberRole::Idle, Epoch(2)), "not a replica of epoch 1");
    assert!(matches!(report.trouble, Some(Trouble::Errant { .. })));
}

#[test]
fn missing_history_is_copied_from_one_donor_after_the_other() {
    let missing = || Outcome::Followed(Followed::HistoryMissing("purged".into()));
    let mut bench = Bench::up();
    bench.feed(directive(2, follow_from(1, &[7, 8])));
    bench.finish("follow", missing());
    assert_eq!(bench.names().last(), Some(&"report"));
    let operation = bench.fail("copy");
    assert_eq!(operation, Operation::CopyFrom { epoch: Epoch(2), donor: endpoint(7), boot: 2 });
    let report = bench.report();
    assert_eq!((report.role, report.position), (MemberRole::Starting, GtidSet::Empty), "its data is gone");
    assert_eq!(report.unattached, BTreeSet::from([1]), "the start that was copied over never replicated");
    assert!(matches!(report.trouble, Some(Trouble::HistoryMissing { .. })));
    bench.finish("provision", Outcome::Done);
    assert_eq!(bench.finish("start", started(false)), Operation::Start { boot: 2, replaced: false });
    bench.pass(2_000);
    bench.finish("follow", missing());
    bench.pass(2_000);
    let operation = bench.finish("copy", started(false));
    assert_eq!(operation, Operation::CopyFrom { epoch: Epoch(2), donor: endpoint(8), boot: 3 });
    bench.feed(Input::Exited { boot: 2, exit: exit() });
    bench.pass(2_000);
    attached(&mut bench);
    bench.probe(status()); // began before that, and is not believed
    bench.probe(following_status(LinkState::Connected));
    let report = bench.report();
    assert_eq!((report.role, report.boot), (MemberRole::Following { connected: true }, 3));
    assert_eq!((report.trouble, report.unattached), (None, BTreeSet::from([1, 2])));
    bench.feed(Input::Exited { boot: 3, exit: exit() });
    assert_eq!(bench.report().unattached, BTreeSet::from([1, 2]), "the third start has replicated");
}

/// To follow with a copy first, if there is nothing yet.
fn follow_copying() -> Order {
    let Order::Follow { primary, primary_id, semi_sync, donors, .. } = follow_from(1, &[7]) else { unreachable!() };
    Order::Follow { primary, primary_id, semi_sync, donors, copy: true }
}

fn empty() -> ServerStatus {
    ServerStatus { position: GtidSet::Empty, ..status() }
}

/// A server without data that is told so.
fn without_data() -> Bench {
    let mut bench = Bench::new();
    bench.feed(Input::Connected);
    bench.feed(Input::Launch { task: task() });
    bench.finish("provision", Outcome::Done);
    bench.finish("start", started(false));
    bench.probe(empty());
    bench.feed(directive(2, follow_copying()));
    bench
}

#[test]
fn who_has_nothing_yet_begins_with_a_copy_where_it_is_told_to() {
    let mut bench = without_data();
    let operation = bench.finish("copy", started(false));
    assert_eq!(operation, Operation::CopyFrom { epoch: Epoch(2), donor: endpoint(7), boot: 2 });
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.pass(2_000);
    bench.probe(empty()); // so is the primary
    attached(&mut bench);

    let mut bench = Bench::up();
    bench.feed(directive(2, follow_copying()));
    attached(&mut bench); // it has something: what it lacks is received
}

#[test]
fn who_cannot_begin_with_a_copy_does_without() {
    let mut bench = without_data();
    let impossible = Outcome::Failed(failure(ErrorKind::Unsupported, true));
    bench.finish("copy", impossible);
    bench.finish("provision", Outcome::Done);
    bench.finish("start", started(false));
    bench.probe(empty());
    bench.pass(2_000);
    attached(&mut bench);

    let mut bench = without_data();
    for _ in 0..ExecutorConfig::default().first_copies_max {
        bench.fail("copy");
        let trouble = bench.report().trouble;
        assert!(matches!(trouble, Some(Trouble::Failing { detail }) if detail.contains("no luck")));
        bench.finish("provision", Outcome::Done);
        bench.finish("start", started(false));
        assert!(!bench.has("follow") && !bench.has("copy"), "first it is looked at what it has");
        bench.probe(empty());
        bench.pass(60_000);
        bench.probe(empty());
    }
    attached(&mut bench);
}

#[test]
fn copies_that_fail_are_made_less_and_less_often_by_one_donor_after_the_other() {
    let missing = || Outcome::Followed(Followed::HistoryMissing("purged".into()));
    let mut bench = Bench::up();
    bench.feed(directive(2, follow_from(1, &[7, 8])));
    bench.finish("follow", missing());
    let (mut pauses, mut donors, mut failed_at) = (Vec::new(), Vec::new(), None);
    for round in 1..=8 {
        while !bench.has("copy") {
            bench.pass(10);
        }
        pauses.extend(failed_at.map(|at| bench.now.since(at) / 100 * 100));
        let Operation::CopyFrom { donor, .. } = bench.fail("copy") else { panic!("a copy is a copy") };
        donors.push(donor.port);
        failed_at = Some(bench.now);
        let report = bench.report();
        assert_eq!(report.failed_copies, round);
        let next = report.next_copy_ms.expect("it says when");
        bench.finish("provision", Outcome::Done);
        bench.finish("start", started(false));
        bench.probe(status());
        while !bench.has("follow") {
            bench.pass(10);
        }
        bench.finish("follow", missing());
        let Some(Trouble::HistoryMissing { detail }) = bench.report().trouble else { panic!("it says why") };
        let told = format!(
            "no copy could be had yet: copy from 127.0.0.1:{} failed ({round} failed in a row, ",
            donors.last().expect("one")
        );
        assert!(detail.starts_with(&told) && detail.ends_with(": no luck"), "{detail}");
        if round == 5 {
            bench.feed(directive(3, freeze())); // an election mends nothing of it
            bench.finish("freeze", frozen("0-1-5"));
            bench.feed(directive(3, follow_from(1, &[7, 8])));
            bench.finish("follow", missing());
            assert!(!bench.has("copy"), "its pause of {next} ms goes on");
        }
    }
    assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
    assert_eq!(donors, [7, 8, 7, 8, 7, 8, 7, 8]);
}

/// A donor that is as far behind as the member was gives the same useless copy each time.
#[test]
fn copies_that_do_not_help_count_as_failed_and_success_is_the_connection() {
    let missing = || Outcome::Followed(Followed::HistoryMissing("purged".into()));
    let mut bench = Bench::up();
    bench.feed(directive(2, follow_from(1, &[7])));
    bench.finish("follow", missing());
    for round in 1..=3 {
        while !bench.has("copy") {
            bench.pass(10);
        }
        bench.finish("copy", started(false));
        while !bench.has("follow") {
            bench.pass(10);
        }
        bench.finish("follow", missing());
        assert_eq!(bench.report().failed_copies, round, "at {}", bench.now);
    }
    bench.pass(4_000);
    bench.finish("copy", started(false));
    bench.pass(2_000);
    attached(&mut bench);
    bench.probe(status()); // began before that, and is not believed
    bench.probe(following_status(LinkState::Connected));
    let report = bench.report();
    assert_eq!((report.trouble, report.failed_copies, report.next_copy_ms), (None, 0, None));
}

#[test]
fn without_donors_missing_history_is_only_told() {
    let mut bench = Bench::up();
    bench.feed(directive(2, follow_from(1, &[])));
    for _ in 0..4 {
        bench.finish("follow", Outcome::Followed(Followed::HistoryMissing("purged".into())));
        assert!(matches!(bench.report().trouble, Some(Trouble::HistoryMissing { .. })));
        bench.pass(2_000);
        assert!(!bench.has("copy"));
    }
}

#[test]
fn a_higher_rank_takes_over_when_the_operation_ends() {
    let mut bench = Bench::up();
    bench.feed(directive(2, follow()));
    bench.feed(directive(3, freeze()));
    assert_eq!(bench.names(), ["follow"]);
    attached(&mut bench);
    assert!(bench.has("freeze"));
    bench.finish("freeze", frozen("0-1-5"));
    assert_eq!((bench.report().role, bench.report().epoch), (MemberRole::Frozen, Epoch(3)));
}

#[test]
fn results_are_taken_once() {
    let mut bench = Bench::up();
    bench.feed(directive(2, freeze()));
    let Effect::Operate { id, .. } = bench.take("freeze") else { panic!("an operation") };
    let finished = |text| Input::Finished { id, outcome: frozen(text) };
    bench.feed(finished("0-1-5"));
    bench.effects.clear();
    bench.feed(finished("0-1-6"));
    bench.feed(Input::Finished { id: CallId(999), outcome: Outcome::Done });
    bench.feed(Input::Killed { id });
    bench.feed(Input::Probed { id, result: Ok(primary_status(1)) });
    assert_eq!((bench.names(), bench.machine.ignored()), (vec![], 4));
}

#[test]
fn directives_before_the_launch_are_ignored() {
    let mut bench = Bench::new();
    bench.feed(directive(2, freeze()));
    assert_eq!((bench.machine.ignored(), bench.machine.state.obeyed), (1, None));
}

#[test]
fn a_start_is_not_called_unattached_while_a_later_one_may_replicate_unseen() {
    let mut bench = Bench::up();
    bench.feed(directive(2, follow_from(1, &[7])));
    bench.finish("follow", Outcome::Followed(Followed::HistoryMissing("purged".into())));
    bench.finish("copy", started(false));
    assert!(bench.has("follow"), "by itself, before anything was read of the new start");
    bench.feed(directive(3, freeze()));
    bench.pass(2_000);
    let report = bench.report();
    assert_eq!((report.boot, report.unattached), (1, BTreeSet::new()), "start 2 may have acknowledged by now");
}
