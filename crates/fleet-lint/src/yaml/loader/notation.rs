//! What the notation of a document gives away and its values do not: ambiguous scalars, keys given twice, merge keys,
//! and how syntax errors are worded.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use granit_parser::{ErrorKind, ScanError};

use super::super::place::{clip, narrow, tab_in_indentation};
use super::super::scalar::{Plain, ambiguity, octal_mode, resolve};
use super::super::tree::{Entry, NodeKind};
use super::syntax::{advice, tab_behind};
use super::{Frame, Loader, too_deep};
use crate::codes;
use crate::finding::{Finding, Span};

/// Modes that people write in octal; a decimal number with these digits is most likely a slip.
const OCTAL_LOOKING: [&str; 18] = [
    "400", "440", "444", "500", "550", "555", "600", "640", "644", "660", "664", "666", "700", "750", "755", "770",
    "775", "777",
];

/// Keys whose values are credentials.
const SECRETS: [&str; 5] = ["password", "token", "tls.key", "sshPrivateKey", "privateKeyPassphrase"];

impl Loader<'_> {
    /// Checks a plain scalar under `key`; the file mode that it stands for, when it is one in octal.
    pub(super) fn check_plain(&mut self, value: &str, key: Option<&str>, span: Span) -> Option<u32> {
        let is_mode = key == Some("mode");
        // What is refused as a credential must not be quoted in a finding.
        let shown = if key.is_some_and(|key| SECRETS.contains(&key)) { "…".to_owned() } else { clip(value) };
        let mut octal = None;
        if !self.is_json {
            octal = if is_mode { octal_mode(value) } else { None };
            let explicit_octal = is_mode && value.starts_with("0o");
            let decimal_mode = is_mode && OCTAL_LOOKING.contains(&value);
            if let Some(other) = ambiguity(value).filter(|_| octal.is_none() && !explicit_octal) {
                self.find(ambiguous(&shown, other, span));
            }
            if decimal_mode {
                let message = format!("the mode {value} is decimal");
                self.find(
                    Finding::new(codes::DECIMAL_MODE, span, message).hint(format!("write 0{value} for an octal mode")),
                );
            }
        }
        let finite = match resolve(value) {
            Plain::HugeInt => false,
            Plain::Int(number) => u64::try_from(number).is_ok() || i64::try_from(number).is_ok(),
            Plain::Float(number) => number.is_finite(),
            Plain::Null | Plain::Bool(_) | Plain::Text => true,
        };
        if !finite {
            let message = format!("`{shown}` is a number that cannot be represented");
            self.fatal(Finding::new(codes::NUMBER, span, message).hint("quote the value if it is text"));
        }
        octal
    }

    pub(super) fn check_entries(&mut self, entries: &[Entry]) {
        let mut seen: HashMap<&str, u32> = HashMap::new();
        let mut findings = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            // Small mappings are searched, large ones are hashed.
            let first = if entries.len() <= 16 {
                entries[..at].iter().find(|earlier| earlier.key == entry.key).map(|earlier| earlier.key_span.line)
            } else {
                match seen.entry(&entry.key) {
                    Slot::Occupied(first) => Some(*first.get()),
                    Slot::Vacant(place) => {
                        place.insert(entry.key_span.line);
                        None
                    }
                }
            };
            if let Some(first) = first {
                findings.push(Finding::new(
                    codes::DUPLICATE_KEY,
                    entry.key_span,
                    format!("the key `{}` is given twice; the first is on line {first}", clip(&entry.key)),
                ));
            }
            if entry.is_merge && !self.merges(entry.value) {
                let message = "the merge key `<<` needs a mapping or a list of mappings";
                findings.push(Finding::new(codes::MERGE_KEY, entry.key_span, message));
            }
        }
        for finding in findings {
            self.fatal(finding);
        }
    }

    fn merges(&self, node: u32) -> bool {
        let is_mapping = |id: u32| matches!(self.file.tree.node(id).kind, NodeKind::Mapping(_));
        match &self.file.tree.node(node).kind {
            NodeKind::Mapping(_) => true,
            NodeKind::Sequence(items) => items.iter().all(|item| is_mapping(*item)),
            NodeKind::Scalar => false,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum belongs to the parser and grows")]
    pub(super) fn syntax_error(&mut self, error: &ScanError, text: &str) {
        let marker = error.marker();
        let mut at = Span::at(narrow(marker.line()), narrow(marker.col()).saturating_add(1));
        let mut message = error.kind().to_string();
        let tab = marker.byte_offset().and_then(|byte| tab_in_indentation(text, byte));
        let code = match error.kind() {
            ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar => codes::TAB,
            ErrorKind::RecursionLimitExceeded => {
                self.fatal(too_deep(at));
                return;
            }
            ErrorKind::DirectiveDisallowed => {
                "YAML directives are not allowed in manifests".clone_into(&mut message);
                codes::DIRECTIVE
            }
            ErrorKind::UndeclaredTagHandle => codes::TAG,
            _ if tab.is_some() => codes::TAB,
            _ => codes::SYNTAX,
        };
        if let (codes::TAB, Some(column)) = (code, tab) {
            at = Span::at(at.line, column);
        } else if code == codes::TAB
            && let Some(behind) = marker.byte_offset().and_then(|byte| tab_behind(text, byte))
        {
            at = behind;
        }
        let mut hint = (code == codes::TAB).then(|| "indent with spaces".to_owned());
        if code == codes::SYNTAX {
            let brackets = self.open_brackets(text);
            let better = advice(error.kind(), text, marker.byte_offset().unwrap_or(0), &brackets);
            (at, hint) = (better.at.unwrap_or(at), better.hint);
            message = better.message.unwrap_or(message);
            // An alias that is none, and what follows it: `*/5 * * * *`.
            if let Some(alias) =
                self.file.findings.pop_if(|last| last.code == codes::ALIAS && last.span.line == at.line)
            {
                at = alias.span;
                hint = Some("quote a value that begins with `*` or `&`".to_owned());
            }
        }
        let finding = Finding::new(code, at, message).maybe_hint(hint);
        self.fatal(finding);
    }

    /// Where the flow collections begin that are open.
    fn open_brackets(&self, text: &str) -> Vec<Span> {
        let starts = self.stack.iter().map(|frame| match frame {
            Frame::Sequence { node, .. } | Frame::Mapping { node, .. } => self.file.tree.node(*node).span,
        });
        let (mut number, mut lines) = (1, text.split('\n'));
        let mut line = lines.next().unwrap_or_default();
        let is_bracket = |start: &Span| {
            while number < start.line {
                (number, line) = (number + 1, lines.next().unwrap_or_default());
            }
            matches!(line.chars().nth(start.column.saturating_sub(1) as usize), Some('[' | '{'))
        };
        starts.filter(is_bracket).collect()
    }
}

pub(super) fn ambiguous(value: &str, other: &str, span: Span) -> Finding {
    let message = format!("ambiguous YAML: older readers take `{}` for {other}", clip(value));
    Finding::new(codes::AMBIGUOUS, span, message).hint(format!("write \"{}\" if it is text", clip(value)))
}
