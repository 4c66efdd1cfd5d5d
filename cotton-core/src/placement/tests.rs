//! Tables for the rules of spreading, and properties that hold for any wants and offers.

use super::*;
use crate::resources::MIB;
use crate::{ClusterName, MemberId, OfferId, Ports, ResourceKind, Resources};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn size(cpus: u64, mem: u64, disk: u64) -> Resources {
    Resources { cpus_milli: cpus * 1000, mem_bytes: mem * MIB, disk_bytes: disk * MIB }
}

fn offer(agent: &str, resources: Resources, ports: &[(u16, u16)]) -> Offer {
    Offer {
        id: OfferId::new(format!("offer-{agent}")),
        agent: agent.into(),
        host: format!("host-{agent}"),
        resources,
        ports: Ports::new(ports.iter().copied()),
        attributes: BTreeMap::new(),
        held: Vec::new(),
        maintenance_in_ms: None,
    }
}

fn zoned(agent: &str, zone: &str, resources: Resources) -> Offer {
    let attributes = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
    Offer { attributes, ..offer(agent, resources, &[(31000, 31999)]) }
}

/// A want with its parts owned.
type Owned = (ClusterName, Wanted);

fn want(cluster: &str, count: u32, resources: Resources) -> Owned {
    let cluster = cluster.parse().expect("a valid name");
    (cluster, Wanted { first: MemberId(0), count, resources, occupied: vec![], avoid: BTreeMap::new() })
}

impl Wanted {
    fn at(self, first: u64, occupied: &[(&str, Option<&str>)]) -> Self {
        let occupied = occupied.iter().map(|(agent, zone)| ((*agent).into(), zone.map(str::to_owned))).collect();
        Self { first: MemberId(first), occupied, ..self }
    }
}

fn plan_with(policy: &Spread, wants: &[Owned], offers: &[Offer]) -> Plan {
    let wants: Vec<_> = wants.iter().map(|(cluster, wanted)| Want { cluster, wanted }).collect();
    let plan = policy.place(&wants, offers);
    assert_eq!(plan.verify(&wants, offers), Ok(()));
    plan
}

fn avoid_for(in_ms: u64) -> Avoid {
    Avoid { in_ms, reason: "no space left".to_owned() }
}

/// Plans and verifies.
fn plan(wants: &[Owned], offers: &[Offer]) -> Plan {
    plan_with(&Spread::default(), wants, offers)
}

/// What goes where: `cluster/member@agent:port`.
fn places(wants: &[Owned], offers: &[Offer]) -> Vec<String> {
    let line =
        |one: Assignment| format!("{}/{}@{}:{}", one.cluster, one.member, one.place.agent, one.place.endpoint.port);
    plan(wants, offers).assignments.into_iter().map(line).collect()
}

const SMALL: [(u16, u16); 1] = [(31000, 31001)];

#[test]
fn agents_that_are_about_to_go_get_no_new_member() {
    let due = |agent, in_ms| Offer { maintenance_in_ms: in_ms, ..offer(agent, size(8, 8000, 8000), &SMALL) };
    let wants = [want("x", 3, size(1, 100, 100))];
    let offers = [due("a", Some(0)), due("b", Some(600_000)), due("c", Some(86_400_000)), due("d", None)];
    assert_eq!(places(&wants, &offers), ["x/0@c:31000", "x/1@d:31001"]);
    let unplaced = &plan(&wants, &offers).unplaced[0];
    assert!(unplaced.to_string().contains("2 offers on agents that are about to be taken down"), "{unplaced}");
    let texts: Vec<String> = unplaced.refusals.iter().map(ToString::to_string).collect();
    assert_eq!(texts[0], "host-a: agent is to be taken down for maintenance now");
    assert_eq!(texts[1], "host-b: agent is to be taken down for maintenance within 11 minutes");
    assert_eq!(unplaced.refusals[1].why.code(), "maintenance");
}

