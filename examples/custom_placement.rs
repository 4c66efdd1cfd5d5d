//! A placement policy of one's own: members only on agents with solid-state disks, otherwise as cotton does it.
//!
//! A policy is a pure function from what is wanted and what is offered to a plan. This one narrows the offers down,
//! leaves the rest to the default, and says why it refused what it refused.

use cotton_core::cluster::Wanted;
use cotton_core::placement::{PlacementPolicy, Plan, Refusal, Spread, Want};
use cotton_core::ports::mesos::Offer;
use cotton_core::{ClusterName, MemberId, Ports, Resources};
use std::collections::BTreeMap;
use std::error::Error;

/// Places members on agents whose attribute `disk` is `ssd`.
#[derive(Debug, Default)]
struct SolidState {
    otherwise: Spread,
}

impl PlacementPolicy for SolidState {
    fn place(&self, wants: &[Want<'_>], offers: &[Offer]) -> Plan {
        let is_ssd = |offer: &&Offer| offer.attributes.get("disk").is_some_and(|disk| disk == "ssd");
        let (good, refused): (Vec<&Offer>, Vec<&Offer>) = offers.iter().partition(is_ssd);
        let good: Vec<Offer> = good.into_iter().cloned().collect();
        let mut plan = self.otherwise.place(wants, &good);
        for offer in &refused {
            plan.unused.push(offer.id.clone());
            for unplaced in &mut plan.unplaced {
                unplaced.refuse(offer, &offer.resources, Refusal::Rule("its disk is not solid-state".to_owned()));
            }
        }
        plan
    }
}

fn offer(number: u16, disk: &str) -> Offer {
    Offer {
        id: format!("offer-{number}").as_str().into(),
        agent: format!("agent-{number}").as_str().into(),
        host: format!("host-{number}.example"),
        resources: Resources::DEFAULT.times(2),
        ports: Ports::new([(31_000, 31_010)]),
        attributes: BTreeMap::from([("disk".to_owned(), disk.to_owned())]),
        held: Vec::new(),
        maintenance_in_ms: None,
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn Error>> {
    let cluster: ClusterName = "orders".parse()?;
    let wanted = Wanted {
        count: 3,
        first: MemberId(0),
        resources: Resources::DEFAULT,
        occupied: vec![],
        avoid: BTreeMap::new(),
    };
    let wants = [Want { cluster: &cluster, wanted: &wanted }];
    let offers = [offer(1, "ssd"), offer(2, "rotating"), offer(3, "ssd")];

    let plan = SolidState::default().place(&wants, &offers);
    plan.verify(&wants, &offers)?; // what cotton asks of every policy
    for one in &plan.assignments {
        println!("member {} of {} goes to {} at {}", one.member, one.cluster, one.place.agent, one.place.endpoint);
    }
    for unplaced in &plan.unplaced {
        println!("{}: {unplaced}", unplaced.cluster);
        for refusal in &unplaced.refusals {
            println!("  {refusal}");
        }
    }
    // In a scheduler: `fleet::Config { placement: Box::new(SolidState::default()), ..Default::default() }`.
    assert_eq!((plan.assignments.len(), plan.unplaced.len()), (2, 1));
    Ok(())
}
