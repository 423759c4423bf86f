//! What is left of the findings once comments and the configuration had their say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use fleet_model::{Diagnostic, Severity};

use crate::codes;
use crate::config::LintConfig;
use crate::finding::Finding;
use crate::parse::ParsedFile;

/// A finding that a comment suppresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    /// The finding, with the severity it would have.
    pub diagnostic: Diagnostic,
    /// What the comment gives as the reason.
    pub reason: String,
}

/// The findings of a repository on their way to a report.
pub(super) struct Settling<'t> {
    config: &'t LintConfig,
    files: HashMap<&'t str, &'t ParsedFile>,
    /// Suppressions that were needed, by path and number.
    used: HashSet<(&'t str, usize)>,
    left: Vec<Diagnostic>,
    suppressed: Vec<Suppressed>,
}

impl<'t> Settling<'t> {
    pub(super) fn new(config: &'t LintConfig, files: &[&'t Arc<ParsedFile>]) -> Self {
        let files = files.iter().map(|file| (file.path.as_str(), &***file)).collect();
        Self { config, files, used: HashSet::new(), left: Vec::new(), suppressed: Vec::new() }
    }

    /// Takes all findings. `is_whole`: every rule across files had all it needs.
    pub(super) fn settle(mut self, diagnostics: Vec<Diagnostic>, is_whole: bool) -> (Vec<Diagnostic>, Vec<Suppressed>) {
        let has_fatal = diagnostics.iter().any(is_fatal);
        for diagnostic in diagnostics {
            self.one(diagnostic);
        }
        self.unused(is_whole && !has_fatal);
        (self.left, self.suppressed)
    }

    fn one(&mut self, mut diagnostic: Diagnostic) {
        let file = self.files.get_key_value(diagnostic.file.as_str()).map(|(path, file)| (*path, *file));
        let is_error = diagnostic.severity == Severity::Error;
        if is_fatal(&diagnostic) {
            self.left.push(diagnostic);
            return;
        }
        let line = diagnostic.line;
        let is_held =
            file.is_some_and(|(_, file)| file.held.iter().any(|(first, last)| (*first..=*last).contains(&line)));
        let suppression = file.and_then(|(path, file)| {
            let at = file.suppressions.iter().position(|one| one.covers(&diagnostic.code, line))?;
            Some((path, at, &file.suppressions[at]))
        });
        if let Some((path, at, _)) = suppression {
            self.used.insert((path, at));
        }
        if is_held && is_error {
            let severity = self.config.severity(&diagnostic.code, diagnostic.severity);
            if suppression.is_some() || severity != Some(Severity::Error) {
                diagnostic
                    .message
                    .push_str("; it stays an error here, because nothing of the document could be applied");
            }
            self.left.push(diagnostic);
            return;
        }
        let Some(severity) = self.config.severity(&diagnostic.code, diagnostic.severity) else { return };
        diagnostic.severity = severity;
        match suppression {
            Some((_, _, suppression)) => {
                self.suppressed.push(Suppressed { diagnostic, reason: suppression.reason.clone() });
            }
            None => self.left.push(diagnostic),
        }
    }

    /// Reports suppressions that nothing needed, where that is certain.
    fn unused(&mut self, across_files: bool) {
        let by_path: BTreeMap<&str, &ParsedFile> = self.files.iter().map(|(path, file)| (*path, *file)).collect();
        for (path, file) in by_path {
            // A document with an error that stays was not looked at to the end.
            let is_checked = !file.is_unreadable && !file.diagnostics.iter().any(is_fatal);
            for (at, suppression) in file.suppressions.iter().enumerate() {
                let is_certain = across_files || (is_checked && !suppression.code.starts_with("SB05"));
                if self.used.contains(&(path, at)) || !is_certain {
                    continue;
                }
                let message = format!("there is no finding {} here to suppress", suppression.code);
                let finding = Finding::new(codes::UNUSED_SUPPRESSION, suppression.span, message);
                let mut diagnostic = finding.hint("remove the code, or the whole comment").into_diagnostic(path);
                if let Some(severity) = self.config.severity(&diagnostic.code, diagnostic.severity) {
                    diagnostic.severity = severity;
                    self.left.push(diagnostic);
                }
            }
        }
    }
}

/// Whether nothing lowers the finding.
fn is_fatal(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error && codes::find(&diagnostic.code).is_none_or(codes::Code::is_fatal)
}
