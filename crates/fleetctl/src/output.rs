//! What results look like: tables, JSON, YAML, and text that cannot take over a terminal.

use std::io::IsTerminal as _;

use anstyle::Style;
use comfy_table::{ContentArrangement, Table, presets};

use crate::cli::ColorWhen;

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

    /// The process's standard output. `NO_COLOR`, `CLICOLOR_FORCE` and `TERM=dumb` are heeded, in this order.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let is_terminal = stdout.is_terminal();
        let color = wants_color(is_terminal, |name| std::env::var_os(name));
        if !is_terminal {
            return Self { color, width: None };
        }
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        Self { color, width: width.filter(|width| *width >= 20) }
    }

    /// The same with what `--color` says.
    pub(crate) fn with_color(self, when: ColorWhen) -> Self {
        let color = match when {
            ColorWhen::Auto => self.color,
            ColorWhen::Always => true,
            ColorWhen::Never => false,
        };
        Self { color, ..self }
    }

    /// Text in a style, where colours may be used.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// Whether the environment wants colours: <https://no-color.org>, <https://bixense.com/clicolors>.
fn wants_color(is_terminal: bool, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    if is_set("NO_COLOR") {
        return false;
    }
    if variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") {
        return true;
    }
    is_terminal
        && variable("TERM").is_none_or(|term| term != "dumb")
        && variable("CLICOLOR").is_none_or(|value| value != "0")
}

/// Text without control characters: what devices and repositories say cannot drive the terminal. Line feeds stay.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The same on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
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
    fn colours_are_used_where_the_environment_wants_them() {
        for (is_terminal, variables, expected) in [
            (true, &[][..], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (true, &[("TERM", "dumb")], false),
            (true, &[("CLICOLOR", "0")], false),
        ] {
            let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
            assert_eq!(wants_color(is_terminal, get), expected, "{variables:?}");
        }
        assert!(Terminal::PLAIN.with_color(ColorWhen::Always).color);
    }

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