#[test]
fn agents_on_which_members_failed_come_last_and_not_before_their_pause_is_over() {
    let room = |agent: &str, cpus| offer(agent, size(cpus, 8000, 8000), &SMALL);
    let offers = [room("a", 8), room("b", 2), room("c", 9), room("d", 1)];
    let (cluster, wanted) = want("x", 4, size(1, 100, 100));
    let avoid = [("a", 0), ("c", 60_000)].map(|(agent, in_ms)| (agent.into(), avoid_for(in_ms)));
    let wants = [(cluster, Wanted { avoid: avoid.into(), ..wanted }), want("y", 1, size(9, 100, 100))];
    let placed = places(&wants, &offers);
    assert_eq!(placed, ["x/0@b:31000", "x/1@d:31001", "x/2@a:31000", "y/0@c:31000"], "others do not mind");
    let unplaced = &plan(&wants[..1], &offers).unplaced[0];
    assert_eq!(unplaced.tally.failing, 1, "{unplaced}");
    let refused = unplaced.refusals.iter().find(|one| one.why.code() == "failing").expect("of agent c");
    let text = "host-c: a member failed on this agent, it is tried again in 60 s: no space left";
    assert_eq!(refused.to_string(), text);
}

/// A zone of its own is no reason to go where members fail.
#[test]
fn agents_on_which_members_failed_come_last_over_zones() {
    let offers =
        [zoned("a", "z1", size(8, 800, 800)), zoned("b", "z1", size(8, 800, 800)), zoned("c", "z2", size(8, 800, 800))];
    let (cluster, wanted) = want("x", 2, size(1, 100, 100));
    let wanted = Wanted { avoid: [("c".into(), avoid_for(0))].into(), ..wanted };
    assert_eq!(places(&[(cluster, wanted)], &offers), ["x/0@a:31000", "x/1@b:31001"]);
}

#[test]
fn one_member_of_a_cluster_per_agent() {
    let offers = [offer("a", size(8, 8000, 8000), &SMALL), offer("b", size(8, 8000, 8000), &SMALL)];
    assert_eq!(places(&[want("x", 3, size(1, 100, 100))], &offers), ["x/0@a:31000", "x/1@b:31001"]);
    // Also in several offers of the same agent, and beside members that run already.
    let pieces = [offers[0].clone(), Offer { id: "more".into(), ..offers[0].clone() }];
    assert_eq!(places(&[want("x", 2, size(1, 100, 100))], &pieces), ["x/0@a:31000"]);
    let (x, more) = want("x", 2, size(1, 100, 100));
    assert_eq!(places(&[(x, more.at(7, &[("a", None)]))], &offers), ["x/7@b:31001"]);
}

#[test]
fn several_clusters_share_an_offer_first_come_first_served() {
    let offers = [offer("a", size(4, 400, 400), &[(1, 9)])];
    let wants = [want("x", 1, size(1, 100, 100)), want("y", 1, size(2, 100, 100)), want("z", 1, size(2, 100, 100))];
    assert_eq!(places(&wants, &offers), ["x/0@a:1", "y/0@a:2"]);
    let done = plan(&wants, &offers);
    let refused = vec![OfferRefusal {
        agent: "a".into(),
        host: "host-a".to_owned(),
        why: Refusal::Lacks { kind: ResourceKind::Cpus, have: 1000, want: 2000 },
    }];
    assert_eq!((done.unplaced.len(), &done.unplaced[0].refusals), (1, &refused));
    assert_eq!(refused[0].to_string(), "host-a: too little cpus: 1 left, 2 wanted");
}

#[test]
fn the_roomiest_agent_first() {
    let offers = [offer("a", size(2, 800, 800), &SMALL), offer("b", size(4, 800, 800), &SMALL)];
    let wants = ["w", "x", "y", "z"].map(|name| want(name, 1, size(1, 100, 100)));
    // b has 4 cpus, then 3, then 2, as has a, which comes first.
    assert_eq!(places(&wants, &offers), ["w/0@b:31000", "x/0@b:31001", "y/0@a:31000", "z/0@a:31001"]);
}

