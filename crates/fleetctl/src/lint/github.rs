//! Workflow commands, which GitHub Actions shows as annotations in a pull request.
//!
//! `::error file=…,line=…,title=…::message`. In a message `%`, carriage return and line feed are escaped, in properties
//! also `:` and `,`. Columns may be given only when first and last line are the same; GitHub's last column is inclusive.

use std::io;

use fleet_model::Severity;

use super::report::Report;
use crate::Io;
use crate::output::printable;

pub(super) fn write(report: &Report, verdict: &str, io: &mut Io<'_>) -> io::Result<()> {
    for finding in &report.findings {
        let diagnostic = &finding.diagnostic;
        let command = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut message = diagnostic.message.clone();
        if let Some(hint) = &diagnostic.hint {
            message.push_str("\nhelp: ");
            message.push_str(hint);
        }
        let (first, last) = (diagnostic.line, diagnostic.end_line.max(diagnostic.line));
        let columns = if first == last {
            let column = diagnostic.column;
            format!(",col={column},endLine={last},endColumn={}", diagnostic.end_column.saturating_sub(1).max(column))
        } else {
            format!(",endLine={last}")
        };
        let file = property(&finding.artifact);
        writeln!(
            io.out,
            "::{command} file={file},line={first}{columns},title={}::{}",
            diagnostic.code,
            data(&message)
        )?;
    }
    // A line that is no command is text of the log.
    writeln!(io.out, "{verdict}")
}

fn data(text: &str) -> String {
    printable(&text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A"))
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_or_name_can_start_a_command_of_its_own() {
        assert_eq!(data("50%\r\n::error::x\u{1b}[0m"), "50%25%0D%0A::error::x\u{fffd}[0m");
        assert_eq!(property("a,b::c%\n.yaml"), "a%2Cb%3A%3Ac%25%0A.yaml");
    }
}
