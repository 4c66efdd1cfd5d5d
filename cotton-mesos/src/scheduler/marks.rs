//! How resources are marked as held for a volume of ours, so that they are found again in offers: by anybody who looks,
//! and by this scheduler after it has forgotten everything else.
//!
//! What is reserved for a volume has the labels `cotton_framework` and `cotton_volume` in its last reservation. A volume is
//! also known by its persistence id `<framework>.<volume>`, since it may be made on what an operator has reserved.

use crate::wire::resource::{Reservation, Resource};
use cotton_core::{FrameworkId, VolumeId};
use serde_json::{Map, Value, json};

const FRAMEWORK: &str = "cotton_framework";
const VOLUME: &str = "cotton_volume";

/// For whom something is reserved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) framework: &'a FrameworkId,
    /// For which role the offer is.
    pub(super) role: &'a str,
    pub(super) principal: Option<&'a str>,
}

impl Owner<'_> {
    /// What to ask for, so that `resource` is reserved for a volume; `None` when it is reserved for the role already, by
    /// an operator: then it is used as it is.
    pub(super) fn reserved(self, resource: &Resource, volume: &VolumeId) -> Option<Resource> {
        let last = resource.reservations.last();
        if last.is_some_and(|last| last.role.as_deref() == Some(self.role)) {
            return None;
        }
        let label = |key: &str, value: &str| json!({ "key": key, "value": value });
        let labels = json!([label(FRAMEWORK, self.framework.as_str()), label(VOLUME, volume.as_str())]);
        let mut rest = Map::from_iter([
            ("type".to_owned(), Value::from("DYNAMIC")),
            ("labels".to_owned(), json!({ "labels": labels })),
        ]);
        if let Some(principal) = self.principal {
            rest.insert("principal".to_owned(), Value::from(principal));
        }
        let mut reserved = resource.clone();
        reserved.reservations.push(Reservation { role: Some(self.role.to_owned()), rest });
        Some(reserved)
    }

    /// The volume that is made of a reserved disk.
    pub(super) fn volume(self, mut disk: Resource, volume: &VolumeId) -> Resource {
        let mut persistence = json!({ "id": persistence_id(self.framework, volume) });
        if let Some(principal) = self.principal {
            persistence["principal"] = Value::from(principal);
        }
        let place = json!({ "container_path": crate::VOLUME_PATH, "mode": "RW" });
        disk.rest.insert("disk".to_owned(), json!({ "persistence": persistence, "volume": place }));
        disk
    }
}

/// For which volume of ours a resource is held, if for any.
pub(super) fn volume_of(framework: &FrameworkId, resource: &Resource) -> Option<VolumeId> {
    if is_labelled(framework, resource) {
        let last = resource.reservations.last()?;
        return label(last, VOLUME).map(VolumeId::from);
    }
    let id = resource.rest.get("disk")?.get("persistence")?.get("id")?.as_str()?;
    let volume = id.strip_prefix(framework.as_str())?.strip_prefix('.')?;
    Some(VolumeId::from(volume))
}

/// Whether the last reservation of a resource is one that we have made.
pub(super) fn is_labelled(framework: &FrameworkId, resource: &Resource) -> bool {
    let last = resource.reservations.last();
    last.is_some_and(|last| label(last, FRAMEWORK) == Some(framework.as_str()) && label(last, VOLUME).is_some())
}

/// Whether a resource is a persistent volume.
pub(super) fn is_volume(resource: &Resource) -> bool {
    resource.rest.get("disk").is_some_and(|disk| disk.get("persistence").is_some())
}

/// What is left of a volume when it is destroyed.
pub(super) fn disk_of(mut volume: Resource) -> Resource {
    volume.rest.remove("disk");
    volume
}

fn persistence_id(framework: &FrameworkId, volume: &VolumeId) -> String {
    format!("{framework}.{volume}")
}

fn label<'a>(reservation: &'a Reservation, key: &str) -> Option<&'a str> {
    let labels = reservation.rest.get("labels")?.get("labels")?.as_array()?;
    let label = labels.iter().find(|label| label.get("key").and_then(Value::as_str) == Some(key))?;
    label.get("value")?.as_str()
}
