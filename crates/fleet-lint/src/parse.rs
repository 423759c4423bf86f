//! One file: from bytes to manifests and findings.

use std::collections::HashSet;
use std::sync::Arc;

use fleet_model::{Diagnostic, Kind, Manifest, Severity};
use serde_json::Value;

use crate::codes;
use crate::contents::{self, LabelTemplate};
use crate::document::{self, Document};
use crate::finding::{Finding, Span, in_order};
use crate::rules::{Reference, Target};
use crate::suppress::{self, Suppression};
use crate::yaml::{self, LoadedFile, Tree};

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 4 << 20;

/// How many findings one file may have; more are counted only.
const MAX_FINDINGS: usize = 1_000;

/// What is known of one file without the others.
#[derive(Debug)]
pub struct ParsedFile {
    /// Path from the repository's root.
    pub path: String,
    /// The manifests that could be read, in the order of the file, without unknown fields. One that is missing has an
    /// error among the findings; one that is here may have errors that a repository can lower.
    pub manifests: Vec<ParsedManifest>,
    /// Findings in the order of line, column and code.
    pub diagnostics: Vec<Diagnostic>,
    /// Every resource that the file names, also those with errors.
    pub(crate) declared: Vec<Declared>,
    /// What the documents refer to, also those with errors.
    pub(crate) references: Vec<Reference>,
    /// A part of the file could not be read, so it may refer to anything.
    pub(crate) is_unreadable: bool,
    /// At least one document has a kind.
    pub(crate) has_kinds: bool,
    /// First and last lines of documents that gave no manifest although all their errors could be lowered: those errors
    /// stay, or the object would vanish.
    pub(crate) held: Vec<(u32, u32)>,
    /// What comments ask to suppress.
    pub(crate) suppressions: Vec<Suppression>,
}

impl ParsedFile {
    /// The files and directories of its own repository that the file's documents take content from, those with errors
    /// too, as in [`TreeReport::config_paths`](crate::TreeReport).
    pub fn content_paths(&self) -> impl Iterator<Item = &str> {
        self.references.iter().filter_map(|reference| match &reference.target {
            Target::OwnPath(path) | Target::OwnDirectory(path) => Some(path.as_str()),
            Target::Repository(_) | Target::WebServer(_) => None,
        })
    }
}

/// A manifest with its places.
#[derive(Debug)]
pub struct ParsedManifest {
    /// The typed manifest.
    pub manifest: Manifest,
    /// The document as JSON, with merge keys applied and the canonical `apiVersion`.
    pub document: Value,
    /// First line, from 1.
    pub line: u32,
    /// First column in characters, from 1.
    pub column: u32,
    /// Last line.
    pub end_line: u32,
    /// Why the service cannot carry the object out yet, as a sentence: it makes no revision of it and keeps what there is.
    pub waits: Option<String>,
    /// Of a fleet: the texts whose placeholders need labels.
    pub(crate) label_templates: Vec<LabelTemplate>,
    pub(crate) tree: Arc<Tree>,
    pub(crate) root: u32,
}

impl ParsedManifest {
    /// Where the value at a JSON pointer stands: a scalar as a whole, of a mapping or list its beginning.
    pub fn span(&self, pointer: &str) -> Option<Span> {
        self.tree.find(self.root, pointer).map(|(node, _)| self.tree.value_span(node))
    }

    /// Where the key of the value at a JSON pointer stands; `None` for items of lists and the document itself.
    pub fn key_span(&self, pointer: &str) -> Option<Span> {
        self.tree.find(self.root, pointer).and_then(|(_, key)| key)
    }

    /// From the first to the last character of the value at a JSON pointer, with everything below it.
    pub fn full_span(&self, pointer: &str) -> Option<Span> {
        self.tree.find(self.root, pointer).map(|(node, _)| self.tree.node(node).span)
    }
}

/// A resource that a file names.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) span: Span,
}

/// Reads one file. Never fails and never panics: what is wrong is a finding, and manifests with errors are left out.
///
/// `path` is relative to the repository's root; a name that ends in `.json` is read as JSON, any other as YAML.
pub fn parse_file(path: &str, bytes: &[u8]) -> ParsedFile {
    let mut file = ParsedFile {
        path: path.to_owned(),
        manifests: Vec::new(),
        diagnostics: Vec::new(),
        declared: Vec::new(),
        references: Vec::new(),
        is_unreadable: false,
        has_kinds: false,
        held: Vec::new(),
        suppressions: Vec::new(),
    };
    let mut findings = Vec::new();
    match readable_text(bytes, &mut findings) {
        Some(text) => read(&mut file, text, &mut findings),
        None => file.is_unreadable = true,
    }
    file.diagnostics = findings.into_iter().map(|finding| finding.into_diagnostic(path)).collect();
    in_order(&mut file.diagnostics);
    limit(&mut file.diagnostics);
    file
}

/// Keeps at most [`MAX_FINDINGS`], errors before warnings, in their order.
fn limit(diagnostics: &mut Vec<Diagnostic>) {
    let Some(more) = diagnostics.len().checked_sub(MAX_FINDINGS).filter(|more| *more > 0) else { return };
    // An error that can be lowered must not hide one that cannot.
    let is_fatal = |diagnostic: &Diagnostic| codes::find(&diagnostic.code).is_none_or(codes::Code::is_fatal);
    diagnostics.sort_by_key(|diagnostic| (!is_fatal(diagnostic), diagnostic.severity != Severity::Error));
    diagnostics.truncate(MAX_FINDINGS);
    in_order(diagnostics);
    if let Some(last) = diagnostics.last_mut() {
        last.message.push_str(&format!(" (the file has {more} more findings)"));
    }
}

