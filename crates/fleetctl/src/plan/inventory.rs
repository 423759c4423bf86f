//! The devices that a plan is made for: those with a Device manifest, and on request those that the service knows.

use anyhow::Context as _;
use fleet_model::{Digest, LabelSelector, Labels, annotations};
use fleet_render::plan::{FleetState, Inventory, InventoryDevice, State, Target};
use serde_json::Value;

use crate::cli::Connection;
use crate::client::Client;

/// Known devices.
#[derive(Debug)]
pub(super) struct Known {
    /// Those of the service.
    pub(super) inventory: Inventory,
    /// How many the service knows; `None` when it was not asked.
    pub(super) enrolled: Option<usize>,
}

impl Known {
    /// None but those with manifests.
    pub(super) fn of_manifests() -> Self {
        Self { inventory: Inventory::new(), enrolled: None }
    }
}

/// Asks the service for all enrolled devices, and for the fleets of other sources: their selectors count, too.
///
/// # Errors
/// When the service cannot be reached, refuses, or says what is not understood.
pub(super) fn live(connection: &Connection, current: &mut State, incoming: &mut State) -> anyhow::Result<Known> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the network runtime")?;
    let (devices, fleets) = runtime.block_on(async {
        let client = Client::new(connection)?;
        let (devices, _) = client.list(&["devices"], &[], None).await?;
        let (fleets, _) = client.list(&["fleets"], &[], None).await?;
        anyhow::Ok((devices, fleets))
    })?;
    for fleet in &fleets {
        add_elsewhere(fleet, current, incoming)?;
    }
    let mut inventory = Inventory::new();
    for device in &devices {
        let (name, device) = read_device(device, current).context("the service's list of devices")?;
        inventory.insert(name, device);
    }
    let enrolled = Some(inventory.len());
    Ok(Known { inventory, enrolled })
}

/// A fleet that neither side defines comes from another source.
fn add_elsewhere(fleet: &Value, current: &mut State, incoming: &mut State) -> anyhow::Result<()> {
    let name = fleet.pointer("/metadata/name").and_then(Value::as_str).context("a fleet of the service has no name")?;
    if current.fleets.contains_key(name) || incoming.fleets.contains_key(name) {
        return Ok(());
    }
    let selector = match fleet.pointer("/spec/selector") {
        None | Some(Value::Null) => None,
        Some(selector) => Some(
            serde_json::from_value::<LabelSelector>(selector.clone())
                .with_context(|| format!("the selector of fleet {name:?} in the service"))?,
        ),
    };
    let state = FleetState { selector, target: Target::Elsewhere, has_rollout_policy: false };
    current.fleets.insert(name.to_owned(), state.clone());
    incoming.fleets.insert(name.to_owned(), state);
    Ok(())
}

fn read_device(device: &Value, current: &State) -> anyhow::Result<(String, InventoryDevice)> {
    let text = |pointer: &str| device.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").context("a device has no name")?.to_owned();
    let mut labels: Labels = match device.pointer("/metadata/labels") {
        None | Some(Value::Null) => Labels::new(),
        Some(labels) => {
            serde_json::from_value(labels.clone()).with_context(|| format!("the labels of device {name}"))?
        }
    };
    // The service shows the labels in force; what the manifest says is not from the enrolment.
    if let Some(manifest) = current.devices.get(&name) {
        labels.retain(|key, value| manifest.labels.get(key) != Some(value));
    }
    let owner = text("/metadata/owner").map(|owner| owner.strip_prefix("Fleet/").unwrap_or(owner).to_owned());
    let digest = device
        .pointer("/metadata/annotations")
        .and_then(|all| all.get(annotations::RENDERED_SPEC_HASH))
        .and_then(Value::as_str)
        .and_then(|hash| hash.parse::<Digest>().ok());
    Ok((name, InventoryDevice { enrolled: true, labels, owner, document: digest }))
}

#[cfg(test)]
mod tests {
    use fleet_render::plan::DeviceState;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn labels_that_the_manifest_gives_are_not_those_of_the_enrolment() {
        let mut current = State::default();
        let manifest = DeviceState { labels: labels(&[("site", "berlin"), ("role", "x")]), target: None };
        current.devices.insert("d".to_owned(), manifest);
        let digest = Digest::of(b"x");
        let device = serde_json::json!({"metadata": {
            "name": "d", "labels": {"site": "berlin", "role": "y", "alias": "k"}, "owner": "Fleet/pos",
            "annotations": {annotations::RENDERED_SPEC_HASH: digest.hex()},
        }});
        let (name, read) = read_device(&device, &current).unwrap();
        assert_eq!((name.as_str(), read.owner.as_deref(), read.document), ("d", Some("pos"), Some(digest)));
        assert_eq!(read.labels, labels(&[("role", "y"), ("alias", "k")]));
        assert!(read_device(&serde_json::json!({"metadata": {}}), &current).is_err());
        assert!(read_device(&serde_json::json!({"metadata": {"name": "d", "labels": 1}}), &current).is_err());
    }

    #[test]
    fn fleets_of_other_sources_count_and_own_ones_are_left_alone() {
        let (mut current, mut incoming) = (State::default(), State::default());
        let own = FleetState { selector: None, target: Target::Waits("w".to_owned()), has_rollout_policy: true };
        incoming.fleets.insert("own".to_owned(), own);
        let fleet = |name: &str| serde_json::json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"a": "b"}}}});
        for name in ["own", "other"] {
            add_elsewhere(&fleet(name), &mut current, &mut incoming).unwrap();
        }
        assert!(!current.fleets.contains_key("own") && incoming.fleets["own"].has_rollout_policy);
        assert!(matches!(current.fleets["other"].target, Target::Elsewhere));
        assert!(matches!(incoming.fleets["other"].target, Target::Elsewhere));
    }
}
