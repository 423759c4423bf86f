//! How devices are called: people know the alias, commands take the beginning of the name.

use std::collections::BTreeMap;

use fleet_model::Labels;
use fleet_render::plan::{Inventory, State};

use super::text::{line, thousands};
use super::words::Quote;

/// The label that people know a device by.
const ALIAS: &str = "alias";
/// Names up to this length are shown whole; of longer ones a beginning, which commands take as well.
const WHOLE: usize = 16;
const BEGINNING: usize = 12;

/// Aliases of devices, by name.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// Of all devices that are known. Later knowledge wins: the manifest after the change has the last word.
    pub(super) fn collect(current: &State, incoming: &State, inventory: &Inventory) -> Self {
        let enrolled = inventory.iter().map(|(name, device)| (name, &device.labels));
        let manifests = current.devices.iter().chain(&incoming.devices).map(|(name, device)| (name, &device.labels));
        let alias = |(name, labels): (&String, &Labels)| Some((name.clone(), labels.get(ALIAS)?.clone()));
        Self(enrolled.chain(manifests).filter_map(alias).collect())
    }

    /// `till-1 (r1qtmvff4ch3)`, or the name.
    fn shown(&self, name: &str) -> String {
        let is_long = name.chars().count() > WHOLE;
        let short: String = if is_long { name.chars().take(BEGINNING).collect() } else { name.to_owned() };
        match self.0.get(name).filter(|alias| !alias.is_empty()) {
            Some(alias) => line(&format!("{alias} ({short})"), 100),
            None if is_long => format!("{short}…"),
            None => short,
        }
    }

    /// The first names, and how many more there are.
    pub(super) fn list(&self, names: &[String], most: usize, quote: Quote) -> String {
        let mut shown: Vec<String> = names.iter().take(most).map(|name| quote(&self.shown(name))).collect();
        if names.len() > most {
            shown.push(format!("{} more", thousands(names.len() - most)));
        }
        shown.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_the_alias_and_a_name_that_commands_take() {
        let names = Names([("abcdefghijklmnopqrst".to_owned(), "till-1".to_owned())].into());
        let all = ["abcdefghijklmnopqrst", "bbcdefghijklmnopqrst", "c"].map(str::to_owned);
        assert_eq!(names.list(&all, 3, str::to_owned), "till-1 (abcdefghijkl), bbcdefghijkl…, c");
        assert_eq!(names.list(&all, 1, |name| format!("`{name}`")), "`till-1 (abcdefghijkl)`, 2 more");
    }
}
