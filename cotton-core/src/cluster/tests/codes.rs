//! Every code that the API tells can come about, and the user guide says of each what it means and what ends it. A new code
//! does not compile without a line here, and this fails without a line there.

use super::slow;
use super::world::{World, spec, status};
use crate::cluster::Input;
use crate::cluster::explain::NotPromoted;
use crate::cluster::levers::Lever;
use crate::cluster::state::{Acker, LeavingCode};
use crate::election::{self, Ballot, Merit, PromotionRule, Rules, Undecided, UndecidedCode, WhyNot};
use crate::fleet::WhyUnknown;
use crate::placement::Avoid;
use crate::ports::mesos::TaskState;
use crate::protocol::{MemberRole, Trouble, TroubleCode};
use crate::{ClusterStatus, Epoch, GtidSet, Limits, MemberId, ReasonCode, Refusal, ResourceKind};
use std::collections::BTreeSet;

/// Codes with a line in a table of the guide below this heading, each with what it means and what ends it.
fn in_the_guide(heading: &str) -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/user-guide.md");
    let guide = std::fs::read_to_string(path).expect("the guide is there");
    let below = guide.split_once(&format!("\n### {heading}\n")).expect("the guide has that heading").1;
    let below = below.split("\n#").next().unwrap_or_default();
    let code = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let code = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
        assert!(cells.len() >= 4 && cells[1].len() > 5 && cells[2].len() > 3, "what ends {code}? {line}");
        Some(code.to_owned())
    };
    below.lines().filter_map(code).collect()
}

fn check_guide(heading: &str, codes: impl IntoIterator<Item = &'static str>) {
    let wanted: BTreeSet<String> = codes.into_iter().map(str::to_owned).collect();
    assert_eq!(in_the_guide(heading), wanted, "codes in the guide, and those that there are: {heading}");
}

#[test]
fn the_guide_says_what_ends_each() {
    check_guide("Reasons", ReasonCode::ALL.iter().map(|code| code.name()));
    check_guide("Why an election waits", UndecidedCode::ALL.iter().map(|code| code.name()));
    check_guide("Why a member is not promoted", NotPromoted::ALL.iter().map(|code| code.name()));
    check_guide("What troubles a member", TroubleCode::ALL.iter().map(|code| code.name()));
    check_guide("Why a member leaves", LeavingCode::ALL.iter().map(|code| code.name()));
    check_guide("Why an offer is not used", refusals().iter().map(Refusal::code));
    check_guide("Why a task is unknown", unknowns().iter().map(|(name, _)| *name));
}

fn fourth_without_link() -> World {
    let mut world = World::running(3);
    world.cluster.scale(world.now, &Limits::default(), 4).expect("room");
    world.place();
    world.persist();
    world.effects();
    world.toy(3).linked = false;
    world
}

fn paused(mut world: World) -> World {
    world.cluster.pull(world.now, Lever::Pause).expect("nothing is under way");
    world
}

fn crashed(size: u32, members: &[u64]) -> World {
    let mut world = World::running(size);
    for id in members {
        world.crash(*id);
    }
    world.hear_all();
    world
}

fn troubled(size: u32, id: u64, trouble: Trouble) -> World {
    let mut world = World::running(size);
    world.toy(id).trouble = Some(trouble);
    world.say_all();
    world.hear_all();
    world
}

fn errant() -> World {
    // both: one after another is replaced
    let mut world = World::running(3);
    for id in [1, 2] {
        world.toy(id).still = true;
        world.toy(id).data.insert(id, 1);
    }
    world.rounds(5);
    world
}

fn unreachable() -> World {
    let mut world = World::running(3);
    (world.toy(2).reachable, world.toy(2).linked) = (false, false);
    world.hear(status(MemberId(2), TaskState::Unreachable));
    world.rounds(35);
    world
}

