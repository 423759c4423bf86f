//! Unit files as systemd reads them: sections, keys that may repeat, continued lines, comments.

use std::borrow::Cow;
use std::ops::Range;

use super::content::Neutral;

/// Said of the first such line alone: a missing section is one mistake.
const BEFORE_SECTIONS: &str = "the line stands before the first `[Section]`";

/// A unit file.
#[derive(Debug, Default)]
pub(super) struct Unit<'a> {
    pub(super) sections: Vec<Section<'a>>,
    /// Lines that are nothing: their bytes, and why.
    pub(super) faults: Vec<(Range<usize>, &'static str)>,
    /// A line is a placeholder that may become anything.
    pub(super) is_open: bool,
}

/// One `[Section]`; a name may come again.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) span: Range<usize>,
    pub(super) entries: Vec<Assignment<'a>>,
}

/// `Key=value`.
#[derive(Debug)]
pub(super) struct Assignment<'a> {
    pub(super) key: &'a str,
    /// Continued lines are joined with a space each.
    pub(super) value: Cow<'a, str>,
    /// The value on its first line.
    pub(super) span: Range<usize>,
    /// A placeholder is in key or value.
    pub(super) is_touched: bool,
}

/// Reads a unit file. Lines that only placeholders can explain are no faults.
pub(super) fn parse<'a>(source: &Neutral<'a>) -> Unit<'a> {
    let mut unit = Unit::default();
    let mut continued = false;
    let mut at = 0;
    for raw in source.text.split_inclusive('\n') {
        let start = at + (raw.len() - raw.trim_start().len()).min(raw.len());
        at += raw.len();
        let line = raw.trim();
        // Neutral text has the same bytes, so places are those of the original.
        let span = start..start + line.len();
        let (body, goes_on) = match line.strip_suffix('\\') {
            Some(body) => (body.trim_end(), true),
            None => (line, false),
        };
        let is_comment = line.starts_with(['#', ';']);
        if continued {
            if !is_comment {
                let section = unit.sections.last_mut();
                if let Some(entry) = section.and_then(|section| section.entries.last_mut()) {
                    let more = source.original.get(span.start..span.start + body.len()).unwrap_or_default();
                    entry.value = Cow::Owned(format!("{} {more}", entry.value).trim().to_owned());
                    entry.is_touched |= source.is_touched(&span);
                }
                continued = goes_on;
            }
            continue;
        }
        if line.is_empty() || is_comment {
            continue;
        }
        continued = unit.line(source, span, body) && goes_on;
    }
    unit
}

impl<'a> Unit<'a> {
    /// Takes a line; whether it is an assignment.
    fn line(&mut self, source: &Neutral<'a>, span: Range<usize>, body: &str) -> bool {
        let is_touched = source.is_touched(&span);
        let original = |part: Range<usize>| source.original.get(part).unwrap_or_default();
        if let Some(name) = body.strip_prefix('[') {
            match name.strip_suffix(']').filter(|name| !name.is_empty()) {
                Some(name) => {
                    let name = original(span.start + 1..span.start + 1 + name.len());
                    self.sections.push(Section { name, span, entries: Vec::new() });
                }
                None if !is_touched => self.faults.push((span, "the section is never closed by `]`, or has no name")),
                None => self.is_open = true,
            }
            return false;
        }
        let Some((key, value)) = body.split_once('=') else {
            self.is_open |= is_touched;
            if !is_touched {
                self.faults.push((span, "the line is neither a `[Section]`, nor `Key=value`, nor a comment"));
            }
            return false;
        };
        let key_text = key.trim_end();
        if (key_text.is_empty() || key_text.contains(char::is_whitespace)) && !is_touched {
            self.faults.push((span, "the key before `=` is empty or has white space in it"));
            return false;
        }
        let Some(section) = self.sections.last_mut() else {
            if !is_touched && !self.faults.iter().any(|(_, message)| *message == BEFORE_SECTIONS) {
                self.faults.push((span, BEFORE_SECTIONS));
            }
            return false;
        };
        let lead = value.len() - value.trim_start().len();
        let start = span.start + key.len() + 1 + lead;
        let place = start..start + value.trim().len();
        section.entries.push(Assignment {
            key: original(span.start..span.start + key_text.len()),
            value: Cow::Borrowed(original(place.clone())),
            span: if place.is_empty() { span } else { place },
            is_touched,
        });
        true
    }

    /// All assignments of a key in the sections of this name. An empty value takes back those before it.
    pub(super) fn values(&self, section: &str, key: &str) -> Vec<&Assignment<'a>> {
        let mut found = Vec::new();
        let sections = self.sections.iter().filter(|s| s.name == section);
        for entry in sections.flat_map(|section| &section.entries).filter(|entry| entry.key == key) {
            if entry.value.is_empty() && !entry.is_touched {
                found.clear();
            } else {
                found.push(entry);
            }
        }
        found
    }
}
