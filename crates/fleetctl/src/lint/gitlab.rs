//! The code quality report of GitLab: a list of issues, each with a fingerprint that GitLab compares between branches.

use std::io;

use fleet_model::Severity;
use serde_json::{Value, json};

use super::report::{Fingerprints, Report};
use crate::Io;
use crate::output::one_line;

pub(super) fn write(report: &Report, io: &mut Io<'_>) -> io::Result<()> {
    let mut fingerprints = Fingerprints::default();
    let issues: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            let diagnostic = &finding.diagnostic;
            let severity = match diagnostic.severity {
                Severity::Error => "critical",
                Severity::Warning => "minor",
            };
            let hint = diagnostic.hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            json!({
                "description": one_line(&format!("{}: {}{hint}", diagnostic.code, diagnostic.message)),
                "check_name": diagnostic.code,
                "fingerprint": fingerprints.of(finding),
                "severity": severity,
                "location": {
                    "path": finding.artifact,
                    "lines": {"begin": diagnostic.line, "end": diagnostic.end_line.max(diagnostic.line)},
                },
            })
        })
        .collect();
    writeln!(io.out, "{:#}", Value::Array(issues))
}
