//! What the rules say of a document that does not fit its schema: of all but the parts that do not, so that one look at a
//! file finds every mistake in it.

use fleet_model::{Kind, Manifest};
use serde_json::Value;

use super::{Document, prune};
use crate::finding::Finding;
use crate::rules;
use crate::validate;

/// How often parts are taken away until the rest fits.
const MAX_ROUNDS: usize = 6;

/// Checks what is left of `value` without what does not fit, and says nothing of what was taken away or lies around it.
pub(super) fn check(document: &Document<'_, '_>, kind: Kind, value: &Value, findings: &mut Vec<Finding>) {
    let mut removed = Vec::new();
    let Some(manifest) = without_misfits(document, kind, value.clone(), &mut removed) else { return };
    let mut said = Vec::new();
    rules::check(document, &manifest, &mut said);
    let is_at =
        |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    said.retain(|finding| {
        let at = finding.pointer.as_str();
        !removed.iter().any(|gone| is_at(at, gone) || is_at(gone, at))
    });
    findings.append(&mut said);
}

fn without_misfits(
    document: &Document<'_, '_>,
    kind: Kind,
    mut value: Value,
    removed: &mut Vec<String>,
) -> Option<Manifest> {
    for _ in 0..MAX_ROUNDS {
        let misfits = validate::findings(document, kind, &value);
        if misfits.is_empty() {
            return Manifest::from_value(kind, &value).ok();
        }
        for misfit in misfits {
            let field = field_of(&value, &misfit.pointer)?.to_owned();
            prune(&mut value, &field);
            removed.push(field);
        }
    }
    None
}

/// The field to take away: the misfit itself, or the list it is an item of, so that the places of other items stay.
fn field_of<'p>(value: &Value, pointer: &'p str) -> Option<&'p str> {
    let mut pointer = pointer;
    loop {
        let (above, _) = pointer.rsplit_once('/')?;
        // Without these a document is none.
        if matches!(pointer, "/spec" | "/metadata" | "/kind" | "/apiVersion" | "/spec/template") {
            return None;
        }
        if !value.pointer(above).is_some_and(Value::is_array) {
            return Some(pointer);
        }
        pointer = above;
    }
}