/// A cluster of which that is told; `None` for what only a fleet can tell.
fn world_with(code: ReasonCode) -> Option<World> {
    Some(match code {
        ReasonCode::Paused => paused(World::running(3)),
        ReasonCode::FailoverHeld => {
            let mut world = paused(World::running(3));
            world.crash(0);
            world.hear_all();
            world
        }
        ReasonCode::FailoverCooldown => super::cooldown::held(),
        ReasonCode::Election => crashed(2, &[0]),
        ReasonCode::ElectionWaits => crashed(3, &[0, 2]),
        ReasonCode::Switchover => {
            let mut world = World::running(3);
            world.cluster.switchover(world.now, None).expect("somebody takes over");
            world
        }
        ReasonCode::Promotion => slow::applying(),
        ReasonCode::WaitingForAck => {
            let mut world = World::running(3);
            (world.toy(1).linked, world.toy(2).linked) = (false, false);
            world.rounds(6);
            world
        }
        ReasonCode::MemberMissing => {
            let mut world = World::running(3);
            world.kill(2);
            world.hear_all();
            world
        }
        ReasonCode::LaunchFailed => {
            let mut world = World::new(spec(1));
            world.place();
            world.persist();
            world.effects();
            world.toys.clear();
            world.up.clear();
            world.hear(status(MemberId(0), TaskState::Failed));
            world
        }
        ReasonCode::MemberLeaving => {
            let mut world = troubled(3, 1, Trouble::Unstable { detail: "five times".to_owned() });
            world.rounds(1);
            world
        }
        ReasonCode::MemberUnreachable => unreachable(),
        ReasonCode::MemberErrant => errant(),
        ReasonCode::MemberLagging => {
            let mut world = World::running(3);
            (world.toy(1).lag_s, world.toy(1).unapplied) = (Some(87), 3);
            world.rounds(2);
            world
        }
        ReasonCode::MemberUnhealthy => crashed(3, &[2]),
        ReasonCode::MemberEnding => {
            let mut world = World::running(1);
            world.cluster.delete(world.now);
            world
        }
        // `fleet/tests/mod.rs`, `volumes.rs`, `maintenance.rs`
        ReasonCode::NotPlaced | ReasonCode::CannotReturn | ReasonCode::Maintenance | ReasonCode::NotSaved => {
            return None;
        }
    })
}

#[test]
fn every_reason_comes_about_and_is_explained() {
    for code in ReasonCode::ALL {
        let Some(world) = world_with(*code) else { continue };
        let view = world.cluster.view(world.now);
        assert!(view.reasons.iter().any(|reason| reason.code == *code), "{code:?}: {:?}", view.reasons);
        let explained = world.cluster.explain(world.now);
        assert_eq!(explained.waits.len(), view.reasons.len(), "{explained:?}");
        assert!(explained.waits.iter().all(|wait| !wait.text.is_empty()));
    }
}

fn ballot(member: u64, gtids: &str) -> Ballot {
    let start = Acker { member: MemberId(member), incarnation: 1, boot: 1 };
    Ballot {
        member: MemberId(member),
        start,
        kept_since: start,
        position: GtidSet::mysql(gtids, "").expect("a valid set"),
        errant: false,
        unapplied: 0,
        stuck: false,
        attached: Epoch(1),
        joined: true,
        leaving: false,
        rule: PromotionRule::Neutral,
        preferred: false,
    }
}

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";
const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";

