//! The text of a file by lines, to show places of and to know them again.

/// A file's text.
#[derive(Debug)]
pub(super) struct Source {
    text: std::sync::Arc<str>,
    /// Where each line starts, in bytes.
    starts: Vec<usize>,
}

/// A place on one line: the line without its end, and the marked bytes in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt<'a> {
    pub(super) line: &'a str,
    pub(super) begin: usize,
    pub(super) end: usize,
}

impl Source {
    pub(super) fn new(text: std::sync::Arc<str>) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The line with this number, from 1, without its end. The last one when there are fewer.
    pub(super) fn line(&self, number: u32) -> &str {
        let last = self.starts.len() - 1;
        let at = usize::try_from(number.max(1)).map_or(last, |number| (number - 1).min(last));
        let end = self.starts.get(at + 1).map_or(self.text.len(), |next| next - 1);
        let line = &self.text[self.starts[at]..end];
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// What a diagnostic is about, as far as it lies on its first line: a whole mapping marked would hide the place.
    pub(super) fn excerpt(&self, place: &fleet_model::Diagnostic) -> Excerpt<'_> {
        let line = self.line(place.line);
        let begin = offset(line, place.column);
        let end = if place.end_line > place.line { line.trim_end().len() } else { offset(line, place.end_column) };
        Excerpt { line, begin, end: end.max(begin) }
    }
}

/// The byte at a column, from 1, in characters; the end of the line when it is shorter.
fn offset(line: &str, column: u32) -> usize {
    let column = usize::try_from(column.max(1)).unwrap_or(usize::MAX) - 1;
    line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_places_outside_are_the_last() {
        assert_eq!(offset("é=x", 3), 3);
        assert_eq!(offset("ab", 99), 2);
        let source = Source::new("é=x\r\nab\n".into());
        assert_eq!((source.line(1), source.line(2), source.line(3), source.line(99)), ("é=x", "ab", "", ""));
        assert_eq!(Source::new("".into()).line(7), "");
    }
}
