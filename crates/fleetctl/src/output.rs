//! What results look like: tables, JSON, YAML, and text that cannot take over a terminal.

use std::io::IsTerminal as _;

use comfy_table::{ContentArrangement, Table, presets};

/// What results are shown on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Whether colours may be used.
    pub color: bool,
    /// How wide it is, in characters; `None` for files and pipes.
    pub width: Option<usize>,
}

impl Terminal {
    /// A file or pipe: no colours, no width.
    pub const PLAIN: Self = Self { color: false, width: None };

    /// The process's standard output. `NO_COLOR` is respected.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self::PLAIN;
        }
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        Self { color: wanted, width: width.filter(|width| *width >= 20) }
    }
}

/// Text without control characters: what devices and repositories say cannot drive the terminal. Line feeds stay.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The same on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A table without lines; columns two spaces apart.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { one_line(cell) }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_get_through() {
        let text = table(
            &["A", "LONG"],
            vec![vec!["x\u{1b}[31m".to_owned(), String::new()], vec!["yyy".to_owned(), "z\nz".to_owned()]],
        );
        assert_eq!(text, "A       LONG\nx [31m  -\nyyy     z z\n");
        assert_eq!(printable("a\u{7}b\nc"), "a\u{fffd}b\nc");
    }
}
