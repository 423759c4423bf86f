//! SARIF 2.1.0, the format of GitHub code scanning, Azure DevOps and editors.
//!
//! Places count characters (`unicodeCodePoints`) and their ends are exclusive, as in SARIF. Paths are relative to
//! `%SRCROOT%`, the root of the repository. What comments suppress is left out unless it is asked for: GitHub shows
//! results with `suppressions` as open alerts.

use std::collections::BTreeMap;
use std::io;

use fleet_lint::codes::{self, Code};
use fleet_model::Severity;
use serde_json::{Value, json};

use super::report::{Finding, Fingerprints, Report, uri};
use crate::Io;
use crate::output::printable;

/// The most text that GitHub takes for a description, in characters.
const MAX_DESCRIPTION: usize = 1_024;

pub(super) fn write(report: &Report, show_suppressed: bool, io: &mut Io<'_>) -> io::Result<()> {
    let suppressed = || report.suppressed.iter().filter(|_| show_suppressed);
    let found = report.findings.iter().chain(suppressed().map(|one| &one.finding));
    let mut rules: BTreeMap<&str, usize> = found.map(|finding| (finding.diagnostic.code.as_str(), 0)).collect();
    for (index, slot) in rules.values_mut().enumerate() {
        *slot = index;
    }
    let mut fingerprints = Fingerprints::default();
    let mut results: Vec<Value> =
        report.findings.iter().map(|finding| result(finding, &rules, &mut fingerprints)).collect();
    for one in suppressed() {
        let mut value = result(&one.finding, &rules, &mut fingerprints);
        value["suppressions"] = json!([{"kind": "inSource", "status": "accepted", "justification": one.reason}]);
        results.push(value);
    }
    let rules: Vec<Value> = rules.keys().map(|code| rule(code)).collect();
    let version = env!("CARGO_PKG_VERSION");
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "fleetctl", "version": version, "semanticVersion": version, "rules": rules}},
            "automationDetails": {"id": "fleetctl/lint/"},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The root of the repository."}}},
            "results": results,
        }],
    });
    writeln!(io.out, "{log:#}")
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn rule(code: &str) -> Value {
    let Some(Code { title, severity, .. }) = codes::find(code) else {
        return json!({"id": code, "shortDescription": {"text": code}, "help": {"text": code}});
    };
    let page = fleet_lint::explain(code).unwrap_or_default();
    let body = page.split_once('\n').map_or(page, |(_, body)| body).trim();
    let about = body.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    json!({
        "id": code,
        "shortDescription": {"text": title},
        "fullDescription": {"text": about.chars().take(MAX_DESCRIPTION).collect::<String>()},
        "help": {"text": body, "markdown": body},
        "defaultConfiguration": {"level": level(*severity)},
        "properties": {"tags": ["fleet"], "problem.severity": level(*severity), "precision": "very-high"},
    })
}

fn result(finding: &Finding, rules: &BTreeMap<&str, usize>, fingerprints: &mut Fingerprints) -> Value {
    let diagnostic = &finding.diagnostic;
    let hint = diagnostic.hint.as_deref().map(|hint| format!("\nhelp: {hint}")).unwrap_or_default();
    let end_line = diagnostic.end_line.max(diagnostic.line);
    json!({
        "ruleId": diagnostic.code,
        "ruleIndex": rules.get(diagnostic.code.as_str()),
        "level": level(diagnostic.severity),
        "message": {"text": printable(&format!("{}{hint}", diagnostic.message))},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&finding.artifact), "uriBaseId": "%SRCROOT%"},
            "region": {
                "startLine": diagnostic.line,
                "startColumn": diagnostic.column,
                "endLine": end_line,
                "endColumn": if end_line > diagnostic.line { diagnostic.end_column } else { diagnostic.end_column.max(diagnostic.column) },
            },
        }}],
        // GitHub adds its own, `primaryLocationLineHash`, and complains about one that it would have made otherwise.
        "partialFingerprints": {"fleetctlLint/v1": fingerprints.of(finding)},
    })
}
