//! What was found, with everything that the outputs need.

use std::collections::HashMap;
use std::sync::Arc;

use fleet_model::{Diagnostic, Severity};
use sha2::{Digest as _, Sha256};

use super::source::Source;

/// All findings of one run.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// In the order of trees, files and places.
    pub(super) findings: Vec<Finding>,
    /// What comments in the files suppress.
    pub(super) suppressed: Vec<Suppressed>,
    /// Every file that was checked: its path from the root of its repository.
    pub(super) files: Vec<String>,
}

/// A finding and the file it is about.
#[derive(Debug)]
pub(super) struct Finding {
    /// Its `file` is the path as people know it.
    pub(super) diagnostic: Diagnostic,
    /// The file's path from the root of its Git repository; outside one, from the directory that was checked.
    pub(super) artifact: String,
    pub(super) source: Option<Arc<Source>>,
}

/// A finding that a comment suppresses.
#[derive(Debug)]
pub(super) struct Suppressed {
    pub(super) finding: Finding,
    /// Why, in the words of the comment.
    pub(super) reason: String,
}

impl Report {
    pub(super) fn errors(&self) -> usize {
        self.findings.iter().filter(|f| f.diagnostic.severity == Severity::Error).count()
    }

    pub(super) fn warnings(&self) -> usize {
        self.findings.len() - self.errors()
    }

    /// Keeps at most `max` findings, errors before warnings, in their order; returns how many were left out.
    pub(super) fn keep(&mut self, max: usize) -> usize {
        let more = self.findings.len().saturating_sub(max);
        if more > 0 {
            let mut errors = max.min(self.errors());
            let mut warnings = max - errors;
            self.findings.retain(|finding| {
                let left = match finding.diagnostic.severity {
                    Severity::Error => &mut errors,
                    Severity::Warning => &mut warnings,
                };
                let kept = *left > 0;
                *left = left.saturating_sub(1);
                kept
            });
        }
        more
    }

    /// The words of the summary: `2 errors, 1 warning`, or `no findings`.
    pub(super) fn verdict(&self) -> String {
        let (errors, warnings, suppressed) = (self.errors(), self.warnings(), self.suppressed.len());
        let mut parts = Vec::new();
        if errors > 0 {
            parts.push(count(errors, "error"));
        }
        if warnings > 0 {
            parts.push(count(warnings, "warning"));
        }
        if parts.is_empty() {
            parts.push("no findings".to_owned());
        }
        if suppressed > 0 {
            parts.push(format!("{} suppressed", thousands(suppressed)));
        }
        format!("checked {}: {}", count(self.files.len(), "file"), parts.join(", "))
    }
}

/// Names that findings keep when other lines of their file move: made of the code, the file, the value's place in its
/// document and the text of the line. Of findings that are equal in all of that, each has a number. All names of one
/// run are different.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    seen: HashMap<[u8; 32], u32>,
}

impl Fingerprints {
    /// The name of the next finding, 64 hexadecimal digits.
    pub(super) fn of(&mut self, finding: &Finding) -> String {
        let Diagnostic { code, pointer, line, .. } = &finding.diagnostic;
        let text = finding.source.as_ref().map(|source| source.line(*line).trim()).unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [code.as_str(), &finding.artifact, pointer, text] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let times = self.seen.entry(hash.clone().finalize().into()).or_default();
        hash.update(times.to_be_bytes());
        *times = times.saturating_add(1);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// `1 file`, `12,345 files`.
pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{} {what}s", thousands(n)) }
}

/// `12,345`.
pub(super) fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}

/// A path as the path of a URI reference: `a b` is `a%20b`.
pub(super) fn uri(path: &str) -> String {
    /// What a segment may hold, but for `:`, which could make a scheme of the first one.
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(path, &KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: &str, severity: Severity, line: u32, text: &str) -> Finding {
        let diagnostic = Diagnostic {
            code: code.to_owned(),
            severity,
            message: "m".to_owned(),
            file: "a.yaml".to_owned(),
            line,
            column: 1,
            end_line: line,
            end_column: 2,
            pointer: "/kind".to_owned(),
            hint: None,
        };
        Finding { diagnostic, artifact: "a.yaml".to_owned(), source: Some(Arc::new(Source::new(text.into()))) }
    }

    #[test]
    fn fingerprints_stay_when_lines_move_and_never_repeat() {
        let (mut before, mut after) = (Fingerprints::default(), Fingerprints::default());
        let first = before.of(&finding("SB0203", Severity::Error, 1, "kind: X\n"));
        assert_eq!(first, after.of(&finding("SB0203", Severity::Error, 3, "\n# new\n  kind: X\r\n")));
        assert_ne!(first, before.of(&finding("SB0203", Severity::Error, 1, "kind: X\n")));
        assert_ne!(first, after.of(&finding("SB0202", Severity::Error, 1, "kind: X\n")));
        assert_eq!(first.len(), 64);
    }

    #[test]
    fn when_not_all_are_shown_errors_come_before_warnings() {
        let mut report = Report::default();
        for (line, severity) in
            [(1, Severity::Warning), (2, Severity::Error), (3, Severity::Warning), (4, Severity::Error)]
        {
            report.findings.push(finding("SB0203", severity, line, ""));
        }
        assert_eq!(report.keep(3), 1);
        assert_eq!(report.findings.iter().map(|f| f.diagnostic.line).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(report.keep(9), 0);
    }

    #[test]
    fn numbers_and_paths_are_written_for_their_readers() {
        assert_eq!(
            (thousands(0), thousands(999), thousands(1_000), thousands(1_234_567)),
            ("0".to_owned(), "999".to_owned(), "1,000".to_owned(), "1,234,567".to_owned())
        );
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(uri("a b/c:d#é.yaml"), "a%20b/c%3Ad%23%C3%A9.yaml");
    }
}
