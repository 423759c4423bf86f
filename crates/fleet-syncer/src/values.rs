//! Which devices a fleet's placeholders are evaluated for before anything is pinned: all that its selector matches, as
//! the commit would have them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fleet_model::{ConfigProvider, LabelSelector, Labels, Manifest, OrgId};
use fleet_render::ownership::labels_in_force;
use fleet_render::{InputValue, MAX_VALUES, Subject, too_many_values};
use fleet_store::{
    InputValueRow, PgConnection, Presence, StoreError, device_manifests, enrolled_devices, input_values,
};

/// The devices that are known, by name with their labels in force, and what is known to be missing for them.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    devices: BTreeMap<String, Labels>,
    /// Values without pinned files, when the look began.
    pub(crate) missing: Vec<InputValueRow>,
}

/// Whether any of the manifests has a provider whose files depend on the device.
pub(crate) fn any_value<'a>(mut manifests: impl Iterator<Item = &'a Manifest>) -> bool {
    let depends = |provider: &ConfigProvider| !matches!(InputValue::of(&provider.source), Ok(None));
    manifests.any(|manifest| match manifest {
        Manifest::Fleet(fleet) => fleet.spec.template.spec.config.iter().flatten().any(depends),
        Manifest::Device(_)
        | Manifest::Repository(_)
        | Manifest::ResourceSync(_)
        | Manifest::EnrollmentPolicy(_)
        | Manifest::SyncPolicy(_) => false,
    })
}

impl Subjects {
    /// Reads the devices as they are once `own`, the labels of the source's Device manifests, are in force.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        org: OrgId,
        source: &str,
        own: BTreeMap<String, Labels>,
    ) -> Result<Self, StoreError> {
        let missing = input_values(connection, org, Some(source)).await?;
        let elsewhere = device_manifests(connection, org, None, Presence::InForce).await?;
        let elsewhere = elsewhere.into_iter().filter(|row| row.source != source);
        let mut manifests: HashMap<String, Labels> = elsewhere.map(|row| (row.name, row.labels)).collect();
        manifests.extend(own);
        let mut devices = BTreeMap::new();
        for device in enrolled_devices(connection, org, None).await? {
            let labels = labels_in_force(&device.labels, manifests.get(&device.name));
            devices.insert(device.name, labels);
        }
        for (name, labels) in manifests {
            let labels = labels_in_force(&Labels::new(), Some(&labels));
            devices.entry(name).or_insert(labels);
        }
        Ok(Self { devices, missing })
    }

    /// Where no file depends on a device.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn nobody(connection: &mut PgConnection, org: OrgId, source: &str) -> Result<Self, StoreError> {
        Ok(Self { devices: BTreeMap::new(), missing: input_values(connection, org, Some(source)).await? })
    }

    /// The values that a provider's placeholders have among the devices of a selector. A device for which they cannot be
    /// evaluated is told so when its document is rendered.
    ///
    /// # Errors
    /// A sentence when there are more than [`MAX_VALUES`].
    pub(crate) fn values(
        &self,
        provider: &ConfigProvider,
        value: &InputValue,
        selector: Option<&LabelSelector>,
    ) -> Result<BTreeSet<String>, String> {
        let Some(selector) = selector else { return Ok(BTreeSet::new()) };
        let meant = self.devices.iter().filter(|(_, labels)| selector.matches(labels));
        let values: BTreeSet<String> =
            meant.filter_map(|(name, labels)| value.evaluate(&Subject { name, labels }).ok()).collect();
        match values.len() {
            0..=MAX_VALUES => Ok(values),
            many => Err(too_many_values(&provider.name, many)),
        }
    }
}

/// Whether a specification has a provider with placeholders, and which.
pub(crate) fn value_of(provider: &ConfigProvider, is_template: bool) -> Option<InputValue> {
    // A text that is no template is told when the specification is prepared.
    if is_template { InputValue::of(&provider.source).ok().flatten() } else { None }
}

/// Labels of the Device manifests, by name.
pub(crate) fn device_labels<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> BTreeMap<String, Labels> {
    manifests
        .filter_map(|manifest| match manifest {
            Manifest::Device(device) => Some((manifest.name().to_owned(), device.metadata.labels.clone())),
            Manifest::Fleet(_)
            | Manifest::Repository(_)
            | Manifest::ResourceSync(_)
            | Manifest::EnrollmentPolicy(_)
            | Manifest::SyncPolicy(_) => None,
        })
        .collect()
}

#[cfg(test)]
impl Subjects {
    /// Devices with a label `ring` each, and one that all have: `in=yes`.
    pub(crate) fn in_rings(rings: &[(&str, &str)]) -> Self {
        let device = |(name, ring): &(&str, &str)| {
            ((*name).to_owned(), [("ring", *ring), ("in", "yes")].map(|(k, v)| (k.to_owned(), v.to_owned())).into())
        };
        Self { devices: rings.iter().map(device).collect(), missing: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(labels: &[(&str, &str)]) -> Subjects {
        Subjects::in_rings(labels)
    }

    fn provider(revision: &str) -> ConfigProvider {
        let json =
            serde_json::json!({"name": "p", "gitRef": {"repository": "r", "targetRevision": revision, "path": "/"}});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn each_value_is_looked_up_once_and_their_number_is_bounded() {
        let selector: LabelSelector = serde_json::from_str(r#"{"matchLabels":{"in":"yes"}}"#).unwrap();
        let provider = provider("{{ .metadata.labels.ring }}");
        let value = value_of(&provider, true).unwrap();
        let few = subjects(&[("a", "x"), ("b", "y"), ("c", "x")]);
        let values = few.values(&provider, &value, Some(&selector)).unwrap();
        assert_eq!(values.into_iter().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(few.values(&provider, &value, None).unwrap().len(), 0);
        let names: Vec<String> = (0..=MAX_VALUES).map(|n| format!("d{n}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        assert_eq!(subjects(&many[1..]).values(&provider, &value, Some(&selector)).unwrap().len(), MAX_VALUES);
        let error = subjects(&many).values(&provider, &value, Some(&selector)).unwrap_err();
        assert!(error.contains("101 different values") && error.contains("at most 100"), "{error}");
    }

    #[test]
    fn only_a_template_has_placeholders() {
        assert!(value_of(&provider("{{ .metadata.name }}"), false).is_none());
        assert!(value_of(&provider("main"), true).is_none());
    }
}
