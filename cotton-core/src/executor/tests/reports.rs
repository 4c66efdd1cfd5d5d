//! What is told, when, and how truthful it is.

use super::*;

#[test]
fn reports_come_every_few_seconds() {
    let mut bench = Bench::up();
    bench.pass(1);
    let mut seqs = Vec::new();
    for _ in 0..5 {
        bench.effects.clear();
        bench.pass(2_000);
        let reports: Vec<u64> = bench
            .effects
            .iter()
            .filter_map(|effect| if let Effect::Report(report) = effect { Some(report.seq) } else { None })
            .collect();
        assert_eq!(reports.len(), 1);
        seqs.extend(reports);
    }
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
}

#[test]
fn nothing_is_said_into_the_void() {
    let mut bench = Bench::up();
    bench.feed(Input::Disconnected);
    bench.feed(directive(2, freeze()));
    bench.finish("freeze", frozen("0-1-9"));
    bench.pass(10_000);
    assert!(!bench.has("report"));
    bench.feed(Input::Connected);
    assert_eq!((bench.report().role, bench.report().position), (MemberRole::Frozen, gtids("0-1-9")));
    bench.effects.clear();
    bench.feed(Input::Connected);
    assert_eq!(bench.names(), ["report"]);
}

#[test]
fn a_nonce_is_echoed_by_a_position_read_after_it() {
    let mut bench = Bench::up();
    bench.pass(1_000);
    let Effect::Probe { id } = bench.take("probe") else { panic!("a probe") };
    bench.feed(heard(1, 1, 41, true));
    assert!(!bench.has("report"));
    bench.feed(Input::Probed { id, result: Ok(status()) });
    assert!(!bench.has("report"), "that one began too early");
    bench.probe(ServerStatus { position: gtids("0-1-8"), ..status() });
    assert_eq!((bench.report().echo, bench.report().position), (41, gtids("0-1-8")));
    bench.feed(heard(1, 1, 40, false));
    bench.probe(status());
    assert_eq!(bench.report().echo, 41, "it only grows");
}

#[test]
fn a_server_that_is_down_answers_at_once() {
    let mut bench = Bench::up();
    bench.feed(Input::Exited { boot: 1, exit: exit() });
    bench.effects.clear();
    bench.feed(heard(1, 1, 7, true));
    assert_eq!((bench.names(), bench.report().echo), (vec!["report"], 7));
}

#[test]
fn an_unanswered_probe_does_not_keep_a_report_back() {
    let mut bench = Bench::up();
    bench.feed(heard(1, 1, 7, true));
    bench.probe_result(Err(failure(ErrorKind::Timeout, false)));
    assert_eq!(bench.report().echo, 0);
}

#[test]
fn a_position_never_goes_back_because_a_probe_was_slow() {
    let mut bench = Bench::up();
    bench.pass(1_000);
    let Effect::Probe { id } = bench.take("probe") else { panic!("a probe") };
    bench.feed(directive(2, freeze()));
    bench.finish("freeze", frozen("0-1-9"));
    bench.feed(Input::Probed { id, result: Ok(status()) });
    bench.feed(directive(2, freeze()));
    assert_eq!(bench.report().position, gtids("0-1-9"));
}

#[test]
fn a_follower_tells_its_lag_and_whom_it_lost() {
    let mut bench = Bench::up();
    bench.feed(directive(2, follow()));
    bench.finish("follow", Outcome::Followed(crate::ports::mysql::Followed::Attached));
    bench.probe(following_status(LinkState::Connected));
    assert_eq!(bench.report().lag_s, Some(0));
    assert_eq!((bench.report().replicas, bench.report().waiting), (None, None), "said of primaries only");
}

#[test]
fn what_is_applied_is_told_while_something_is_not() {
    let mut bench = Bench::up();
    bench.feed(heard(1, 1, 1, true));
    bench.probe(ServerStatus { position: gtids("0-1-8"), unapplied: 3, applied: gtids("0-1-5"), ..status() });
    let report = bench.report();
    assert_eq!(report.applied, Some(gtids("0-1-5")));
    assert!(report.has_applied(&gtids("0-1-5")) && !report.has_applied(&gtids("0-1-6")));
    bench.feed(heard(1, 1, 2, true));
    bench.probe(ServerStatus { position: gtids("0-1-8"), applied: gtids("0-1-8"), ..status() });
    let report = bench.report();
    assert_eq!(report.applied, None);
    assert!(report.has_applied(&gtids("0-1-8")) && !report.has_applied(&gtids("0-1-9")));
    // an executor of another release tells how many, and not which
    let older = Report { unapplied: 1, ..report };
    assert!(!older.has_applied(&gtids("0-1-5")));
}

#[test]
fn each_term_of_a_primary_asks_for_the_accounts() {
    let told = || {
        Input::Message(ToExecutor::Accounts { revision: 3, user: None, accounts: std::collections::BTreeMap::new() })
    };
    let mut bench = Bench::primary(1);
    bench.feed(heard(1, 1, 1, true));
    bench.probe(primary_status(1));
    assert!(bench.report().accounts_wanted);
    bench.feed(told());
    bench.feed(heard(1, 1, 2, true));
    bench.probe(primary_status(1));
    assert!(!bench.report().accounts_wanted);
    assert_eq!(bench.report().accounts_revision, 3);
}
