//! Fleets that provably select the same device: by what one selector asks of the other, and by the inventory.
//!
//! Only what is certain is said: two selectors on different labels may or may not meet on some device.

use std::collections::{BTreeMap, HashMap};

use fleet_model::{Diagnostic, Fleet, LabelSelector, Labels, Manifest, MatchOperator};

use crate::codes;
use crate::finding::{Finding, Span};
use crate::tree::PlacedManifest;

/// Selectors with more labels than this are not searched for subsets.
const MAX_LABELS: usize = 8;

/// A fleet and where its selector stands.
#[derive(Clone, Copy)]
struct Entry<'m> {
    placed: &'m PlacedManifest,
    fleet: &'m Fleet,
    selector: &'m LabelSelector,
}

impl Entry<'_> {
    fn span(&self) -> Span {
        self.placed.parsed().key_span("/spec/selector").unwrap_or(Span::START)
    }

    fn name(&self) -> &str {
        self.fleet.metadata.name.as_deref().unwrap_or_default()
    }

    fn place(&self) -> String {
        format!("{}:{}", self.placed.path(), self.span().line)
    }
}

/// Reports fleets whose selectors include one another, and devices of the inventory that two fleets select.
pub(crate) fn check(manifests: &[PlacedManifest], diagnostics: &mut Vec<Diagnostic>) {
    let fleets: Vec<Entry<'_>> = manifests
        .iter()
        .filter_map(|placed| {
            let Manifest::Fleet(fleet) = placed.manifest() else { return None };
            let selector = fleet.spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
            Some(Entry { placed, fleet, selector })
        })
        .collect();
    if fleets.len() < 2 {
        return;
    }
    inclusions(&fleets, diagnostics);
    inventory(&fleets, manifests, diagnostics);
}

/// The labels that a selector asks for with one value each; `None` when it asks for more than that.
fn as_labels(selector: &LabelSelector) -> (BTreeMap<&str, &str>, bool) {
    let mut labels: BTreeMap<&str, &str> =
        selector.match_labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut is_all = true;
    for expression in selector.match_expressions.iter().flatten() {
        match (expression.operator, expression.values.as_deref()) {
            (MatchOperator::In, Some([one])) if !labels.contains_key(expression.key.as_str()) => {
                labels.insert(&expression.key, one);
            }
            _ => is_all = false,
        }
    }
    (labels, is_all)
}

/// Every device of the narrower fleet is one of the wider fleet's, too.
fn inclusions(fleets: &[Entry<'_>], diagnostics: &mut Vec<Diagnostic>) {
    let mut by_labels: HashMap<Vec<(&str, &str)>, Vec<usize>> = HashMap::new();
    for (at, entry) in fleets.iter().enumerate() {
        if let (labels, true) = as_labels(entry.selector) {
            by_labels.entry(labels.into_iter().collect()).or_default().push(at);
        }
    }
    for (at, narrow) in fleets.iter().enumerate() {
        let (labels, _) = as_labels(narrow.selector);
        let labels: Vec<(&str, &str)> = labels.into_iter().collect();
        if labels.is_empty() || labels.len() > MAX_LABELS {
            continue;
        }
        let wider = (1_u32..1 << labels.len()).find_map(|mask| {
            let subset: Vec<_> =
                labels.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, l)| *l).collect();
            // Of two equal selectors the later one is reported.
            by_labels.get(&subset)?.iter().copied().find(|other| {
                *other != at && (subset.len() < labels.len() || !as_labels(narrow.selector).1 || *other < at)
            })
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

/// Whether the selector holds for a device that has at least these labels, whatever others it has.
fn certainly_matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let is_known = selector.match_expressions.iter().flatten().all(|expression| match expression.operator {
        MatchOperator::In | MatchOperator::Exists => true,
        MatchOperator::NotIn | MatchOperator::DoesNotExist => labels.contains_key(&expression.key),
    });
    is_known && selector.matches(labels)
}

fn inventory(fleets: &[Entry<'_>], manifests: &[PlacedManifest], diagnostics: &mut Vec<Diagnostic>) {
    // Each fleet is looked for under one of its labels only.
    let mut by_label: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    let mut others = Vec::new();
    for (at, entry) in fleets.iter().enumerate() {
        match as_labels(entry.selector).0.into_iter().next() {
            Some(label) => by_label.entry(label).or_default().push(at),
            None => others.push(at),
        }
    }
    for placed in manifests {
        let Manifest::Device(device) = placed.manifest() else { continue };
        let labels = &device.metadata.labels;
        let candidates =
            labels.iter().filter_map(|(key, value)| by_label.get(&(key.as_str(), value.as_str()))).flatten();
        let mut owners: Vec<usize> =
            candidates.chain(&others).copied().filter(|at| certainly_matches(fleets[*at].selector, labels)).collect();
        owners.sort_unstable();
        if let [first, second, ..] = owners[..] {
            let message = format!(
                "two fleets select this device: {:?} ({}) and {:?} ({})",
                fleets[first].name(),
                fleets[first].place(),
                fleets[second].name(),
                fleets[second].place()
            );
            let at = placed.parsed().span("/metadata/name").unwrap_or(Span::START);
            diagnostics.push(finding(at, message).at_pointer("/metadata/labels").into_diagnostic(placed.path()));
        }
    }
}