/// The file as text without a byte-order mark, when every character may stand in a manifest.
pub(crate) fn readable_text<'a>(bytes: &'a [u8], findings: &mut Vec<Finding>) -> Option<&'a str> {
    if bytes.len() > MAX_FILE_BYTES {
        // Not how many it has: whoever reads it stops at the limit.
        let message = format!("the file has more than {MAX_FILE_BYTES} bytes");
        findings.push(Finding::new(codes::FILE_TOO_LARGE, Span::START, message).hint("split the file"));
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let message = format!("the byte {:#04x} is not UTF-8", bytes[error.valid_up_to()]);
            findings.push(Finding::new(codes::NOT_UTF8, end_of(&good), message).hint("save the file as UTF-8"));
            return None;
        }
    };
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    if body.len() < text.len() {
        let message = "the file starts with a byte-order mark, which some readers take for text";
        findings.push(
            Finding::new(codes::BYTE_ORDER_MARK, Span::START, message).hint("save the file as UTF-8 without BOM"),
        );
    }
    let forbidden = |c: char| c == '\u{feff}' || (c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    if let Some((at, character)) = body.char_indices().find(|(_, c)| forbidden(*c)) {
        let message = format!("the character U+{:04X} is not allowed", u32::from(character));
        findings.push(Finding::new(codes::CONTROL_CHARACTER, end_of(&body[..at]), message));
        return None;
    }
    Some(body)
}

/// The place behind `text`.
fn end_of(text: &str) -> Span {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX - 1);
    let lines = text.bytes().filter(|b| *b == b'\n').count();
    let last = text.rsplit('\n').next().unwrap_or_default();
    Span::at(narrow(lines + 1), narrow(last.chars().count() + 1))
}

fn read(file: &mut ParsedFile, text: &str, findings: &mut Vec<Finding>) {
    let is_json = file.path.rsplit('.').next() == Some("json");
    if is_json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX - 1).max(1);
        let full = error.to_string();
        let message = full.split(" at line ").next().unwrap_or(&full);
        findings.push(Finding::new(
            codes::JSON_SYNTAX,
            Span::at(narrow(error.line()), narrow(error.column())),
            message,
        ));
        file.is_unreadable = true;
        return;
    }
    if !is_json {
        file.suppressions = suppress::read(text, findings);
    }
    let mut loaded = yaml::load(text, is_json);
    findings.append(&mut loaded.findings);
    let (values, more) = yaml::decode_documents(text, &loaded, is_json);
    findings.extend(more);
    file.is_unreadable =
        loaded.stopped || values.iter().zip(&loaded.documents).any(|(v, d)| v.is_none() && d.root.is_some());
    let checked = check_documents(text, &loaded, values, findings);
    // A manifest whose kind is misspelt may refer to content, too.
    file.is_unreadable |= findings.iter().any(|finding| finding.code == codes::UNKNOWN_KIND);
    let tree = Arc::new(loaded.tree);
    for Read { root, document, label_templates, is_held } in checked {
        if is_held {
            let span = tree.node(root).span;
            file.held.push((span.line, span.end_line));
        }
        file.has_kinds |= document.has_kind;
        file.declared.extend(document.declared);
        file.references.extend(document.references);
        if let Some((manifest, value)) = document.manifest {
            let span = tree.node(root).span;
            file.manifests.push(ParsedManifest {
                manifest,
                document: value,
                line: span.line,
                column: span.column,
                end_line: span.end_line,
                waits: document.waits,
                label_templates,
                tree: Arc::clone(&tree),
                root,
            });
        }
    }
}

/// What came of the document at a node.
struct Read {
    root: u32,
    document: document::Checked,
    label_templates: Vec<LabelTemplate>,
    /// It gave no manifest, and no finding that stays an error says why.
    is_held: bool,
}

fn check_documents(
    text: &str,
    loaded: &LoadedFile<'_>,
    values: Vec<Option<Value>>,
    findings: &mut Vec<Finding>,
) -> Vec<Read> {
    // A place with an error in its notation gets no second finding about its meaning, nor an unknown field a warning.
    let errors = findings.iter().filter(|f| f.code.severity == Severity::Error);
    let noted: HashSet<(u32, u32)> = errors.map(|f| (f.span.line, f.span.column)).collect();
    let mut checked = Vec::new();
    for (document, value) in loaded.documents.iter().zip(values) {
        let (Some(root), Some(value)) = (document.root, value) else { continue };
        if value.is_null() {
            continue;
        }
        let place = Document { file: loaded, text, root };
        let mut result = document::check(&place, value);
        result.manifest = result.manifest.filter(|_| !document.refused);
        let mut own = std::mem::take(&mut result.findings);
        let mut label_templates = Vec::new();
        if let Some((manifest, value)) = &result.manifest {
            label_templates = contents::label_templates(&place, manifest.kind(), value);
            contents::secrets(&place, manifest.kind(), value, &mut own);
        }
        let all = own.len();
        let unknown = own.iter().filter(|f| f.code == codes::UNKNOWN_FIELD).map(|f| (f.span.line, f.span.column));
        let unknown: HashSet<(u32, u32)> = unknown.collect();
        own.retain(|f| {
            let at = (f.span.line, f.span.column);
            !noted.contains(&at) && (f.code.severity == Severity::Error || !unknown.contains(&at))
        });
        let explained = document.refused || own.iter().any(|f| f.code.is_fatal());
        let is_held = result.manifest.is_none() && !explained;
        if is_held && own.len() == all && own.iter().all(|f| f.code.severity != Severity::Error) {
            let message = "the document does not fit its kind";
            own.push(Finding::new(codes::NOT_DECODED, loaded.tree.value_span(root), message));
        }
        findings.extend(own);
        checked.push(Read { root, document: result, label_templates, is_held });
    }
    checked
}
