//! Which fleets select which devices of the inventory, and what is wrong with that.
//!
//! Only what the manifests prove is said. A device may have more labels than its manifest gives: those of its
//! enrolment, which a policy of this repository may set. So "selects" is said only where more labels change nothing,
//! and "selects not" only where no policy could give what is lacking.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use fleet_model::{Device, Diagnostic, Fleet, LabelSelector, Labels, Manifest, MatchExpression, MatchOperator};

use super::PlacedManifest;
use crate::codes;
use crate::finding::{Finding, Span};

/// How many parts of selectors are tried against labels in one tree; what is left then is not looked at.
const MAX_TRIALS: usize = 20_000_000;
/// How many devices without a fleet are named.
const MAX_NOT_SELECTED: usize = 100;

/// A fleet and where its selector stands.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'m> {
    pub(crate) placed: &'m PlacedManifest,
    fleet: &'m Fleet,
    pub(crate) selector: &'m LabelSelector,
}

impl Entry<'_> {
    pub(crate) fn span(&self) -> Span {
        self.placed.parsed().key_span("/spec/selector").unwrap_or(Span::START)
    }

    pub(crate) fn name(&self) -> &str {
        self.fleet.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.placed.path(), self.span().line)
    }
}

/// The fleets that select devices with certain labels.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// By number, in order: those that select them whatever other labels they have.
    pub(crate) certain: Vec<usize>,
    /// Some fleet may select them.
    pub(crate) is_possible: bool,
}

/// A device of the inventory.
pub(crate) struct Member<'m> {
    pub(crate) placed: &'m PlacedManifest,
    pub(crate) device: &'m Device,
    pub(crate) selection: Rc<Selection>,
}

impl Member<'_> {
    pub(crate) fn name(&self) -> &str {
        self.device.metadata.name.as_deref().unwrap_or_default()
    }
}

/// All fleets with a selector, and all devices.
pub(crate) struct Inventory<'m> {
    pub(crate) fleets: Vec<Entry<'m>>,
    pub(crate) members: Vec<Member<'m>>,
    /// Labels that an enrolment policy of this repository gives.
    pub(crate) given: BTreeSet<&'m str>,
}

impl<'m> Inventory<'m> {
    pub(crate) fn new(manifests: &'m [PlacedManifest]) -> Self {
        let mut inventory = Self { fleets: Vec::new(), members: Vec::new(), given: BTreeSet::new() };
        let mut devices = Vec::new();
        for placed in manifests {
            match placed.manifest() {
                Manifest::Fleet(fleet) => {
                    let selector = fleet.spec.selector.as_ref().filter(|selector| !selector.is_empty());
                    inventory.fleets.extend(selector.map(|selector| Entry { placed, fleet, selector }));
                }
                Manifest::Device(device) => devices.push((placed, device)),
                Manifest::EnrollmentPolicy(policy) => {
                    let labels = policy.spec.rules.iter().flat_map(|rule| rule.labels.keys());
                    inventory.given.extend(labels.map(String::as_str));
                }
                Manifest::Repository(_) | Manifest::ResourceSync(_) | Manifest::SyncPolicy(_) => {}
            }
        }
        let mut search = Search::new(&inventory.fleets, &inventory.given);
        for (placed, device) in devices {
            let selection = search.selection(&device.metadata.labels);
            inventory.members.push(Member { placed, device, selection });
        }
        inventory
    }

    /// Reports devices that no fleet selects and that have no specification of their own.
    pub(super) fn not_selected(&self, diagnostics: &mut Vec<Diagnostic>) {
        if self.fleets.is_empty() {
            return;
        }
        let is_lost = |member: &&Member<'_>| member.device.spec.is_none() && !member.selection.is_possible;
        let lost: Vec<&Member<'_>> = self.members.iter().filter(is_lost).collect();
        for (at, member) in lost.iter().take(MAX_NOT_SELECTED).enumerate() {
            let mut message = format!(
                "by the labels of its manifest no fleet here selects the device {:?}, and it has no `spec`: it gets nothing",
                member.name()
            );
            if at + 1 == MAX_NOT_SELECTED && lost.len() > MAX_NOT_SELECTED {
                message.push_str(&format!(" (so it is with {} more devices)", lost.len() - MAX_NOT_SELECTED));
            }
            let span = member.placed.parsed().span("/metadata/name").unwrap_or(Span::START);
            let finding = Finding::new(codes::NOT_SELECTED, span, message)
                .at_pointer("/metadata/labels")
                .hint("give it the labels that a fleet selects, or a `spec`; labels given at its enrolment are not known here");
            diagnostics.push(finding.into_diagnostic(member.placed.path()));
        }
    }
}

