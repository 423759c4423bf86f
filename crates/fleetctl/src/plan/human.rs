//! A plan for people at a terminal.

use std::io;

use super::detail::{Detail, Part, VARIES};
use super::signatures::{MERGES, Signatures};
use super::text::{count, line, thousands, visible, wrap};
use super::{Report, words};
use crate::Io;

/// How wide lines are where nobody knows.
const WIDTH: usize = 160;
/// So many names of a group are shown.
const MAX_NAMES: usize = 6;
/// So many lines of one difference are shown.
const MAX_LINES: usize = 200;
/// So many objects are listed.
const MAX_OBJECTS: usize = 100;

/// Colours, when there are some.
#[derive(Debug, Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

struct Page<'a, 'io> {
    io: &'a mut Io<'io>,
    width: usize,
}

pub(super) fn write(report: &Report, io: &mut Io<'_>) -> io::Result<()> {
    let width = io.terminal.width.unwrap_or(WIDTH);
    let mut page = Page { io, width };
    let plan = &report.plan;
    let title = format!("Plan: {} → {}", report.range.base, report.range.head_name());
    page.put(Ink::Bold, "", &title)?;
    page.plain("  ", &words::objects(&plan.summary.objects))?;
    page.plain("  ", &words::devices(&plan.summary.devices))?;
    page.put(Ink::Dim, "  ", &words::inventory(report))?;
    for remark in &report.remarks {
        page.sentence(Some(Ink::Yellow), "  note: ", remark)?;
    }
    page.objects(report)?;
    for (group, detail) in plan.groups.iter().zip(&report.details) {
        page.gap()?;
        let devices = count(group.devices.len(), "device");
        let same = if group.devices.len() == 1 { "changes" } else { "change the same way" };
        page.put(
            Ink::Bold,
            "",
            &format!("{devices} {same}: {}", report.names.list(&group.devices, MAX_NAMES, str::to_owned)),
        )?;
        let causes: Vec<String> = group.causes.iter().map(|cause| words::cause(cause, str::to_owned)).collect();
        page.plain("  owner: ", &words::owner(group))?;
        page.sentence(None, "  why:   ", &causes.join("; "))?;
        if let Some(unknown) = words::unknown(group) {
            page.put(Ink::Yellow, "  note:  ", unknown)?;
        }
        if let Some(os) = &group.os {
            let side = |text: &Option<String>| text.as_deref().unwrap_or("none").to_owned();
            let varies = if os.varies { format!("  ({VARIES})") } else { String::new() };
            page.plain("  os:    ", &format!("{} → {}{varies}", side(&os.before), side(&os.after)))?;
        }
        page.detail(detail)?;
    }
    let more = plan.groups.len() - report.details.len();
    if more > 0 {
        page.gap()?;
        page.put(Ink::Dim, "", &format!("{} not shown; --max shows more", count(more, "more group")))?;
    }
    page.others(report)?;
    page.limits(report)?;
    page.signatures(&report.signatures)?;
    page.gap()?;
    page.put(Ink::Dim, "digest: ", &plan.digest.to_string())
}

impl Page<'_, '_> {
    fn gap(&mut self) -> io::Result<()> {
        writeln!(self.io.out)
    }

    fn plain(&mut self, before: &str, text: &str) -> io::Result<()> {
        let left = self.width.saturating_sub(before.chars().count()).max(20);
        writeln!(self.io.out, "{before}{}", line(text, left))
    }

    fn put(&mut self, ink: Ink, before: &str, text: &str) -> io::Result<()> {
        let left = self.width.saturating_sub(before.chars().count()).max(20);
        self.inked(Some(ink), before, &line(text, left))
    }