fn undecided(code: UndecidedCode) -> Undecided {
    let elect = |ballots: &[Ballot], floor: &str, ackers: &[u64]| {
        let rules = Rules {
            ackers: &ackers.iter().map(|id| ballot(*id, "").start).collect(),
            acks: 1,
            floor: &GtidSet::mysql(floor, "").expect("a valid set"),
            witnesses: &BTreeSet::from([MemberId(0)]),
            last: None,
            force: false,
        };
        election::elect(ballots, &rules).expect_err("it waits")
    };
    let of = |world: &World| {
        let waiting = world.cluster.election.as_ref().and_then(|election| election.waiting.clone());
        waiting.expect("it waits")
    };
    match code {
        UndecidedCode::NoCandidate => elect(&[], "", &[]),
        UndecidedCode::NoQuorum => {
            let mut world = crashed(3, &[0, 2]);
            world.rounds(5);
            of(&world)
        }
        UndecidedCode::BelowFloor => elect(&[ballot(1, A)], B, &[]),
        UndecidedCode::Split => elect(&[ballot(1, A), ballot(2, B)], "", &[]),
        UndecidedCode::MayWrite => {
            let mut world = World::running(1);
            world.cluster.scale(world.now, &Limits::default(), 2).expect("room");
            world.mended(5);
            (world.toy(0).reachable, world.toy(0).linked) = (false, false);
            world.rounds(20);
            of(&world)
        }
        UndecidedCode::CoolsDown => of(&super::cooldown::held()),
        UndecidedCode::Outdated | UndecidedCode::Unknown => {
            let mut world = World::running(3);
            world.hear(Input::Outdated { unknown: true });
            world.crash(0);
            world.hear_all();
            if code == UndecidedCode::Outdated {
                world.hear(Input::Outdated { unknown: false });
            }
            of(&world)
        }
    }
}

#[test]
fn every_wait_of_an_election_comes_about() {
    for code in UndecidedCode::ALL {
        assert_eq!(undecided(*code).code(), *code);
    }
}

/// What speaks against that member in a world.
fn against(world: &World, id: u64) -> Vec<NotPromoted> {
    let explained = world.cluster.explain(world.now);
    let member = explained.members.into_iter().find(|member| member.id == MemberId(id)).expect("a member");
    member.why_not.into_iter().map(|against| against.code).collect()
}

fn compared(own: &Ballot, winner: &Ballot) -> Vec<NotPromoted> {
    let world = World::running(3);
    let why = election::why_not(own, winner);
    why.iter().map(|why| world.cluster.why_less(own.member, own, winner, why).0).collect()
}

fn why_not(code: NotPromoted) -> Vec<NotPromoted> {
    match code {
        NotPromoted::FirstStart => {
            let mut world = World::new(spec(3));
            world.place();
            against(&world, 1)
        }
        NotPromoted::IsPrimary => against(&World::running(3), 0),
        NotPromoted::NeverHeard => against(&fourth_without_link(), 3),
        NotPromoted::Unreachable => against(&unreachable(), 2),
        NotPromoted::Silent | NotPromoted::IsAwaited => {
            let mut world = World::running(3);
            world.toy(2).reachable = false;
            world.rounds(7);
            against(&world, 2)
        }
        NotPromoted::Resting => {
            let mut world = World::new(spec(3));
            world.volumes = true;
            world.settle();
            world.end_task(2);
            world.hear_all();
            against(&world, 2)
        }
        NotPromoted::Down => against(&crashed(3, &[2]), 2),
        NotPromoted::Starting => {
            let mut world = fourth_without_link();
            world.toy(3).role = MemberRole::Starting;
            world.say(MemberId(3));
            world.hear_all();
            against(&world, 3)
        }
        NotPromoted::NotFrozen => against(&crashed(3, &[0]), 1),
        NotPromoted::Undecided => against(&crashed(3, &[2]), 1),
        NotPromoted::NotJoined | NotPromoted::Lacks => {
            let mut world = fourth_without_link();
            world.mended(3);
            against(&world, 3)
        }
        NotPromoted::Diverged => compared(&ballot(1, A), &ballot(2, B)),
        NotPromoted::Damaged => against(&super::stalls::damaged(), 0),
        NotPromoted::Leaving => {
            let mut world = troubled(3, 1, Trouble::Unstable { detail: "five times".to_owned() });
            world.rounds(1);
            against(&world, 1)
        }
        NotPromoted::Storage => against(&troubled(3, 1, Trouble::Storage { detail: "full".to_owned() }), 1),
        NotPromoted::AgentGoes => compared(&Ballot { leaving: true, ..ballot(1, A) }, &ballot(2, A)),
        NotPromoted::Stuck => against(&troubled(3, 1, Trouble::Stuck { detail: "1062".to_owned() }), 1),
        NotPromoted::Errant => compared(&Ballot { errant: true, ..ballot(1, A) }, &ballot(2, A)),
        NotPromoted::NotPreferred => compared(&ballot(1, A), &Ballot { preferred: true, ..ballot(2, A) }),
        NotPromoted::PromotionRule => compared(&Ballot { rule: PromotionRule::Never, ..ballot(1, A) }, &ballot(2, A)),
        NotPromoted::MoreToApply => compared(&Ballot { unapplied: 3, ..ballot(1, A) }, &ballot(2, A)),
        NotPromoted::HigherNumber => against(&World::running(3), 2),
    }
}

