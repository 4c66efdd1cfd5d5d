//! What a member says of itself to clients: the JSON of a `ServerSet`'s member, byte for byte as Apache Cotton's clients know it.

use cotton_core::{Endpoint, MemberId};
use serde::Serialize;
use std::collections::BTreeMap;

const ALIVE: &str = "ALIVE";
const PREFIX: &str = "member_";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceInstance {
    service_endpoint: Endpoint,
    additional_endpoints: BTreeMap<String, Endpoint>,
    status: String,
}

/// The data of a member's znode.
pub(super) fn encode(endpoint: &Endpoint) -> Vec<u8> {
    let status = ALIVE.to_owned();
    let instance =
        ServiceInstance { service_endpoint: endpoint.clone(), additional_endpoints: BTreeMap::new(), status };
    serde_json::to_vec(&instance).expect("text and numbers are always JSON")
}

/// The name of a member's znode, as `ZooKeeper` would number it.
pub(super) fn znode(member: MemberId) -> String {
    format!("{PREFIX}{:010}", member.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_that_clients_know() {
        let bytes = encode(&Endpoint::new("host-1.example", 31_001));
        assert_eq!(
            String::from_utf8(bytes).expect("text"),
            r#"{"serviceEndpoint":{"host":"host-1.example","port":31001},"additionalEndpoints":{},"status":"ALIVE"}"#
        );
        assert_eq!(znode(MemberId(0)), "member_0000000000");
        assert_eq!(znode(MemberId(12_345_678_901)), "member_12345678901");
    }
}
