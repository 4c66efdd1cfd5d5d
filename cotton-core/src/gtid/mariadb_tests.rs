//! Tables with positions as real servers showed them, and a toy world of servers in which the truth is known.

use super::super::GtidError;
use super::MariaDbGtids;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn position(text: &str) -> MariaDbGtids {
    text.parse().expect("a valid position")
}

#[test]
fn compares_as_the_module_documentation_says() {
    for (a, b, a_has_b, b_has_a) in [
        ("", "", true, true),
        ("0-1-5", "", true, false),
        // One primary.
        ("0-1-5", "0-1-5", true, true),
        ("0-1-6", "0-1-5", true, false),
        // After a failover: replicas of the new primary against one that has not heard of it.
        ("0-1-100,0-2-150", "0-1-100", true, false),
        ("0-1-100,0-2-150", "0-1-90", true, false),
        ("0-1-100,0-2-150", "0-1-100,0-2-150", true, true),
        ("0-1-100,0-2-150", "0-1-100,0-2-149", true, false),
        // The old primary kept what nobody else has: same number, other server.
        ("0-1-1455,0-2-1456", "0-1-1456", false, false),
        ("0-1-1455,0-2-1490", "0-1-1457", false, false),
        ("0-1-1455,0-2-1456", "0-1-1500", false, false),
        // And even if it then got the new primary's in spite of strict mode.
        ("0-1-100,0-2-150", "0-1-101,0-2-150", false, true),
        // Restored from a backup: does not name who wrote before, but shares the line.
        ("0-2-150", "0-1-100,0-2-150", true, true),
        ("0-2-180", "0-1-100,0-2-150", true, false),
        ("0-2-150", "0-1-100,0-2-180", false, true),
        ("0-2-180,0-3-190", "0-1-100,0-2-180,0-3-185", true, false),
        // Restored, against one of before: cannot be known.
        ("0-2-150", "0-1-100", false, false),
        // The primary changed there and back.
        ("0-1-200,0-2-150", "0-1-100,0-2-150", true, false),
        ("0-1-200,0-2-150", "0-1-100", true, false),
        // Domains stand for themselves.
        ("0-1-5,1-1-5", "0-1-5", true, false),
        ("0-1-5,1-1-5", "0-1-5,1-1-6", false, true),
        ("0-1-5", "1-1-5", false, false),
        // Received counts.
        ("0-1-90 received 0-1-100", "0-1-100", true, true),
        ("0-1-90 received 0-1-100", "0-1-95", true, false),
        ("0-1-90 received 0-1-100", "0-1-80 received 0-1-101", false, true),
        ("received 0-1-7", "0-1-7", true, true),
        ("0-1-90 received 0-1-100", "0-1-90 received 0-2-100", false, false),
        // Received across a change of primary: in doubt within the stretch, certain at its end and before it.
        ("0-1-90 received 0-2-150", "0-1-100", true, false),
        ("0-1-90 received 0-2-150", "0-1-150", false, false),
        ("0-1-90 received 0-2-150", "0-1-151", false, false),
        ("0-1-90,0-3-95 received 0-2-150", "0-1-94", false, false),
        ("0-1-90 received 0-2-150", "0-1-100,0-2-120", true, false),
        ("0-1-90 received 0-2-150", "0-1-100,0-2-150", true, true),
        ("0-1-90 received 0-2-150", "0-1-100,0-2-151", false, true),
    ] {
        let (x, y) = (position(a), position(b));
        assert_eq!((x.contains(&y), y.contains(&x)), (a_has_b, b_has_a), "{a} | {b}");
    }
}

#[test]
fn what_is_errant_is_named() {
    for (own, primary, missing) in [
        ("0-1-1456", "0-1-1455,0-2-1456", "0-1-1456"),
        ("0-1-101,0-2-150", "0-1-100,0-2-150", "0-1-101"),
        ("0-1-5,1-1-5 received 0-2-7", "0-1-5", "1-1-5 received 0-2-7"),
        ("0-1-5 received 0-1-7", "0-1-7", ""),
    ] {
        assert_eq!(position(own).missing_in(&position(primary)).to_string(), missing, "{own} | {primary}");
    }
}

