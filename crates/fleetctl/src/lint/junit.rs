//! A JUnit report: a suite per file. An error is a failure; a warning is one with `--strict` and else a passed test that
//! says so; what a comment suppresses is skipped. A file without findings is one passed test.
//!
//! Readers tell tests apart by `classname` and `name`, so names have the place.

use std::collections::BTreeMap;
use std::io::{self, Write};

use fleet_lint::codes;
use fleet_model::Severity;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::report::{Finding, Report};
use crate::Io;

/// How a test of the report ended.
#[derive(Clone, Copy)]
enum Result<'r> {
    Failed(&'r Finding),
    Warned(&'r Finding),
    Skipped(&'r Finding, &'r str),
}

pub(super) fn write(report: &Report, strict: bool, io: &mut Io<'_>) -> io::Result<()> {
    let mut suites: BTreeMap<&str, Vec<Result<'_>>> = report.files.iter().map(|f| (f.as_str(), Vec::new())).collect();
    for finding in &report.findings {
        let result = match finding.diagnostic.severity {
            Severity::Warning if !strict => Result::Warned(finding),
            Severity::Warning | Severity::Error => Result::Failed(finding),
        };
        suites.entry(&finding.artifact).or_default().push(result);
    }
    for one in &report.suppressed {
        suites.entry(&one.finding.artifact).or_default().push(Result::Skipped(&one.finding, &one.reason));
    }
    let mut xml = Writer::new_with_indent(&mut *io.out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all = || suites.values().flatten();
    let tests = suites.values().map(|suite| suite.len().max(1)).sum();
    xml.write_event(Event::Start(counts("testsuites", "fleetctl lint", tests, all())))?;
    for (file, results) in &suites {
        xml.write_event(Event::Start(counts("testsuite", file, results.len().max(1), results.iter())))?;
        if results.is_empty() {
            let test = [("name", "no findings"), ("classname", file), ("file", file)];
            xml.write_event(Event::Empty(element("testcase", &test)))?;
        }
        for result in results {
            test(&mut xml, file, *result)?;
        }
        xml.write_event(Event::End(BytesEnd::new("testsuite")))?;
    }
    xml.write_event(Event::End(BytesEnd::new("testsuites")))?;
    writeln!(xml.into_inner())
}

fn counts<'r>(
    tag: &'static str,
    name: &str,
    tests: usize,
    results: impl Iterator<Item = &'r Result<'r>>,
) -> BytesStart<'static> {
    let (mut failures, mut skipped) = (0, 0);
    for result in results {
        match result {
            Result::Failed(_) => failures += 1,
            Result::Skipped(..) => skipped += 1,
            Result::Warned(_) => {}
        }
    }
    let numbers = [tests, failures, 0, skipped].map(|number: usize| number.to_string());
    let [tests, failures, errors, skipped] = &numbers;
    element(tag, &[("name", name), ("tests", tests), ("failures", failures), ("errors", errors), ("skipped", skipped)])
}

fn test<W: Write>(xml: &mut Writer<W>, file: &str, result: Result<'_>) -> io::Result<()> {
    let (Result::Failed(finding) | Result::Warned(finding) | Result::Skipped(finding, _)) = result;
    let diagnostic = &finding.diagnostic;
    let title = codes::find(&diagnostic.code).map_or("", |code| code.title);
    let name = format!("{}: {title} (line {}, column {})", diagnostic.code, diagnostic.line, diagnostic.column);
    let line = diagnostic.line.to_string();
    let test = [("name", name.as_str()), ("classname", file), ("file", file), ("line", line.as_str())];
    xml.write_event(Event::Start(element("testcase", &test)))?;
    let mut text = diagnostic.to_string();
    if let Some(hint) = &diagnostic.hint {
        text.push_str("\nhelp: ");
        text.push_str(hint);
    }
    let (tag, attributes) = match result {
        Result::Failed(_) => ("failure", vec![("message", diagnostic.message.as_str()), ("type", &diagnostic.code)]),
        Result::Warned(_) => ("system-out", Vec::new()),
        Result::Skipped(_, reason) => ("skipped", vec![("message", reason)]),
    };
    xml.write_event(Event::Start(element(tag, &attributes)))?;
    xml.write_event(Event::Text(BytesText::new(&legal(&text))))?;
    xml.write_event(Event::End(BytesEnd::new(tag)))?;
    xml.write_event(Event::End(BytesEnd::new("testcase")))
}

fn element(tag: &'static str, attributes: &[(&str, &str)]) -> BytesStart<'static> {
    let mut element = BytesStart::new(tag);
    for (key, value) in attributes {
        // Readers take a plain line feed in an attribute for a space.
        let escaped =
            quick_xml::escape::escape(legal(value)).replace('\n', "&#10;").replace('\r', "&#13;").replace('\t', "&#9;");
        element.push_attribute((key.as_bytes(), escaped.as_bytes()));
    }
    element
}

/// Text without the characters that no XML 1.0 document may have, however they are written.
fn legal(text: &str) -> String {
    let is_legal = |c: char| {
        matches!(c, '\t' | '\n' | '\r') || (c >= ' ' && !matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}'))
    };
    text.chars().map(|c| if is_legal(c) { c } else { '\u{fffd}' }).collect()
}