    fn inked(&mut self, ink: Option<Ink>, before: &str, text: &str) -> io::Result<()> {
        let code = match ink.filter(|_| self.io.terminal.color) {
            None => return writeln!(self.io.out, "{before}{text}"),
            Some(Ink::Bold) => 1,
            Some(Ink::Dim) => 2,
            Some(Ink::Red) => 31,
            Some(Ink::Green) => 32,
            Some(Ink::Yellow) => 33,
            Some(Ink::Cyan) => 36,
        };
        writeln!(self.io.out, "{before}\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A sentence that is too important to be cut.
    fn sentence(&mut self, ink: Option<Ink>, before: &str, text: &str) -> io::Result<()> {
        let indent = " ".repeat(before.chars().count());
        for (at, text) in wrap(text, self.width.saturating_sub(indent.len()).max(20)).iter().enumerate() {
            self.inked(ink, if at == 0 { before } else { &indent }, text)?;
        }
        Ok(())
    }

    fn objects(&mut self, report: &Report) -> io::Result<()> {
        let objects = &report.plan.objects;
        if objects.is_empty() {
            return Ok(());
        }
        self.gap()?;
        self.put(Ink::Bold, "", "Objects")?;
        for object in objects.iter().take(MAX_OBJECTS) {
            let was = object.previous.as_ref().map(|place| format!(" (was {}:{})", place.file, place.line));
            let text = format!(
                "{} {} {}  {}:{}{}",
                words::sign(object.change),
                object.kind,
                object.name,
                object.file,
                object.line,
                was.unwrap_or_default()
            );
            self.plain("  ", &text)?;
        }
        if objects.len() > MAX_OBJECTS {
            self.plain("  ", &format!("… and {} more", thousands(objects.len() - MAX_OBJECTS)))?;
        }
        Ok(())
    }

    fn detail(&mut self, detail: &Detail) -> io::Result<()> {
        let kinds = [("", &detail.files), ("application ", &detail.applications), ("", &detail.others)];
        for (kind, part) in kinds.iter().flat_map(|(kind, parts)| parts.iter().map(move |part| (kind, part))) {
            self.part(kind, part)?;
        }
        Ok(())
    }

    fn part(&mut self, kind: &str, part: &Part) -> io::Result<()> {
        let note = part.note.as_ref().map(|note| format!("  ({note})")).unwrap_or_default();
        let ink = match part.sign {
            '+' => Ink::Green,
            '-' => Ink::Red,
            _ => Ink::Yellow,
        };
        self.put(ink, "  ", &format!("{} {kind}{}{note}", part.sign, part.name))?;
        let text = visible(&part.diff);
        let lines = text.lines().count();
        for text in text.lines().take(MAX_LINES) {
            // Tabs would count as one character.
            let text = text.replace('\t', "    ");
            match text.as_bytes().first() {
                Some(b'+') => self.put(Ink::Green, "      ", &text)?,
                Some(b'-') => self.put(Ink::Red, "      ", &text)?,
                Some(b'@') => self.put(Ink::Cyan, "      ", &text)?,
                Some(_) | None => self.plain("      ", &text)?,
            }
        }
        if lines > MAX_LINES {
            self.put(Ink::Dim, "      ", &format!("… {} more lines", thousands(lines - MAX_LINES)))?;
        }
        Ok(())
    }

    /// Devices that get nothing new, for whatever reason.
    fn others(&mut self, report: &Report) -> io::Result<()> {
        let plan = &report.plan;
        let list = |devices: &[String]| report.names.list(devices, MAX_NAMES, str::to_owned);
        for waiting in &plan.waiting {
            self.gap()?;
            self.put(Ink::Yellow, "", &format!("{}: {}", words::waits(waiting), list(&waiting.devices)))?;
            self.sentence(None, "  ", &waiting.reason)?;
        }
        let unmanaged = plan.unmanaged.iter().map(|one| (Ink::Red, &one.devices, words::loses(one, str::to_owned)));
        let moved = plan.reassigned.iter().map(|one| (Ink::Cyan, &one.devices, words::reassigned(one, str::to_owned)));
        for (ink, devices, sentence) in unmanaged.chain(moved) {
            self.gap()?;
            self.put(ink, "", &format!("{}: {}", count(devices.len(), "device"), list(devices)))?;
            self.sentence(None, "  ", &sentence)?;
        }
        Ok(())
    }

    fn limits(&mut self, report: &Report) -> io::Result<()> {
        self.gap()?;
        self.put(Ink::Bold, "", "Limits")?;
        for one in &report.measured {
            let text = format!(
                "{}: {} of {}, allowed: {}",
                one.what,
                thousands(one.count),
                thousands(one.total),
                words::allowed(one, report)
            );
            self.plain("  ", &text)?;
        }
        for exceeded in &report.exceeded {
            let sentence = format!("the change would have to wait for a person: it {}", exceeded.sentence);
            self.sentence(Some(Ink::Red), "  ", &sentence)?;
        }
        Ok(())
    }

    fn signatures(&mut self, signatures: &Signatures) -> io::Result<()> {
        let judged = match signatures {
            Signatures::NotAsked => return Ok(()),
            Signatures::NotJudged(why) => {
                self.gap()?;
                self.put(Ink::Bold, "", "Signatures")?;
                return self.sentence(Some(Ink::Yellow), "  ", &format!("not judged: {why}"));
            }
            Signatures::Judged(judged) => judged,
        };
        self.gap()?;
        self.put(Ink::Bold, "", "Signatures")?;
        let ink = if signatures.hold() { Ink::Red } else { Ink::Green };
        self.sentence(Some(ink), "  ", &judged.summary())?;
        for (code, sentence) in judged.held() {
            self.sentence(None, &format!("  {code}: "), sentence)?;
        }
        for fix in judged.fix() {
            self.sentence(None, "  fix: ", fix)?;
        }
        for remark in judged.remarks.iter().map(String::as_str).chain([MERGES]) {
            self.sentence(Some(Ink::Dim), "  note: ", remark)?;
        }
        Ok(())
    }
}