#[test]
fn zones_differ_while_there_are_enough() {
    let big = size(16, 16000, 16000);
    let offers =
        [zoned("a", "r1", big), zoned("b", "r1", big), zoned("c", "r2", size(8, 8000, 8000)), zoned("d", "r1", big)];
    let agents = |wants: &[Owned]| {
        plan(wants, &offers).assignments.iter().map(|one| one.place.agent.to_string()).collect::<String>()
    };
    assert_eq!(agents(&[want("x", 2, size(1, 1, 1))]), "ac"); // c has less room, but another zone
    assert_eq!(agents(&[want("x", 3, size(1, 1, 1))]), "acb");
    assert_eq!(agents(&[want("x", 2, size(9, 1, 1))]), "ab"); // does not fit on c: the zone is a wish
    let beside = |zone| {
        let (x, one) = want("x", 1, size(1, 1, 1));
        (x, one.at(0, &[("gone", zone)]))
    };
    assert_eq!(agents(&[beside(Some("r1"))]), "c");
    assert_eq!(agents(&[beside(Some("r2"))]), "a");
    assert_eq!(agents(&[beside(None)]), "a");
    let blind = plan_with(&Spread { zone_attribute: None }, &[want("x", 2, size(1, 1, 1))], &offers);
    let second = &blind.assignments[1].place;
    assert_eq!((second.agent.as_str(), second.zone.as_deref()), ("b", None));
}

#[test]
fn reasons_are_counted_and_told() {
    let offers = [
        offer("a", size(8, 300, 8000), &SMALL),
        offer("b", size(8, 8000, 8000), &[]),
        offer("c", size(8, 8000, 8000), &SMALL),
        offer("d", size(1, 200, 8000), &SMALL),
        offer("e", size(8, 200, 8000), &SMALL),
        offer("f", size(8, 8000, 1), &SMALL),
    ];
    let (x, two) = want("x", 2, size(2, 512, 2048));
    let wants = [(x, two.at(0, &[("c", None)]))];
    let done = plan(&wants, &offers);
    assert_eq!(
        done.unplaced[0].to_string(),
        "2 members of 2 cpus, 512 MiB memory, 2048 MiB disk each not placed: too little cpus in 1 offer (at most 8 \
         left), too little mem in 2 offers (at most 8000 MiB left), too little disk in 1 offer (at most 8000 MiB \
         left), 1 offer on agents that already hold a member, 1 offer without a free port"
    );
    let many: Vec<_> = (0..100).map(|i| offer(&i.to_string(), size(1, 1, 1), &SMALL)).collect();
    let done = plan(&wants, &many);
    assert_eq!((done.unplaced[0].refusals.len(), done.unplaced[0].tally.cpus), (REFUSALS_KEPT, 100));
    assert_eq!(done.unused.len(), 100);
}

#[test]
fn ports_follow_the_member_id() {
    let offers = [offer("a", size(8, 800, 800), &[(31000, 31009)])];
    let at = |id| {
        let (x, one) = want("x", 1, size(1, 1, 1));
        (x, one.at(id, &[]))
    };
    assert_eq!(places(&[at(3)], &offers), ["x/3@a:31003"]);
    assert_eq!(places(&[at(13)], &offers), ["x/13@a:31003"]);
}

#[test]
fn absurd_amounts_do_no_harm() {
    let all = Resources { cpus_milli: u64::MAX, mem_bytes: u64::MAX, disk_bytes: u64::MAX };
    let (x, last) = want("x", u32::MAX, all);
    let offers = [offer("a", all, &[(0, u16::MAX)]), offer("b", Resources::default(), &SMALL)];
    let most = plan(&[(x, last.at(u64::MAX, &[]))], &offers);
    assert_eq!((most.assignments.len(), most.unplaced[0].missing), (1, u32::MAX - 1));
    let nothing = [want("x", 2, Resources::default())];
    assert_eq!(plan(&nothing, &offers).assignments.len(), 2);
}

