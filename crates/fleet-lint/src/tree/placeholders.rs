//! Placeholders that need a label which devices of the inventory lack.
//!
//! Said only of devices that one fleet certainly selects, and of labels that no enrolment policy of this repository
//! gives. Templates are evaluated as for rendering, once for all devices whose inputs are equal.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fleet_model::Diagnostic;
use fleet_render::{Subject, TemplateErrorKind};

use super::inventory::{Inventory, Member};
use crate::codes;
use crate::contents::LabelTemplate;
use crate::finding::{Finding, Span};

/// How much text is evaluated for one tree, in bytes; what is left then is not looked at.
const MAX_EVALUATED: usize = 64 << 20;
/// How many templates are looked at for devices in one tree; what is left then is not looked at.
const MAX_LOOKS: usize = 10_000_000;
/// What an evaluation costs beside its text.
const EVALUATION: usize = 256;
/// How many devices a finding names.
const MAX_NAMES: usize = 3;

/// A label that devices of a fleet lack.
struct Lack<'m> {
    span: Span,
    pointer: &'m str,
    names: Vec<&'m str>,
    count: usize,
}

/// What the result of one template depends on for one device.
type Key<'m> = (usize, Option<&'m str>, Vec<(&'m str, &'m str)>);
/// The label that is lacking, and the byte of the template that needs it.
type Missing = Option<(String, usize)>;

/// Reports each label once for each fleet.
pub(super) fn check(inventory: &Inventory<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut by_fleet: BTreeMap<usize, Vec<&Member<'_>>> = BTreeMap::new();
    for member in &inventory.members {
        if let [only] = member.selection.certain[..] {
            by_fleet.entry(only).or_default().push(member);
        }
    }
    let (mut evaluated, mut looks) = (0, 0);
    for (at, members) in by_fleet {
        let fleet = &inventory.fleets[at];
        let templates = &fleet.placed.parsed().label_templates;
        let mut lacks: BTreeMap<String, Lack<'_>> = BTreeMap::new();
        let mut known: HashMap<Key<'_>, Missing> = HashMap::new();
        // Most devices have everything that any template of the fleet asks for.
        let asked: BTreeSet<&String> =
            templates.iter().flat_map(|template| &template.template.inputs().labels).collect();
        let is_open = templates.iter().any(|template| template.template.inputs().all_labels);
        for member in &members {
            let labels = &member.device.metadata.labels;
            if looks > MAX_LOOKS || (!is_open && asked.iter().all(|label| labels.contains_key(*label))) {
                continue;
            }
            looks += templates.len();
            let mut own: Vec<String> = Vec::new();
            for (number, template) in templates.iter().enumerate() {
                if has_all(template, member) {
                    continue;
                }
                let missing = known.entry(key(number, template, member)).or_insert_with(|| {
                    evaluated += template.template.source().len() + EVALUATION;
                    if evaluated > MAX_EVALUATED { None } else { missing(template, member) }
                });
                let Some((label, byte)) = missing else { continue };
                if inventory.given.contains(label.as_str()) || own.contains(label) {
                    continue;
                }
                own.push(label.clone());
                let lack = lacks.entry(label.clone()).or_insert_with(|| Lack {
                    span: template.place(*byte),
                    pointer: &template.pointer,
                    names: Vec::new(),
                    count: 0,
                });
                lack.count += 1;
                if lack.names.len() < MAX_NAMES {
                    lack.names.push(member.name());
                }
            }
        }
        for (label, lack) in lacks {
            let finding = word(&label, &lack, members.len());
            diagnostics.push(finding.into_diagnostic(fleet.placed.path()));
        }
    }
}

/// Whether the device has every label that the template can ask for.
fn has_all(template: &LabelTemplate, member: &Member<'_>) -> bool {
    let inputs = template.template.inputs();
    let labels = &member.device.metadata.labels;
    !inputs.all_labels && inputs.labels.iter().all(|label| labels.contains_key(label))
}

fn key<'m>(number: usize, template: &LabelTemplate, member: &'m Member<'_>) -> Key<'m> {
    let inputs = template.template.inputs();
    let name = inputs.name.then(|| member.name());
    let labels = member.device.metadata.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    (number, name, labels.filter(|(key, _)| inputs.all_labels || inputs.labels.contains(*key)).collect())
}

fn missing(template: &LabelTemplate, member: &Member<'_>) -> Missing {
    let subject = Subject { name: member.name(), labels: &member.device.metadata.labels };
    let error = template.template.evaluate(&subject).err()?;
    match error.kind {
        TemplateErrorKind::MissingLabel(label) => Some((label, error.span.start)),
        TemplateErrorKind::Syntax
        | TemplateErrorKind::Unsupported
        | TemplateErrorKind::Argument
        | TemplateErrorKind::Limit => None,
    }
}

fn word(label: &str, lack: &Lack<'_>, all: usize) -> Finding {
    let devices = if all == 1 { "the one device".to_owned() } else { format!("{} of {all} devices", lack.count) };
    let verb = if lack.count == 1 || all == 1 { "lacks" } else { "lack" };
    let more = if lack.count > lack.names.len() { ", …" } else { "" };
    let message = format!(
        "the placeholder needs the label {label:?}, which {devices} of the fleet {verb} in the inventory: {}{more}",
        lack.names.join(", ")
    );
    let hint = format!(
        "add the label to the device's manifest, or give a fallback: getOrDefault .metadata.labels {label:?} \"…\"; a device \
         without it waits, unless it got the label when it enrolled"
    );
    Finding::new(codes::MISSING_LABEL, lack.span, message).at_pointer(lack.pointer).hint(hint)
}
