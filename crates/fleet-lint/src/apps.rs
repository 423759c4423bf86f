//! What is inside an application: compose files, quadlet files, virtual machines. Texts in, problems out.
//!
//! Knows nothing of manifests and places in them: a problem names the file by number and the bytes of its text, and
//! whoever has the manifest turns that into lines and columns. Contents with placeholders are not evaluated; only what
//! holds whatever they give is a problem.

use std::ops::Range;

use fleet_render::{check_image_template, is_fully_qualified};

use crate::codes::{self, Code};

pub(crate) mod compose;
mod content;
pub(crate) mod quadlet;
mod unit;
pub(crate) mod vm;

#[cfg(test)]
mod tests;

/// So many problems of one application are looked for.
const MAX_PROBLEMS: usize = 200;

/// One file of an application.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppFile<'a> {
    /// Relative to the application's directory.
    pub(crate) path: &'a str,
    /// The text, decoded; `None` when it is no text.
    pub(crate) text: Option<&'a str>,
    /// `{{ … }}` in path and text are placeholders.
    pub(crate) is_template: bool,
}

/// Something wrong inside an application.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) part: Part,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// The list of files as a whole.
    Files,
    /// The path of the file with this number.
    Path(usize),
    /// Bytes of the text of the file with this number.
    Text(usize, Range<usize>),
    /// The API volume with this number.
    Volume(usize),
}

impl AppFile<'_> {
    /// Whether the path is known: it has no placeholders.
    fn has_fixed_path(&self) -> bool {
        !(self.is_template && self.path.contains("{{"))
    }
}

impl Problem {
    fn new(code: Code, part: Part, message: impl Into<String>) -> Self {
        Self { code, part, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// At most 80 characters of a text that a message quotes.
pub(crate) fn clip(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is wrong with an image reference, the bytes that it is about, and the fix.
#[derive(Debug)]
pub(crate) struct ImageFault {
    pub(crate) code: Code,
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<&'static str>,
}

/// Checks a reference that must name its registry. `is_template`: it may have placeholders.
pub(crate) fn image_fault(image: &str, is_template: bool, must_be_full: bool) -> Option<ImageFault> {
    let checked = if is_template { check_image_template(image) } else { fleet_render::check_image_reference(image) };
    if let Err(problem) = checked {
        let hint = if image.contains("${") {
            Some("environment variables are not replaced here; write the value, or a placeholder in a fleet's template")
        } else if image.contains("{{") && !is_template {
            Some("placeholders are replaced in a fleet's template only")
        } else {
            None
        };
        return Some(ImageFault {
            code: codes::BAD_IMAGE,
            span: problem.span.clone(),
            message: problem.to_string(),
            hint,
        });
    }
    if must_be_full && !is_fully_qualified(image) {
        let message = format!("the image {:?} does not say which registry it comes from", clip(image));
        let hint = if image.contains('/') || image.contains("{{") {
            "write the registry in front: `registry.example.com/…`"
        } else {
            "write the registry in front; what is usually called `nginx` is `docker.io/library/nginx`"
        };
        return Some(ImageFault { code: codes::SHORT_IMAGE, span: 0..image.len(), message, hint: Some(hint) });
    }
    None
}
