//! Tables taken from real servers (9.7 and 5.6), and the laws of sets.

use super::super::GtidError;
use super::{GNO_MAX, MySqlGtids};
use proptest::prelude::*;
use std::collections::BTreeSet;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "00000000-0000-0000-0000-000000000001";

fn set(text: &str) -> MySqlGtids {
    text.replace('A', A).replace('B', B).parse().expect("a valid set")
}

#[test]
fn prints_as_the_server_does() {
    let upper = "3E11FA47-71CA-11E1-9E33-C80AA9429562";
    // Left: what 9.7 was given (U stands for the uuid in upper case); right: what it printed.
    for (text, canonical) in [
        ("", ""),
        (" \n", ""),
        (",", ""),
        (",,U:1,,", "A:1"),
        ("U:1-5:3-9:11", "A:1-9:11"),
        ("U:1-5:6", "A:1-6"),
        ("U:5:1-3", "A:1-3:5"),
        ("\n U : 1 - 3 : 5 ,\n\n00000000-0000-0000-0000-000000000001:7", "B:7,A:1-3:5"),
        ("U:1 -\t3\r", "A:1-3"),
        ("U:1\x0b-\x0c3", "A:1-3"),
        ("U :1", "A:1"),
        ("U:007", "A:7"),
        ("U:1-9223372036854775806", "A:1-9223372036854775806"),
        ("U:9223372036854775805-9223372036854775806:9223372036854775804", "A:9223372036854775804-9223372036854775806"),
        ("U:tagA:1-5:TagB:7:1-3", "A:taga:1-5:tagb:1-3:7"),
        ("U:1-3:a:1:b:1,U:4", "A:1-4:a:1:b:1"),
        ("U:a:1:5-7,U:1", "A:1:a:1:5-7"),
        ("U:a:1:a:2", "A:a:1-2"),
        ("U: a : 1", "A:a:1"),
        ("U:A:1,U:a:2", "A:a:1-2"),
        ("U:a:1:2:b:3:1:2", "A:a:1-2:b:1-3"),
        ("U:a_:1:a0:1:aa:1:a:1:_:1", "A:_:1:a:1:a0:1:a_:1:aa:1"),
        ("U:abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb:1", "A:abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb:1"),
    ] {
        let read: MySqlGtids = text.replace('U', upper).parse().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(read.to_string(), canonical.replace('A', A).replace('B', B), "{text:?}");
    }
}

#[test]
fn refuses_with_the_place() {
    for (text, error) in [
        ("x", GtidError::Uuid { at: 0 }),
        ("3e11fa47-71ca-11e1-9 33-c80aa9429562:1", GtidError::Uuid { at: 20 }),
        ("3e11fa4771ca11e19e33c80aa9429562:1", GtidError::Uuid { at: 8 }),
        ("3e11fa47-71ca-11e1-9e33-c80aa942956é:1", GtidError::Uuid { at: 35 }),
        ("A", GtidError::NoInterval { at: 36 }),
        ("A,B:1", GtidError::NoInterval { at: 36 }),
        ("A:", GtidError::Number { at: 37 }),
        ("A:a", GtidError::NoInterval { at: 38 }),
        ("A:1:a", GtidError::NoInterval { at: 40 }),
        ("A:a:b:1", GtidError::NoInterval { at: 39 }),
        ("A:a:", GtidError::Number { at: 39 }),
        ("A::1", GtidError::Number { at: 37 }),
        ("A:-1", GtidError::Number { at: 37 }),
        ("A:+1", GtidError::Number { at: 37 }),
        ("A:1-", GtidError::Number { at: 39 }),
        ("A:é", GtidError::Number { at: 37 }),
        ("A:1-2-3", GtidError::Separator { at: 40 }),
        ("A:1 2", GtidError::Separator { at: 39 }),
        ("A:1a:1", GtidError::Separator { at: 38 }),
        ("A:1;", GtidError::Separator { at: 38 }),
        ("A:1\0", GtidError::Separator { at: 38 }),
        ("A:0", GtidError::OutOfRange { at: 37 }),
        ("A:0-3", GtidError::OutOfRange { at: 37 }),
        ("A:9223372036854775807", GtidError::OutOfRange { at: 37 }),
        ("A:1-9223372036854775807", GtidError::OutOfRange { at: 39 }),
        ("A:99999999999999999999", GtidError::OutOfRange { at: 37 }),
        ("A:5-3", GtidError::Backwards { at: 38 }),
        ("A:abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb:1", GtidError::TagTooLong { at: 37 }),
    ] {
        let full = text.replace('A', A).replace('B', B);
        assert_eq!(full.parse::<MySqlGtids>(), Err(error), "{text:?}");
    }
}

#[test]
fn a_former_primary_with_one_transaction_too_many() {
    let old = set("A:1-1456,B:1-7");
    let new = set("A:1-1455:1457-1460,B:1-9");
    assert!(!new.contains(&old) && !old.contains(&new));
    assert_eq!(old.subtract(&new), set("A:1456"));
    assert!(new.union(&old).contains(&old));
    // Equal numbers under another tag are other transactions.
    assert!(!set("A:1-9").contains(&set("A:t:5")));
}