#[test]
fn everything_that_speaks_against_a_member_comes_about() {
    for code in NotPromoted::ALL {
        let found = why_not(*code);
        assert!(found.contains(code), "{code:?}: {found:?}");
    }
}

/// What is preferred is what an election goes by.
#[test]
fn what_decides_between_equals_is_told() {
    let better = ballot(1, A);
    let worse = |merit: Merit| match merit {
        Merit::Stays => Ballot { leaving: true, ..ballot(2, A) },
        Merit::CanApply => Ballot { stuck: true, ..ballot(2, A) },
        Merit::MayLead => Ballot { rule: PromotionRule::Never, ..ballot(2, A) },
        Merit::WroteNothing => Ballot { errant: true, ..ballot(2, A) },
        Merit::LeastToApply => Ballot { unapplied: 1, ..ballot(2, A) },
        Merit::Preferred | Merit::Rule | Merit::LowestNumber => ballot(2, A),
    };
    for merit in Merit::ALL {
        let rule = if merit == Merit::Rule { PromotionRule::Prefer } else { PromotionRule::Neutral };
        let better = Ballot { preferred: merit == Merit::Preferred, rule, ..better.clone() };
        let worse = worse(merit);
        let (ackers, witnesses) = (BTreeSet::new(), BTreeSet::new());
        let rules =
            Rules { ackers: &ackers, acks: 0, floor: &GtidSet::Empty, witnesses: &witnesses, last: None, force: false };
        assert_eq!(election::elect(&[worse.clone(), better.clone()], &rules), Ok(MemberId(1)));
        assert_eq!(election::why_not(&worse, &better), [WhyNot::Less(merit)]);
    }
}

#[test]
fn every_trouble_is_told_with_its_code() {
    let detail = || "x".to_owned();
    for code in TroubleCode::ALL {
        let trouble = match code {
            TroubleCode::Errant => Trouble::Errant { gtids: detail() },
            TroubleCode::HistoryMissing => Trouble::HistoryMissing { detail: detail() },
            TroubleCode::Unstable => Trouble::Unstable { detail: detail() },
            TroubleCode::Broken => Trouble::Broken { detail: detail() },
            TroubleCode::Storage => Trouble::Storage { detail: detail() },
            TroubleCode::Incomplete => Trouble::Incomplete { detail: detail() },
            TroubleCode::Stuck => Trouble::Stuck { detail: detail() },
            TroubleCode::DataGone => Trouble::DataGone { detail: detail() },
            TroubleCode::Hung => Trouble::Hung { detail: detail() },
            TroubleCode::Failing => Trouble::Failing { detail: detail() },
        };
        let world = troubled(2, 1, trouble.clone());
        let member = world.cluster.view(world.now).members[1].clone();
        assert_eq!((member.trouble_code, member.trouble), (Some(*code), Some(trouble.to_string())));
        let tag = serde_json::to_value(&trouble).expect("representable")["trouble"].clone();
        assert_eq!(tag, code.name(), "as executors say it");
    }
}