#[test]
fn unsound_plans_are_found_out() {
    let offers = [offer("a", size(2, 200, 200), &SMALL), offer("b", size(2, 200, 200), &SMALL)];
    let wants = [want("x", 2, size(1, 100, 100)), want("y", 1, size(2, 100, 100))];
    let good = plan(&wants, &offers);
    assert_eq!(good.assignments.len(), 2);
    let broken = |edit: fn(&mut Plan)| {
        let mut plan = good.clone();
        edit(&mut plan);
        let wants: Vec<_> = wants.iter().map(|(cluster, wanted)| Want { cluster, wanted }).collect();
        plan.verify(&wants, &offers).expect_err("unsound").to_string()
    };
    let offer = "plan must use or give back offer offer-b as it was made, and once";
    assert_eq!(broken(|p| p.assignments[1].place.agent = "a".into()), offer);
    assert_eq!(broken(|p| p.assignments[1].place.endpoint.host.clear()), offer);
    assert_eq!(broken(|p| drop((p.assignments.pop(), p.unplaced[0].missing += 1))), offer);
    assert_eq!(broken(|p| p.unused.push("offer-b".into())), offer);
    assert_eq!(broken(|p| p.assignments[1].place.offer = "none".into()), offer.replace("offer-b", "none"));
    let member = "plan places member 0 of cluster x, which is not the next one wanted";
    assert_eq!(broken(|p| p.assignments[1].member = MemberId(0)), member);
    assert_eq!(
        broken(|p| p.assignments[0].cluster = "z".parse().expect("a name")),
        member.replace("cluster x", "cluster z")
    );
    assert_eq!(broken(|p| p.assignments.swap(0, 1)), member.replace('0', "1"));
    assert_eq!(
        broken(|p| p.assignments[0].place.endpoint.port = 9),
        "plan gives port 9 of offer offer-a that was not offered, or gives it twice"
    );
    let together = |p: &mut Plan| {
        p.assignments[1].place = p.assignments[0].place.clone();
        p.unused.push("offer-b".into());
    };
    assert_eq!(broken(together), "plan puts two members of cluster x on agent a");
    let heavy = |p: &mut Plan| {
        let cluster = "y".parse().expect("a name");
        p.assignments.push(Assignment { cluster, ..p.assignments[0].clone() });
    };
    assert_eq!(broken(heavy), "plan takes more cpus from offer offer-a than it has");
    let unaccounted = "plan does not account for all members that cluster y wants";
    assert_eq!(broken(|p| p.unplaced.clear()), unaccounted);
    assert_eq!(broken(|p| p.unplaced[0].missing = 2), unaccounted);
}

/// Cpus, memory, disk.
type Triple = (u64, u64, u64);

/// First id, count, size, where members are, and what to avoid for how long.
type Asked = (u64, u32, Triple, (Vec<(u8, u8)>, BTreeMap<u8, u64>));

fn offers() -> impl Strategy<Value = Vec<Offer>> {
    let one = (0u8..8, 0u8..4, (0u64..6, 0u64..6, 0u64..6), (0u16..4, 0u16..4));
    proptest::collection::vec(one, 0..14).prop_map(|all| {
        let build = |(index, (agent, zone, (c, m, d), (begin, len))): (usize, (u8, u8, Triple, (u16, u16)))| {
            let id = OfferId::new(format!("{index}"));
            let offer = zoned(&agent.to_string(), &zone.to_string(), size(c, m, d));
            Offer { id, ports: Ports::new([(begin, begin + len), (40, 40)]), ..offer }
        };
        all.into_iter().enumerate().map(build).collect()
    })
}