#[test]
fn subtracts_at_every_edge() {
    for (a, b, left) in [
        ("A:1-9", "A:1-9", ""),
        ("A:1-9", "A:2-8", "A:1:9"),
        ("A:1-9", "A:1", "A:2-9"),
        ("A:1-9", "A:9", "A:1-8"),
        ("A:1-3:5-7:9", "A:3-9", "A:1-2"),
        ("A:1-3:5-7:9", "A:2:6", "A:1:3:5:7:9"),
        ("A:1-9", "A:1:3:5:7:9", "A:2:4:6:8"),
        ("A:1-9", "B:1-9", "A:1-9"),
        ("A:1-9223372036854775806", "A:2-9223372036854775806", "A:1"),
        ("A:9223372036854775806", "A:1-9223372036854775806", ""),
        ("A:1-9223372036854775806", "A:9223372036854775806", "A:1-9223372036854775805"),
    ] {
        assert_eq!(set(a).subtract(&set(b)), set(left), "{a} minus {b}");
    }
}

#[test]
fn counts_without_overflow() {
    let full = format!("1-{GNO_MAX}");
    assert_eq!(set(&format!("A:{full}")).count(), GNO_MAX);
    assert_eq!(set(&format!("A:{full}:x:{full}:y:{full}")).count(), u64::MAX);
    assert_eq!(set("A:1-3:9,B:t:1").count(), 5);
}

#[test]
fn is_checked_when_read_back() {
    let json = serde_json::to_string(&set("A:1-3")).expect("serialises");
    assert_eq!(json, format!("\"{A}:1-3\""));
    assert_eq!(serde_json::from_str::<MySqlGtids>(&json).expect("its own text"), set("A:1-3"));
    assert!(serde_json::from_str::<MySqlGtids>("\"garbage\"").is_err());
}

/// The obvious model: transactions one by one.
type Model = BTreeSet<(u8, u8, u64)>;

fn build(model: &Model) -> MySqlGtids {
    let one = |(server, tag, gno): &(u8, u8, u64)| {
        let tag = if *tag == 0 { String::new() } else { format!("t{tag}:") };
        format!("0000000{server}-71ca-11e1-9e33-c80aa9429562:{tag}{gno}")
    };
    model.iter().map(one).collect::<Vec<_>>().join(",").parse().expect("a valid set")
}

fn models() -> impl Strategy<Value = Model> {
    proptest::collection::btree_set((0u8..3, 0u8..3, 1u64..12), 0..40)
}

/// Texts that are nearly sets: pieces of sets in any order.
fn nearly() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        A,
        B,
        ":",
        "-",
        ",",
        " ",
        "\n",
        "1",
        "7",
        "0",
        "t",
        "_x",
        "9223372036854775806",
        "9223372036854775807",
        "é",
        ":1-3",
        ":5",
    ]);
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn operations_are_those_of_sets(a in models(), b in models()) {
        let (x, y) = (build(&a), build(&b));
        prop_assert_eq!(x.union(&y), build(&(&a | &b)));
        prop_assert_eq!(x.subtract(&y), build(&(&a - &b)));
        prop_assert_eq!(x.contains(&y), a.is_superset(&b));
        prop_assert_eq!(x.intersects(&y), !a.is_disjoint(&b));
        prop_assert_eq!(x.is_empty(), a.is_empty());
        prop_assert_eq!(x.count(), a.len() as u64);
        prop_assert_eq!(x == y, a == b);
    }

    #[test]
    fn laws(a in models(), b in models(), c in models()) {
        let (a, b, c) = (build(&a), build(&b), build(&c));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert!(a.union(&b).contains(&a) && a.contains(&a.subtract(&b)));
        prop_assert_eq!(a.contains(&b), b.subtract(&a).is_empty());
        prop_assert_eq!(a.subtract(&b).union(&b), a.union(&b));
        prop_assert!(!a.subtract(&b).intersects(&b));
        prop_assert_eq!(a.contains(&b) && b.contains(&a), a == b);
        prop_assert!(!(a.contains(&b) && b.contains(&c)) || a.contains(&c));
    }

    #[test]
    fn round_trips_and_is_canonical(a in models()) {
        let (set, text) = (build(&a), build(&a).to_string());
        let back: MySqlGtids = text.parse().expect("what was printed");
        prop_assert_eq!(&back, &set);
        prop_assert_eq!(back.to_string(), text.clone());
        prop_assert_eq!(text.to_uppercase().replace(',', ",\n").parse::<MySqlGtids>(), Ok(set));
    }

    #[test]
    fn garbage_never_panics(garbage in any::<String>(), near in nearly()) {
        let _ = garbage.parse::<MySqlGtids>();
        if let Ok(set) = near.parse::<MySqlGtids>() {
            prop_assert_eq!(set.to_string().parse::<MySqlGtids>(), Ok(set));
        }
    }
}