fn leaving(code: LeavingCode) -> Option<World> {
    let detail = || "x".to_owned();
    Some(match code {
        LeavingCode::ScaleDown => {
            let mut world = World::running(3);
            world.cluster.scale(world.now, &Limits::default(), 2).expect("room");
            world
        }
        LeavingCode::Errant => troubled(3, 1, Trouble::Errant { gtids: detail() }),
        LeavingCode::Damaged => super::stalls::damaged(),
        LeavingCode::Unstable => troubled(3, 1, Trouble::Unstable { detail: detail() }),
        LeavingCode::Broken => troubled(3, 1, Trouble::Broken { detail: detail() }),
        LeavingCode::DataGone => troubled(3, 1, Trouble::DataGone { detail: detail() }),
        LeavingCode::Unreachable => unreachable(),
        LeavingCode::Stuck => {
            let mut world = fourth_without_link();
            world.toys.remove(&MemberId(3));
            world.up.clear();
            world.rounds(301);
            world
        }
        LeavingCode::Missing => {
            let mut world = World::new(spec(3));
            world.volumes = true;
            world.settle();
            world.end_task(2);
            world.hear_all();
            world.rounds(125);
            world
        }
        LeavingCode::Rebuild => {
            let mut world = World::running(3);
            world.cluster.pull(world.now, Lever::Rebuild(MemberId(1))).expect("all is well");
            world
        }
        LeavingCode::Deleted => return None, // in records of earlier versions only
    })
}

#[test]
fn every_reason_to_leave_comes_about() {
    for code in LeavingCode::ALL {
        let Some(world) = leaving(*code) else { continue };
        let members = world.cluster.view(world.now).members;
        assert!(members.iter().any(|member| member.leaving_code == Some(*code)), "{code:?}: {members:?}");
        let known = world.cluster.state().members.values().find_map(|member| member.leaving).expect("one leaves");
        assert_eq!(serde_json::to_value(known).expect("representable"), code.name(), "as records have it");
    }
}

/// One for each code; what produces them is in the tests of `placement`.
fn refusals() -> Vec<Refusal> {
    let lacks = |kind| Refusal::Lacks { kind, have: 0, want: 1 };
    let all = vec![
        Refusal::AgentTaken,
        lacks(ResourceKind::Cpus),
        lacks(ResourceKind::Mem),
        lacks(ResourceKind::Disk),
        Refusal::NoPort,
        Refusal::Maintenance { in_ms: 0 },
        Refusal::Failing(Avoid { in_ms: 0, reason: String::new() }),
        Refusal::Rule(String::new()),
    ];
    for refusal in &all {
        match refusal {
            // One that is new here needs a line above, and in the guide.
            Refusal::AgentTaken
            | Refusal::Lacks { .. }
            | Refusal::NoPort
            | Refusal::Maintenance { .. }
            | Refusal::Failing(_)
            | Refusal::Rule(_) => {}
        }
    }
    all
}

/// One for each code; what produces them is in `fleet/tests/unknown.rs`.
fn unknowns() -> Vec<(&'static str, WhyUnknown)> {
    let name = |why| match why {
        WhyUnknown::NoRecord => "no_record",
        WhyUnknown::Damaged => "damaged",
        WhyUnknown::Newer => "newer",
        WhyUnknown::GivenUp => "given_up",
        WhyUnknown::Foreign => "foreign",
    };
    let all = [WhyUnknown::NoRecord, WhyUnknown::Damaged, WhyUnknown::Newer, WhyUnknown::GivenUp, WhyUnknown::Foreign];
    let all: Vec<_> = all.into_iter().map(|why| (name(why), why)).collect();
    for (name, why) in &all {
        assert_eq!(serde_json::to_value(why).expect("representable"), *name);
    }
    all
}

#[test]
fn the_guide_has_every_status() {
    let all = [
        ClusterStatus::Creating,
        ClusterStatus::Healthy,
        ClusterStatus::Degraded,
        ClusterStatus::Blocked,
        ClusterStatus::FailingOver,
        ClusterStatus::Waiting,
        ClusterStatus::Deleting,
    ];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/user-guide.md");
    let guide = std::fs::read_to_string(path).expect("the guide is there");
    for status in all {
        assert!(guide.contains(&format!("\n| `{}` | ", status.name())), "{status:?}");
    }
}
