//! Where placeholders stand in a text: for looking at the text around them, without parsing what is in them.

use std::ops::Range;

/// One `{{ … }}` in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// Its bytes with both pairs of braces. On character boundaries.
    pub span: Range<usize>,
    /// Leaves nothing itself: `if`, `with`, `else`, `end`, or a comment.
    pub is_silent: bool,
    /// Decides whether other text stays: `if`, `with`, `else`, `end`.
    pub is_control: bool,
}

/// All placeholders of `text`, in order. One that is never closed reaches to the end.
///
/// Quotes are honoured: `{{ "}}" }}` is one placeholder. What is inside may still be no valid expression:
/// [`Template::parse`](crate::Template::parse) knows.
pub fn placeholders(text: &str) -> Vec<Placeholder> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = text[at..].find("{{") {
        let start = at + offset;
        let inner = text[start + 2..].trim_start_matches('-').trim_start();
        let is_comment = inner.starts_with("/*");
        let end = if is_comment { end_of_comment(text, start + 2) } else { end_of_action(text, start + 2) };
        let word: &str = inner.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        let is_control = !is_comment && matches!(word, "if" | "with" | "else" | "end" | "range" | "define" | "block");
        found.push(Placeholder { span: start..end, is_silent: is_control || is_comment, is_control });
        at = end;
    }
    found
}

fn end_of_comment(text: &str, from: usize) -> usize {
    let Some(closed) = text[from..].find("*/").map(|offset| from + offset + 2) else { return text.len() };
    text[closed..].find("}}").map_or(text.len(), |offset| closed + offset + 2)
}

fn end_of_action(text: &str, from: usize) -> usize {
    let mut quote = None;
    let mut skip = false;
    for (offset, c) in text[from..].char_indices() {
        if std::mem::take(&mut skip) {
            continue;
        }
        match (quote, c) {
            (Some('"'), '\\') | (Some('\''), '\\') => skip = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`' | '\'') => quote = Some(c),
            (None, '}') if text[from + offset..].starts_with("}}") => return from + offset + 2,
            (None, _) => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(text: &str) -> Vec<(&str, bool)> {
        placeholders(text).into_iter().map(|p| (&text[p.span], p.is_silent)).collect()
    }

    #[test]
    fn a_placeholder_ends_at_its_own_braces() {
        assert_eq!(texts("a {{ .x }}b{{y}}"), [("{{ .x }}", false), ("{{y}}", false)]);
        assert_eq!(texts(r#"{{ "}}" }} {{ "\"}}" }}"#), [(r#"{{ "}}" }}"#, false), (r#"{{ "\"}}" }}"#, false)]);
        assert_eq!(
            texts("{{/* }} */}}x{{- if .a -}}y{{ end }}"),
            [("{{/* }} */}}", true), ("{{- if .a -}}", true), ("{{ end }}", true)]
        );
        assert_eq!(texts("{{ ifx }}"), [("{{ ifx }}", false)]);
        assert_eq!(texts("a {{ never closed"), [("{{ never closed", false)]);
        assert_eq!(texts("}} { {"), []);
    }

    proptest! {
        #[test]
        fn any_text_splits_on_character_boundaries(text in r#"([{}"'`\\/*\-aä\n ]|\{\{|\}\}|if|end){0,40}"#) {
            let mut last = 0;
            for placeholder in placeholders(&text) {
                prop_assert!(placeholder.span.start >= last);
                prop_assert!(text[placeholder.span.clone()].starts_with("{{"));
                last = placeholder.span.end;
            }
        }
    }
}