#[test]
fn is_read_from_what_servers_show() {
    for (state, slave, io, text) in [
        ("", "", None, ""),
        (" ", "", Some(""), ""),
        ("0-1-100,0-2-150", "0-2-150", None, "0-1-100,0-2-150"),
        // As the server prints it: the newest of a domain last.
        ("0-2-150,0-1-160", "0-2-150", Some("0-1-160"), "0-1-160,0-2-150"),
        // A former primary: its slave position is stale.
        ("0-1-100,0-2-50", "0-2-50", None, "0-1-100,0-2-50"),
        // Restored: the binary log is empty.
        ("", "0-1-356", Some("0-1-356"), "0-1-356"),
        ("0-1-100", "0-1-100,1-3-7", Some("1-3-9,0-1-99"), "0-1-100,1-3-7 received 1-3-9"),
        ("0-1-0", "1-1-0", Some("0-1-0"), ""),
        ("4294967295-4294967295-18446744073709551615", "", None, "4294967295-4294967295-18446744073709551615"),
        ("", "", Some("1-1-5, 0-2-7"), "received 0-2-7,1-1-5"),
    ] {
        let read = MariaDbGtids::parse(state, slave, io).expect("valid");
        assert_eq!(read.to_string(), text, "{state} | {slave} | {io:?}");
        assert_eq!(text.parse(), Ok(read), "{text}");
    }
}

#[test]
fn refuses_with_the_place() {
    let triple = |part| Err(GtidError::Triple { part });
    for bad in ["x", "0", "0-1", "0-1-2-3", "0--1-2", "-1-2", "0-1-+2", "0-1-18446744073709551616", "0-1-2;", "é-1-1"]
    {
        assert_eq!(MariaDbGtids::parse(bad, "", None), triple(0), "{bad}");
    }
    for bad in ["0-1-2,", "0-1-2,,0-2-3", "0-1-2,4294967296-1-1", "0-1-2,1-4294967296-1", "0-1-2,0-2- 3"] {
        assert_eq!(bad.parse::<MariaDbGtids>(), triple(1), "{bad}");
    }
    let repeated = Err(GtidError::Repeated { part: 1 });
    assert_eq!(MariaDbGtids::parse("0-1-2,0-1-3", "", None), repeated);
    assert_eq!(MariaDbGtids::parse("", "0-1-2,0-2-3", None), repeated);
    assert_eq!(MariaDbGtids::parse("", "", Some("0-1-2,0-2-3")), repeated);
    assert!("0-1-2 received 0-1-3 received 0-1-4".parse::<MariaDbGtids>().is_err());
}