/// The labels that a selector asks for with one value each, and whether it asks for nothing else.
pub(crate) fn as_labels(selector: &LabelSelector) -> (BTreeMap<&str, &str>, bool) {
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

/// Looks fleets up by labels. Devices that differ only in labels no selector asks for are looked up once.
struct Search<'s, 'm> {
    fleets: &'s [Entry<'m>],
    given: &'s BTreeSet<&'m str>,
    /// Each fleet under one of its labels only.
    by_label: HashMap<(&'m str, &'m str), Vec<usize>>,
    /// The same by the label's key alone, where a policy may give the label.
    by_given: BTreeMap<&'m str, Vec<usize>>,
    /// Fleets that ask for no label with one value.
    others: Vec<usize>,
    asked: BTreeSet<&'m str>,
    known: HashMap<Vec<(&'m str, &'m str)>, Rc<Selection>>,
    /// How many parts the selector of each fleet has.
    parts: Vec<usize>,
    trials: usize,
}

impl<'s, 'm> Search<'s, 'm> {
    fn new(fleets: &'s [Entry<'m>], given: &'s BTreeSet<&'m str>) -> Self {
        let mut search = Self {
            fleets,
            given,
            by_label: HashMap::new(),
            by_given: BTreeMap::new(),
            others: Vec::new(),
            asked: BTreeSet::new(),
            known: HashMap::new(),
            parts: fleets.iter().map(|entry| parts(entry.selector)).collect(),
            trials: 0,
        };
        for (at, entry) in fleets.iter().enumerate() {
            search.asked.extend(entry.selector.match_labels.iter().flatten().map(|(key, _)| key.as_str()));
            search.asked.extend(entry.selector.match_expressions.iter().flatten().map(|e| e.key.as_str()));
            match as_labels(entry.selector).0.into_iter().next() {
                Some((key, value)) => {
                    search.by_label.entry((key, value)).or_default().push(at);
                    if given.contains(key) {
                        search.by_given.entry(key).or_default().push(at);
                    }
                }
                None => search.others.push(at),
            }
        }
        search
    }

    fn selection(&mut self, labels: &'m Labels) -> Rc<Selection> {
        let pairs = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let class: Vec<(&str, &str)> = pairs.filter(|(key, _)| self.asked.contains(key)).collect();
        if let Some(selection) = self.known.get(&class) {
            return Rc::clone(selection);
        }
        let selection = Rc::new(self.search(labels, &class));
        self.known.insert(class, Rc::clone(&selection));
        selection
    }

    fn search(&mut self, labels: &Labels, class: &[(&'m str, &'m str)]) -> Selection {
        let by_label = class.iter().filter_map(|label| self.by_label.get(label)).flatten();
        let candidates: Vec<usize> = by_label.chain(&self.others).copied().collect();
        let cost: usize = candidates.iter().map(|at| self.parts[*at]).sum();
        self.trials = self.trials.saturating_add(cost);
        if self.trials > MAX_TRIALS {
            return Selection { certain: Vec::new(), is_possible: true };
        }
        let selector = |at: &usize| self.fleets[*at].selector;
        let mut certain: Vec<usize> =
            candidates.iter().copied().filter(|at| certainly_matches(selector(at), labels)).collect();
        certain.sort_unstable();
        let open = self.by_given.iter().filter(|(key, _)| !labels.contains_key(**key)).flat_map(|(_, fleets)| fleets);
        let mut tried = 0;
        let is_possible = !certain.is_empty()
            || candidates.iter().chain(open).any(|at| {
                tried += self.parts[*at];
                possibly_matches(selector(at), labels, self.given)
            });
        self.trials = self.trials.saturating_add(tried);
        Selection { certain, is_possible }
    }
}

/// How many comparisons a selector takes at most.
fn parts(selector: &LabelSelector) -> usize {
    let values = selector.match_expressions.iter().flatten().map(|e| 1 + e.values.as_ref().map_or(0, Vec::len));
    1 + selector.match_labels.as_ref().map_or(0, BTreeMap::len) + values.sum::<usize>()
}

/// Whether the selector holds for a device that has at least these labels, whatever others it has.
fn certainly_matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let is_known = selector.match_expressions.iter().flatten().all(|expression| match expression.operator {
        MatchOperator::In | MatchOperator::Exists => true,
        MatchOperator::NotIn | MatchOperator::DoesNotExist => labels.contains_key(&expression.key),
    });
    is_known && selector.matches(labels)
}

/// Whether the selector holds for a device with these labels, or could with some of those that policies give.
fn possibly_matches(selector: &LabelSelector, labels: &Labels, given: &BTreeSet<&str>) -> bool {
    let is_open = |key: &str| !labels.contains_key(key) && given.contains(key);
    let in_labels =
        selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value) || is_open(key));
    let holds = |expression: &MatchExpression| {
        let own = labels.get(&expression.key);
        let is_listed = own.is_some_and(|own| expression.values.iter().flatten().any(|value| value == own));
        match expression.operator {
            MatchOperator::In => is_listed || is_open(&expression.key),
            MatchOperator::NotIn => !is_listed,
            MatchOperator::Exists => own.is_some() || is_open(&expression.key),
            MatchOperator::DoesNotExist => own.is_none(),
        }
    };
    in_labels && selector.match_expressions.iter().flatten().all(holds)
}
