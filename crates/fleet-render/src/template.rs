//! Placeholders in fleet templates: a subset of Go's `text/template`, with an evaluator of our own.
//!
//! Supported: text; `{{ }}` with trim markers and comments; pipelines and parentheses; literals; `if`, `else if`,
//! `with`, `else`, `end`; `.metadata.name`, `.metadata.labels`, `.metadata.labels.<key>` (inside `with` through `$`);
//! the functions of [`FUNCTIONS`]. Not supported, and refused by name: loops, named templates, variables.
//!
//! A label that the device lacks counts as false in `if`, `with`, `and`, `or` and `not`, and `index` gives empty text
//! for it. Everywhere else a reference to it is an error, because a wrong file on a device is worse than a device
//! that says why it waits.
//!
//! There are no loops, sizes are bounded and work is metered, so evaluation always ends soon.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use fleet_model::Labels;

mod eval;
mod functions;
mod lexer;
mod parser;

#[cfg(test)]
mod tests;

pub use functions::FUNCTIONS;

/// Longest template text, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Longest result of an evaluation, and of each value on the way, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Deepest nesting of blocks, and of parentheses.
pub const MAX_NESTING: usize = 10;
/// Most placeholders in one template.
pub const MAX_ACTIONS: usize = 10_000;
/// Most stages of one pipeline.
pub const MAX_STAGES: usize = 16;

/// The device that a template is evaluated for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// `.metadata.name`.
    pub name: &'a str,
    /// `.metadata.labels`: the device's effective labels.
    pub labels: &'a Labels,
}

/// A parsed template.
#[derive(Clone)]
pub struct Template {
    source: String,
    /// `None`: no placeholder, the result is `source`.
    nodes: Option<Vec<parser::Node>>,
    inputs: Inputs,
}

impl Template {
    /// Parses a template. Text without `{{` costs one search.
    ///
    /// # Errors
    /// The first thing that is not in the supported subset, with its place in `text`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            let message = format!("the text has {} bytes; at most {MAX_TEMPLATE_BYTES} are allowed", text.len());
            return Err(TemplateError::new(TemplateErrorKind::Limit, message, 0..0));
        }
        if !text.contains("{{") {
            return Ok(Self::literal(text));
        }
        let nodes = parser::parse(text)?;
        let mut inputs = Inputs::default();
        parser::collect_inputs(&nodes, &mut inputs);
        Ok(Self { source: text.to_owned(), nodes: Some(nodes), inputs })
    }

    /// A template that is `text` itself, `{{` and all: for specifications that have no placeholders by definition.
    pub fn literal(text: &str) -> Self {
        Self { source: text.to_owned(), nodes: None, inputs: Inputs::default() }
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the result is the text itself for every device.
    pub fn is_literal(&self) -> bool {
        self.nodes.is_none()
    }

    /// Everything that the result can depend on.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The text for one device. The same values of [`Template::inputs`] always give the same text.
    ///
    /// # Errors
    /// A label that the device lacks, an argument of the wrong type, or a result beyond [`MAX_OUTPUT_BYTES`].
    pub fn evaluate(&self, subject: &Subject<'_>) -> Result<String, TemplateError> {
        match &self.nodes {
            None => Ok(self.source.clone()),
            Some(nodes) => eval::evaluate(&self.source, nodes, subject),
        }
    }
}

/// Without the text, which may be secret.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("bytes", &self.source.len())
            .field("inputs", &self.inputs)
            .finish_non_exhaustive()
    }
}

/// What the result of a template can depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The device's name.
    pub name: bool,
    /// These labels.
    pub labels: BTreeSet<String>,
    /// All labels: the template looks at the map as a whole, or computes a key.
    pub all_labels: bool,
}

impl Inputs {
    /// Adds what `other` depends on.
    pub fn merge(&mut self, other: &Self) {
        self.name |= other.name;
        self.all_labels |= other.all_labels;
        self.labels.extend(other.labels.iter().cloned());
    }

    /// Whether there is no dependency: one result serves every device.
    pub fn is_empty(&self) -> bool {
        !self.name && !self.all_labels && self.labels.is_empty()
    }
}

/// What sort of failure a [`TemplateError`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateErrorKind {
    /// The text is not a template.
    Syntax,
    /// A part of the Go language that is left out here.
    Unsupported,
    /// The device lacks this label.
    MissingLabel(String),
    /// A function got an argument that it cannot work with.
    Argument,
    /// Too long, too deep or too much work.
    Limit,
}

/// Why a template cannot be parsed, or evaluated for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// What sort of failure.
    pub kind: TemplateErrorKind,
    /// One sentence for people, with the fix where there is one.
    pub message: String,
    /// The bytes of the template text that it is about. Within the text and on character boundaries.
    pub span: Range<usize>,
}

impl TemplateError {
    fn new(kind: TemplateErrorKind, message: impl Into<String>, span: Range<usize>) -> Self {
        Self { kind, message: message.into(), span }
    }

    fn syntax(message: impl Into<String>, span: Range<usize>) -> Self {
        Self::new(TemplateErrorKind::Syntax, message, span)
    }

    fn unsupported(message: impl Into<String>, span: Range<usize>) -> Self {
        Self::new(TemplateErrorKind::Unsupported, message, span)
    }

    fn argument(message: impl Into<String>, span: Range<usize>) -> Self {
        Self::new(TemplateErrorKind::Argument, message, span)
    }

    fn missing_label(label: &str, span: Range<usize>) -> Self {
        let message = format!(
            "the device has no label {label:?}; set it, or give a fallback: getOrDefault .metadata.labels {label:?} \"…\""
        );
        Self::new(TemplateErrorKind::MissingLabel(label.to_owned()), message, span)
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "placeholder at byte {}: {}", self.span.start, self.message)
    }
}

impl std::error::Error for TemplateError {}
