//! Lays out a YAML file: two spaces of indentation, lists indented below their keys, at most one blank line in a row.
//! The values, their notation as text or number, the order of keys and every comment stay; the text of block scalars
//! (`|`, `>`) is moved as a whole and never touched.
//!
//! [`format()`] proves this before it answers: what it made is read again and compared. It is a pure function, knows
//! nothing of manifests and reads no files.
#![forbid(unsafe_code)]

mod blocks;
mod reading;

use std::panic::catch_unwind;

use pretty_yaml::config::{FormatOptions, LanguageOptions, LayoutOptions};
use reading::Reading;

/// The largest text that is laid out, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// Columns that flow collections (`[a, b]`) are kept within.
const WIDTH: usize = 120;

/// How often a layout is laid out again until nothing moves.
const MAX_PASSES: usize = 4;

/// Why a text was not laid out. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is larger than [`MAX_BYTES`].
    #[error("the file has {bytes} bytes; at most {MAX_BYTES} are laid out")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is no YAML.
    #[error("line {line}, column {column}: {message}")]
    Unreadable {
        /// The line of the mistake.
        line: usize,
        /// The column of the mistake, from 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// It is YAML in a notation that is not laid out.
    #[error("line {line}: {what}")]
    Unusual {
        /// Where.
        line: usize,
        /// What, and what to do about it.
        what: &'static str,
    },
    /// Laying it out would have changed what it says.
    #[error("laying the file out would change {what}; it is left as it is")]
    WouldChange {
        /// What would be another.
        what: String,
    },
}

/// Lays out `text`. Line ends become LF, a byte-order mark goes. The result laid out again is the same.
///
/// # Errors
/// [`Refusal`], when the text cannot be laid out without changing what it says; nothing is known of the layout then.
pub fn format(text: &str) -> Result<String, Refusal> {
    if text.len() > MAX_BYTES {
        return Err(Refusal::TooLarge { bytes: text.len() });
    }
    let source = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    if let Some(at) = source.find('\r') {
        let line = source[..at].matches('\n').count() + 1;
        return Err(Refusal::Unusual { line, what: "a carriage return without a line feed; remove it" });
    }
    let before = reading::read(&source)?;
    if let Some(line) = before.too_far_right {
        return Err(Refusal::Unusual { line, what: "a line that is indented by more than 60 columns; indent it less" });
    }
    let mut laid_out = once(&source, &before)?;
    for _ in 0..MAX_PASSES {
        let after = reading::read(&laid_out).map_err(|refusal| changed(&format!("the notation ({refusal})")))?;
        before.compare(&after).map_err(|what| changed(&what))?;
        let again = once(&laid_out, &after)?;
        if again == laid_out {
            return Ok(laid_out);
        }
        laid_out = again;
    }
    Err(changed("the layout again and again"))
}

fn changed(what: &str) -> Refusal {
    Refusal::WouldChange { what: what.to_owned() }
}

/// One pass.
fn once(text: &str, reading: &Reading) -> Result<String, Refusal> {
    let (mut lean, blocks) = blocks::take_out(text, reading)?;
    if lean.trim().is_empty() {
        return Ok(String::new());
    }
    if !lean.ends_with('\n') {
        lean.push('\n');
    }
    let options = FormatOptions {
        layout: LayoutOptions { print_width: WIDTH, indent_width: 2, ..LayoutOptions::default() },
        language: LanguageOptions {
            trailing_comma: false,
            brace_spacing: false,
            // A name that nobody writes by chance: there is no way to switch the layout off.
            ignore_comment_directive: "fleetctl fmt: leave the next value".to_owned(),
            ..LanguageOptions::default()
        },
    };
    // The library does not promise to take any text without a panic, and rare ones give it one.
    let laid_out = catch_unwind(|| pretty_yaml::format_text(&lean, &options).map_err(|error| error.to_string()))
        .unwrap_or_else(|_| Err("the library that lays out stumbles over it".to_owned()))
        .map_err(|why| Refusal::WouldChange { what: format!("a notation that is not known here ({why})") })?;
    blocks::put_back(&laid_out, &blocks)
}

/// Whether a text is YAML that can be read, without laying it out.
///
/// # Errors
/// [`Refusal::TooLarge`] or [`Refusal::Unreadable`].
pub fn check(text: &str) -> Result<(), Refusal> {
    if text.len() > MAX_BYTES {
        return Err(Refusal::TooLarge { bytes: text.len() });
    }
    reading::read(text.strip_prefix('\u{feff}').unwrap_or(text)).map(drop)
}
