//! One JSON object with everything.

use std::io;

use serde_json::{Value, json};

use super::report::{Finding, Report};
use crate::Io;

pub(super) fn write(report: &Report, counts: (usize, usize), io: &mut Io<'_>) -> io::Result<()> {
    let suppressed: Vec<Value> = report
        .suppressed
        .iter()
        .map(|one| {
            let mut value = json!(one.finding.diagnostic);
            value["reason"] = one.reason.as_str().into();
            value
        })
        .collect();
    let diagnostics: Vec<_> = report.findings.iter().map(|Finding { diagnostic, .. }| diagnostic).collect();
    let (errors, warnings) = counts;
    let report = json!({
        "files": report.files.len(),
        "errors": errors,
        "warnings": warnings,
        "diagnostics": diagnostics,
        "suppressed": suppressed,
    });
    writeln!(io.out, "{report:#}")
}
