//! Agents that operators are going to take down: asked by inverse offers, which need an answer as offers do.

use super::state::{Plan, State};
use crate::wire::common::Id;
use crate::wire::scheduler::call::{AnswerInverseOffers, CallBody, Filters};
use crate::wire::scheduler::event::{InverseOffer, Unavailability};
use cotton_core::ports::mesos::MesosEvent;
use cotton_core::{AgentId, OfferId};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A refusal is only for now: the next question comes after so many seconds.
const REFUSED_SECS: f64 = 5.0;
/// What was agreed to is asked again all the same: nothing else tells that it is still wanted.
const AGREED_SECS: f64 = 20.0;
/// What does not concern us need not be asked again for a long time.
const SETTLED_SECS: f64 = 3600.0;

impl State {
    /// Gives what to tell the port, and what to post.
    pub(super) fn on_inverse_offers(&mut self, offers: Vec<InverseOffer>, now: SystemTime) -> Plan {
        let (mut plan, mut of_no_concern) = (Plan::default(), Vec::new());
        for InverseOffer { id, agent_id, unavailability } in offers {
            // Without an agent, any of the resources are asked for, which no version of Mesos does.
            match (agent_id, unavailability.and_then(|unavailability| starts_in_ms(&unavailability, now))) {
                (Some(agent), Some(starts_in_ms)) => {
                    let (id, agent) = (OfferId::from(id.value.as_str()), AgentId::from(agent.value.as_str()));
                    self.inverse_offers.insert(id.clone());
                    plan.events.push(MesosEvent::Maintenance { id, agent, starts_in_ms });
                }
                _ => of_no_concern.push(id),
            }
        }
        if !of_no_concern.is_empty() {
            plan.posts.push(answer(of_no_concern, false, SETTLED_SECS));
        }
        plan
    }

    /// What to tell the port.
    pub(super) fn on_rescind_inverse_offer(&mut self, id: &str) -> Option<MesosEvent> {
        let id = OfferId::from(id);
        self.inverse_offers.remove(&id).then_some(MesosEvent::MaintenanceRescinded(id))
    }

    /// Answers a question that is still open.
    pub(super) fn plan_answer(&mut self, id: &OfferId, ready: bool) -> Option<CallBody> {
        let secs = if ready { AGREED_SECS } else { REFUSED_SECS };
        self.inverse_offers.remove(id).then(|| answer(vec![Id::new(id.as_str())], ready, secs))
    }
}

/// In how many milliseconds it starts, 0 when it has; `None` when it is over.
pub(super) fn starts_in_ms(unavailability: &Unavailability, now: SystemTime) -> Option<u64> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = Duration::from_nanos(u64::try_from(unavailability.start.nanoseconds).unwrap_or(0));
    let length = unavailability.duration.map(|length| Duration::from_nanos(length.nanoseconds));
    let is_over = length.and_then(|length| start.checked_add(length)).is_some_and(|end| end <= now);
    (!is_over).then(|| u64::try_from(start.saturating_sub(now).as_millis()).unwrap_or(u64::MAX))
}

fn answer(inverse_offer_ids: Vec<Id>, ready: bool, refuse_seconds: f64) -> CallBody {
    let answer = AnswerInverseOffers { inverse_offer_ids, filters: Filters { refuse_seconds } };
    if ready {
        CallBody::AcceptInverseOffers { accept_inverse_offers: answer }
    } else {
        CallBody::DeclineInverseOffers { decline_inverse_offers: answer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Duration = Duration::from_secs(1_000);

    fn ask(state: &mut State, offers: serde_json::Value) -> Plan {
        let offers: Vec<InverseOffer> = serde_json::from_value(offers).expect("inverse offers");
        state.on_inverse_offers(offers, UNIX_EPOCH + NOW)
    }

    #[test]
    fn the_time_until_it_starts() {
        let at = |start: i64, length: Option<u64>| {
            let start = json!({ "nanoseconds": start });
            let mut json = json!({ "start": start });
            if let Some(length) = length {
                json["duration"] = json!({ "nanoseconds": length });
            }
            let unavailability: Unavailability = serde_json::from_value(json).expect("unavailability");
            starts_in_ms(&unavailability, UNIX_EPOCH + NOW)
        };
        let second = 1_000_000_000;
        assert_eq!(at(1_060 * second, None), Some(60_000));
        assert_eq!((at(990 * second, None), at(-1, None)), (Some(0), Some(0)));
        assert_eq!(at(990 * second, Some(11_000_000_000)), Some(0));
        assert_eq!(at(990 * second, Some(10_000_000_000)), None);
        assert_eq!(at(i64::MAX, Some(u64::MAX)), Some(9_223_371_036_854), "never over, and far away");
    }

    #[test]
    fn a_question_is_answered_once() {
        let mut state = State::default();
        let inverse = |id: &str, start: u64| {
            let time = json!({ "nanoseconds": start });
            json!({ "id": { "value": id }, "agent_id": { "value": "S0" }, "unavailability": { "start": time } })
        };
        let over = json!({ "id": { "value": "over" }, "agent_id": { "value": "S0" }, "unavailability": {
            "start": { "nanoseconds": 1 }, "duration": { "nanoseconds": 1 } } });
        let nobodys = json!({ "id": { "value": "nobodys" } });
        let plan = ask(&mut state, json!([inverse("i1", 1_001_000_000_000), inverse("i2", 0), over, nobodys]));
        let told = |id: &str, starts_in_ms: u64| {
            let (id, agent) = (OfferId::from(id), AgentId::from("S0"));
            MesosEvent::Maintenance { id, agent, starts_in_ms }
        };
        assert_eq!(plan.events, [told("i1", 1000), told("i2", 0)]);
        assert_eq!(plan.posts, [answer(vec![Id::new("over"), Id::new("nobodys")], false, SETTLED_SECS)]);

        let (i1, i2) = (OfferId::from("i1"), OfferId::from("i2"));
        assert_eq!(state.plan_answer(&i1, false), Some(answer(vec![Id::new("i1")], false, REFUSED_SECS)));
        assert_eq!(state.plan_answer(&i1, true), None, "answered");
        assert_eq!(state.on_rescind_inverse_offer("i2"), Some(MesosEvent::MaintenanceRescinded(i2.clone())));
        assert_eq!((state.plan_answer(&i2, true), state.on_rescind_inverse_offer("i2")), (None, None));
        ask(&mut state, json!([inverse("i3", 0), inverse("i4", 0)]));
        let i3 = OfferId::from("i3");
        assert_eq!(state.plan_answer(&i3, true), Some(answer(vec![Id::new("i3")], true, AGREED_SECS)));
        state.disconnect();
        assert_eq!(state.plan_answer(&OfferId::from("i4"), true), None, "void with the connection");
    }
}
