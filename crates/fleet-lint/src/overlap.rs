//! Fleets that provably select the same device: by what one selector asks of the other, and by the inventory.
//!
//! Only what is certain is said: two selectors on different labels may or may not meet on some device.

use std::collections::HashMap;

use fleet_model::Diagnostic;

use crate::codes;
use crate::finding::{Finding, Span};
use crate::tree::inventory::{Entry, Inventory, as_labels};

/// Selectors with more labels than this are not searched for subsets.
const MAX_LABELS: usize = 8;

/// Reports fleets whose selectors include one another, and devices of the inventory that two fleets select.
pub(crate) fn check(inventory: &Inventory<'_>, diagnostics: &mut Vec<Diagnostic>) {
    inclusions(&inventory.fleets, diagnostics);
    devices(inventory, diagnostics);
}

/// Every device of the narrower fleet is one of the wider fleet's, too.
fn inclusions(fleets: &[Entry<'_>], diagnostics: &mut Vec<Diagnostic>) {
    let mut by_labels: HashMap<Vec<(&str, &str)>, Vec<usize>> = HashMap::new();
    for (at, entry) in fleets.iter().enumerate() {
        if let (labels, true) = as_labels(entry.selector) {
            by_labels.entry(labels.into_iter().collect()).or_default().push(at);
        }
    }
    // How many selectors that ask for nothing else ask for a label.
    let mut asking: HashMap<(&str, &str), usize> = HashMap::new();
    for (labels, fleets) in &by_labels {
        labels.iter().for_each(|label| *asking.entry(*label).or_default() += fleets.len());
    }
    for (at, narrow) in fleets.iter().enumerate() {
        let (labels, is_all) = as_labels(narrow.selector);
        let all = labels.len();
        // A label that only this fleet asks for is in no wider selector.
        let others = |label: &(&str, &str)| asking.get(label).copied().unwrap_or(0) > usize::from(is_all);
        let labels: Vec<(&str, &str)> = labels.into_iter().filter(others).collect();
        if labels.is_empty() || labels.len() > MAX_LABELS {
            continue;
        }
        let wider = (1_u32..1 << labels.len()).find_map(|mask| {
            let subset: Vec<_> =
                labels.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, l)| *l).collect();
            // Of two equal selectors the later one is reported.
            by_labels
                .get(&subset)?
                .iter()
                .copied()
                .find(|other| *other != at && (subset.len() < all || !is_all || *other < at))
        });
        if let Some(wider) = wider.map(|wider| &fleets[wider]) {
            let message = format!(
                "every device of the fleet {:?} also belongs to the fleet {:?} ({})",
                narrow.name(),
                wider.name(),
                wider.place()
            );
            diagnostics.push(finding(narrow.span(), message).into_diagnostic(narrow.placed.path()));
        }
    }
}

fn finding(at: Span, message: String) -> Finding {
    Finding::new(codes::OVERLAP, at, message)
        .at_pointer("/spec/selector")
        .hint("a device that two fleets select stays with the first and gets the condition MultipleOwners; narrow one selector")
}

/// Devices of the inventory that two fleets select whatever other labels they have.
fn devices(inventory: &Inventory<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for member in &inventory.members {
        if let [first, second, ..] = member.selection.certain[..] {
            let [first, second] = [first, second].map(|at| &inventory.fleets[at]);
            let message = format!(
                "two fleets select this device: {:?} ({}) and {:?} ({})",
                first.name(),
                first.place(),
                second.name(),
                second.place()
            );
            let at = member.placed.parsed().span("/metadata/name").unwrap_or(Span::START);
            diagnostics.push(finding(at, message).at_pointer("/metadata/labels").into_diagnostic(member.placed.path()));
        }
    }
}