#[test]
fn is_checked_when_read_back() {
    let json = serde_json::to_string(&position("0-1-5 received 0-1-7")).expect("serialises");
    assert_eq!(json, r#""0-1-5 received 0-1-7""#);
    assert_eq!(serde_json::from_str::<MariaDbGtids>(&json).expect("its own text"), position("0-1-5 received 0-1-7"));
    assert!(serde_json::from_str::<MariaDbGtids>(r#""0-1""#).is_err());
}

/// A server of the toy world: in it, what each has is known transaction by transaction.
#[derive(Clone, Debug)]
struct Toy {
    id: u32,
    /// Number and writing server, in order.
    applied: Vec<(u64, u32)>,
    relay: Vec<(u64, u32)>,
    /// Index of the first applied transaction that its own binary log knows.
    log_from: usize,
}

impl Toy {
    fn position(&self) -> MariaDbGtids {
        let text = |(seq, server): &(u64, u32)| format!("0-{server}-{seq}");
        let last_of: BTreeMap<u32, u64> =
            self.applied[self.log_from..].iter().map(|(seq, server)| (*server, *seq)).collect();
        let state: Vec<_> = last_of.into_iter().map(|(server, seq)| text(&(seq, server))).collect();
        let slave_pos = self.applied.last().map(text).unwrap_or_default();
        MariaDbGtids::parse(&state.join(","), &slave_pos, self.relay.last().map(text).as_deref()).expect("valid")
    }

    fn has_all_of(&self, other: &Self) -> bool {
        other.applied.iter().chain(&other.relay).all(|x| self.applied.contains(x) || self.relay.contains(x))
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Writes, as a primary or by mistake.
    Write(usize),
    /// Connects to another one, if that has its last transaction, and receives some.
    Receive(usize, usize, usize),
    Apply(usize, usize),
    /// Replaced by a copy of another one; perhaps with its binary log state.
    Restore(usize, usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0usize..4;
    let step = prop_oneof![
        4 => who.clone().prop_map(Step::Write),
        6 => (who.clone(), who.clone(), 1usize..6).prop_map(|(a, b, n)| Step::Receive(a, b, n)),
        6 => (who.clone(), 1usize..6).prop_map(|(a, n)| Step::Apply(a, n)),
        1 => (who.clone(), who, any::<bool>()).prop_map(|(a, b, seeded)| Step::Restore(a, b, seeded)),
    ];
    proptest::collection::vec(step, 0..60)
}

fn world(steps: &[Step]) -> Vec<Toy> {
    let toy = |id| Toy { id, applied: Vec::new(), relay: Vec::new(), log_from: 0 };
    let mut toys: Vec<Toy> = (1..=4).map(toy).collect();
    let mut next_id = 5;
    for step in steps {
        match *step {
            Step::Write(i) if toys[i].relay.is_empty() => {
                let seq = toys[i].applied.last().map_or(0, |(seq, _)| *seq) + 1;
                let id = toys[i].id;
                toys[i].applied.push((seq, id));
            }
            Step::Write(_) => {}
            Step::Receive(i, j, n) => {
                let from = &toys[j].applied;
                let begin = toys[i].applied.last().map_or(Some(0), |x| from.iter().position(|y| x == y).map(|p| p + 1));
                if let Some(begin) = begin.filter(|begin| *begin >= toys[j].log_from) {
                    toys[i].relay = from[begin..from.len().min(begin + n)].to_vec();
                }
            }
            Step::Apply(i, n) => {
                let n = n.min(toys[i].relay.len());
                let done: Vec<_> = toys[i].relay.drain(..n).collect();
                toys[i].applied.extend(done);
            }
            Step::Restore(i, j, seeded) => {
                let applied = toys[j].applied.clone();
                let log_from = if seeded { toys[j].log_from } else { applied.len() };
                toys[i] = Toy { id: next_id, applied, relay: Vec::new(), log_from };
                next_id += 1;
            }
        }
    }
    toys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn agrees_with_the_truth(steps in steps()) {
        let toys = world(&steps);
        for a in &toys {
            for b in &toys {
                let (says, truth) = (a.position().contains(&b.position()), a.has_all_of(b));
                let seen = format!("{} | {}", a.position(), b.position());
                if a.relay.is_empty() {
                    prop_assert!(!says || truth, "a yes about what is applied is never wrong: {}", seen);
                }
                if a.log_from == 0 {
                    prop_assert!(says || !truth, "a no is never wrong when the state is whole: {}", seen);
                }
                let mut drained = a.clone();
                drained.applied.append(&mut drained.relay);
                prop_assert!(drained.position().contains(&a.position()), "applying loses nothing: {}", seen);
            }
        }
    }

    #[test]
    fn contains_is_reflexive_and_survives_the_text_form(steps in steps()) {
        for toy in world(&steps) {
            let position = toy.position();
            prop_assert!(position.contains(&position) && position.contains(&position.applied()));
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn garbage_never_panics(a in "[0-9,\\- rcived]{0,30}", b in any::<String>()) {
        for text in [&a, &b] {
            if let Ok(position) = text.parse::<MariaDbGtids>() {
                prop_assert_eq!(position.to_string().parse(), Ok(position.clone()));
                prop_assert!(position.contains(&position));
            }
            let _ = MariaDbGtids::parse(text, text, Some(text));
        }
    }
}

/// In strict mode, a replica with a transaction of its own takes no other in its place: it has received that, and cannot
/// apply it.
#[test]
fn what_is_received_below_a_number_of_ones_own_is_told_and_not_on_ones_line() {
    let primary: MariaDbGtids = "0-4-24".parse().expect("a valid position");
    let replica = MariaDbGtids::parse("0-4-23,0-3-24", "0-4-23", Some("0-4-24")).expect("a valid position");
    assert_eq!(replica.to_string(), "0-3-24,0-4-23 received 0-4-24");
    assert!(replica.contains(&primary), "it has received it");
    assert!(!primary.contains(&replica), "and holds what the primary lacks");
}
