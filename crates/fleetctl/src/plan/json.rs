//! A plan as one JSON object.

use serde_json::{Value, json};

use super::Report;
use super::detail::Part;
use crate::Io;

pub(super) fn write(report: &Report, io: &mut Io<'_>) -> anyhow::Result<()> {
    let Report { plan, range, path, known, names: _, details, measured, exceeded, signatures, remarks } = report;
    let mut value = serde_json::to_value(plan)?;
    let parts = |parts: &[Part]| -> Vec<Value> {
        parts
            .iter()
            .map(|part| json!({"name": part.name, "change": change(part.sign), "note": part.note, "diff": part.diff}))
            .collect()
    };
    if let Some(groups) = value["groups"].as_array_mut() {
        for (group, detail) in groups.iter_mut().zip(details) {
            group["details"] = json!({
                "files": parts(&detail.files),
                "applications": parts(&detail.applications),
                "others": parts(&detail.others),
            });
        }
    }
    let limits: Vec<Value> = measured
        .iter()
        .map(|one| json!({"limit": one.limit, "count": one.count, "total": one.total, "allowed": one.allowed}))
        .collect();
    let whole = json!({
        "base": range.base.id,
        "head": range.head.as_ref().map(|head| &head.id),
        "path": path,
        "enrolled": known.enrolled,
        "limits": limits,
        "exceeded": exceeded,
        "signatures": signatures.json(),
        "remarks": remarks,
        "plan": value,
    });
    Ok(writeln!(io.out, "{whole:#}")?)
}

fn change(sign: char) -> &'static str {
    match sign {
        '+' => "added",
        '-' => "removed",
        _ => "changed",
    }
}