fn wants() -> impl Strategy<Value = Vec<Owned>> {
    let occupied = proptest::collection::vec((0u8..10, 0u8..5), 0..4);
    let avoid = proptest::collection::btree_map(0u8..8, 0u64..2, 0..4);
    let one = (0u64..9, 0u32..5, (0u64..4, 0u64..4, 0u64..4), (occupied, avoid));
    proptest::collection::vec(one, 0..10).prop_map(|all| {
        let build = |(index, (first, count, (c, m, d), (occupied, avoid))): (usize, Asked)| {
            let (name, wanted) = want(&format!("c{index}"), count, size(c, m, d));
            let place = |(agent, zone): &(u8, u8)| (agent.to_string().as_str().into(), Some(zone.to_string()));
            let avoided = |(agent, in_ms): (u8, u64)| (agent.to_string().as_str().into(), avoid_for(in_ms));
            let (occupied, avoid) = (occupied.iter().map(place).collect(), avoid.into_iter().map(avoided).collect());
            (name, Wanted { first: MemberId(first), occupied, avoid, ..wanted })
        };
        all.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn plans_are_sound_explained_and_repeatable(wants in wants(), offers in offers()) {
        let done = plan(&wants, &offers); // verifies
        prop_assert_eq!(&done, &plan(&wants, &offers));
        for unplaced in &done.unplaced {
            prop_assert_eq!(unplaced.tally.total() as usize, offers.len(), "every offer has a reason");
            prop_assert_eq!(unplaced.refusals.len(), offers.len().min(REFUSALS_KEPT));
            let (name, want) = wants.iter().find(|(name, _)| *name == unplaced.cluster).expect("wanted");
            for (offer, refusal) in offers.iter().zip(&unplaced.refusals) {
                let (left, ports) = left_of(&done, &wants, offer);
                // What is told was so when it was told, and is still so: room only shrinks.
                let holds = match refusal.why {
                    Refusal::NoPort => ports.is_empty(),
                    Refusal::Lacks { .. } => left.lacks(&want.resources).is_some(),
                    Refusal::AgentTaken => {
                        let own = |one: &Assignment| one.cluster == *name && one.place.agent == offer.agent;
                        done.assignments.iter().any(own) || want.occupied.iter().any(|(agent, _)| *agent == offer.agent)
                    }
                    Refusal::Failing(_) => want.avoid.get(&offer.agent).is_some_and(|avoid| avoid.in_ms > 0),
                    Refusal::Maintenance { .. } | Refusal::Rule(_) => false,
                };
                prop_assert!(holds, "{}", refusal);
            }
        }
    }

    #[test]
    fn no_zone_is_doubled_while_another_would_do(wants in wants(), offers in offers()) {
        // For the first want alone, so that nothing else takes the room.
        let wants = &wants[..wants.len().min(1)];
        let Some((_, want)) = wants.first() else { return Ok(()) };
        let mut near = want.occupied.clone();
        for one in plan(wants, &offers).assignments {
            let better = |offer: &Offer| {
                let zone = offer.attributes.get("zone");
                let apart = near.iter().all(|(agent, other)| *agent != offer.agent && other.as_ref() != zone);
                apart && !want.avoid.contains_key(&offer.agent) && offer.resources.lacks(&want.resources).is_none()
            };
            let doubled = near.iter().any(|(_, zone)| *zone == one.place.zone);
            prop_assert!(!doubled || !offers.iter().any(better));
            near.push((one.place.agent, one.place.zone));
        }
    }
}

/// What a plan leaves of an offer.
fn left_of(plan: &Plan, wants: &[Owned], offer: &Offer) -> (Resources, Ports) {
    let (mut left, mut ports) = (offer.resources, offer.ports.clone());
    for one in plan.assignments.iter().filter(|one| one.place.offer == offer.id) {
        let (_, want) = wants.iter().find(|(name, _)| *name == one.cluster).expect("wanted");
        left = left.checked_sub(&want.resources).expect("verified");
        ports.remove(one.place.endpoint.port);
    }
    (left, ports)
}
