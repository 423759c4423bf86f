//! A plan as a comment of a pull request: GitHub and GitLab Markdown, never longer than asked for.
//!
//! Nothing that comes from a repository is Markdown here: names and sentences stand in code, contents in fences that
//! are longer than any inside. So nobody is mentioned, nothing is linked, and nothing breaks out.

use fleet_render::plan::Group;

use super::detail::{Detail, Part, VARIES};
use super::names::Names;
use super::signatures::{MERGES, Signatures};
use super::text::{count, line, thousands, visible};
use super::{Report, words};

/// The hidden text that a later comment finds its forerunner by.
const MARK: &str = "fleetctl-plan";
/// So much of the source's path is part of it.
const MAX_MARK: usize = 200;
/// So many objects are listed.
const MAX_OBJECTS: usize = 40;
/// So many names of a group are shown.
const MAX_NAMES: usize = 8;
/// So many sets of devices that get nothing new are shown, of each kind.
const MAX_SETS: usize = 10;
/// So many bytes of one difference are shown: the most that fits, from all that people read to none.
const DIFF_BYTES: [usize; 4] = [12_000, 3_000, 800, 0];
/// So many parts of a group are shown.
const MAX_PARTS: usize = 60;
/// What is kept free for the last lines.
const RESERVE: usize = 300;

/// The comment, of at most `most_bytes`.
pub(super) fn comment(report: &Report, most_bytes: usize) -> String {
    let mut out = Capped { text: String::new(), most: most_bytes.saturating_sub(RESERVE), cut: false };
    out.add(&head(report));
    out.add(&limits(report));
    out.add(&signatures(&report.signatures));
    out.add(&objects(report));
    out.add(&still(report));
    let mut shown = 0;
    for (group, detail) in report.plan.groups.iter().zip(&report.details) {
        let text =
            |most| format!("{}{}\n</details>\n", group_head(group, &report.names), group_body(group, detail, most));
        // Of a group that is too long less of its differences is shown, in the end none.
        let fitting = DIFF_BYTES.into_iter().map(text).find(|text| out.fits(text));
        if !fitting.is_some_and(|text| out.add(&text)) {
            out.cut = true;
            break;
        }
        shown += 1;
    }
    let Capped { mut text, cut, .. } = out;
    let hidden = report.plan.groups.len() - shown;
    if hidden > 0 {
        text.push_str(&format!("\n{} not shown; `fleetctl plan` shows all.\n", count(hidden, "more group")));
    } else if cut {
        text.push_str("\nNot everything is shown; `fleetctl plan` shows all.\n");
    }
    text.push_str(&format!("\n<sub>Plan {}</sub>\n", code(&report.plan.digest.to_string())));
    text
}

/// Text that does not grow above a limit.
struct Capped {
    text: String,
    most: usize,
    cut: bool,
}

impl Capped {
    fn fits(&self, more: &str) -> bool {
        self.text.len() + more.len() <= self.most
    }

    /// Takes all or nothing.
    fn add(&mut self, more: &str) -> bool {
        let fits = self.fits(more);
        if fits {
            self.text.push_str(more)
        } else {
            self.cut = true
        }
        fits
    }
}

/// Text from outside as inline code; also fit for a table. Not longer than 200 characters.
fn code(text: &str) -> String {
    code_of(text, 200)
}

/// The same for a sentence, which ends with what to do.
fn sentence(text: &str) -> String {
    code_of(text, 700)
}

fn code_of(text: &str, most: usize) -> String {
    let text = line(text, most);
    if text.trim().is_empty() {
        return "` `".to_owned();
    }
    let fence = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{pad}{}{pad}{fence}", text.replace('|', "¦"))
}

/// The same inside HTML, where Markdown is not read.
fn html_code(text: &str) -> String {
    let text = line(text, 200);
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('`', "&#96;");
    format!("<code>{}</code>", escaped.replace('*', "&#42;").replace('_', "&#95;").replace('|', "&#124;"))
}

fn longest_run(text: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for character in text.chars() {
        run = if character == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

fn fenced(language: &str, content: &str) -> String {
    let content = visible(content);
    let fence = "`".repeat(longest_run(&content).max(2) + 1);
    let end = if content.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{language}\n{content}{end}{fence}\n")
}

fn head(report: &Report) -> String {
    let path = report.path.as_deref().unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_');
    let plain: String = path.chars().filter(is_plain).take(MAX_MARK).collect();
    let mark = if plain.is_empty() { MARK.to_owned() } else { format!("{MARK} {plain}") };
    let place = if path.is_empty() { String::new() } else { format!(" of {}", code(path)) };
    let mut text = format!("<!-- {mark} -->\n## Fleet plan{place}\n\n");
    let (objects, devices) = (&report.plan.summary.objects, &report.plan.summary.devices);
    text.push_str(&format!("**{}; {}.**\n\n", words::devices(devices), words::objects(objects)));
    let (base, head) = (code(&report.range.base.to_string()), code(&report.range.head_name()));
    text.push_str(&format!("{base} → {head} · {}\n", words::inventory(report)));
    for remark in report.remarks.iter().take(5) {
        text.push_str(&format!("\n> {}\n", sentence(remark)));
    }
    text
}

fn limits(report: &Report) -> String {
    let mut text = String::new();
    for exceeded in &report.exceeded {
        text.push_str(&format!(
            "\n> **Too much for a commit that nobody approves:** it {}\n",
            sentence(&exceeded.sentence)
        ));
    }
    text.push_str("\n| reach | this change | of | allowed |\n|---|---:|---:|---:|\n");
    for one in &report.measured {
        let (number, total) = (thousands(one.count), thousands(one.total));
        text.push_str(&format!("| {} | {number} | {total} | {} |\n", one.what, words::allowed(one, report)));
    }
    text
}

fn signatures(signatures: &Signatures) -> String {
    let judged = match signatures {
        Signatures::NotAsked => return String::new(),
        Signatures::NotJudged(why) => return format!("\n> Signatures are not judged: {}\n", sentence(why)),
        Signatures::Judged(judged) => judged,
    };
    let mut text = format!("\n### Signatures\n\n{}\n", sentence(&judged.summary()));
    let held: Vec<String> =
        judged.held().map(|(word, reason)| format!("- **{word}**: {}\n", sentence(reason))).collect();
    let fixes: Vec<String> = judged.fix().iter().map(|fix| format!("- {}\n", sentence(fix))).collect();
    if !held.is_empty() {
        text.push_str(&format!("\n{}\nFix:\n\n{}", held.concat(), fixes.concat()));
    }
    for remark in &judged.remarks {
        text.push_str(&format!("\n> {}\n", sentence(remark)));
    }
    text.push_str(&format!("\n<sub>Note: {MERGES}.</sub>\n"));
    text
}

fn objects(report: &Report) -> String {
    let objects = &report.plan.objects;
    if objects.is_empty() {
        return String::new();
    }
    let mut text = "\n| | object | file |\n|---|---|---|\n".to_owned();
    for object in objects.iter().take(MAX_OBJECTS) {
        let place = format!("{}:{}", object.file, object.line);
        let was = object.previous.as_ref().map(|was| format!(", was {}", code(&format!("{}:{}", was.file, was.line))));
        let name = code(&format!("{}/{}", object.kind, object.name));
        let change = match words::sign(object.change) {
            "+" => "added",
            "-" => "removed",
            ">" => "moved",
            _ => "changed",
        };
        text.push_str(&format!("| {change} | {name} | {}{} |\n", code(&place), was.unwrap_or_default()));
    }
    if objects.len() > MAX_OBJECTS {
        text.push_str(&format!("| | {} more | |\n", thousands(objects.len() - MAX_OBJECTS)));
    }
    text
}

/// Devices that get nothing new.
fn still(report: &Report) -> String {
    let plan = &report.plan;
    let list = |devices: &[String]| report.names.list(devices, MAX_NAMES, code);
    let mut lines = Vec::new();
    for waiting in plan.waiting.iter().take(MAX_SETS) {
        let who = list(&waiting.devices);
        lines.push(format!("- **{}**: {who}. {}", words::waits(waiting), sentence(&waiting.reason)));
    }
    let unmanaged = plan.unmanaged.iter().take(MAX_SETS).map(|one| (&one.devices, words::loses(one, code)));
    let moved = plan.reassigned.iter().take(MAX_SETS).map(|one| (&one.devices, words::reassigned(one, code)));
    for (devices, sentence) in unmanaged.chain(moved) {
        lines.push(format!("- **{}**: {}: {sentence}", count(devices.len(), "device"), list(devices)));
    }
    let hidden: usize = [plan.waiting.len(), plan.unmanaged.len(), plan.reassigned.len()]
        .map(|sets| sets.saturating_sub(MAX_SETS))
        .iter()
        .sum();
    if hidden > 0 {
        lines.push(format!("- {} not shown", count(hidden, "more set")));
    }
    if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join("\n")) }
}

fn group_head(group: &Group, names: &Names) -> String {
    let devices = count(group.devices.len(), "device");
    let same = if group.devices.len() == 1 { "" } else { ", same change" };
    let who = names.list(&group.devices, MAX_NAMES, html_code);
    format!("\n<details><summary><b>{devices}{same}</b> ({}): {who}</summary>\n\n", html_code(&words::owner(group)))
}

fn group_body(group: &Group, detail: &Detail, most: usize) -> String {
    let causes: Vec<String> = group.causes.iter().take(10).map(|cause| words::cause(cause, code)).collect();
    let mut text = format!("Why: {}\n", causes.join("; "));
    if let Some(unknown) = words::unknown(group) {
        text.push_str(&format!("\nNote: {unknown}.\n"));
    }
    if let Some(os) = &group.os {
        let side = |image: &Option<String>| image.as_deref().map_or_else(|| "none".to_owned(), code);
        let varies = if os.varies { format!(" ({VARIES})") } else { String::new() };
        text.push_str(&format!("\nOperating system: {} → {}{varies}\n", side(&os.before), side(&os.after)));
    }
    let kinds = [("", &detail.files), ("application ", &detail.applications), ("", &detail.others)];
    let parts: Vec<(&str, &Part)> =
        kinds.iter().flat_map(|(kind, parts)| parts.iter().map(|part| (*kind, part))).collect();
    for (kind, part) in parts.iter().take(MAX_PARTS) {
        let what = match part.sign {
            '+' => "Added",
            '-' => "Removed",
            _ => "Changed",
        };
        let note = part.note.as_deref().map(|note| format!(" ({})", code(note))).unwrap_or_default();
        text.push_str(&format!("\n{what} {kind}{}{note}\n", code(&part.name)));
        if most > 0 && !part.diff.is_empty() {
            text.push_str(&format!("\n{}", fenced("diff", &cut(&part.diff, most))));
        }
    }
    if parts.len() > MAX_PARTS {
        text.push_str(&format!("\n{} not shown\n", count(parts.len() - MAX_PARTS, "more change")));
    }
    if most == 0 && parts.iter().any(|(_, part)| !part.diff.is_empty()) {
        text.push_str("\nThe differences are too long for a comment; `fleetctl plan` shows them.\n");
    }
    text
}

/// The beginning of a difference, whole lines.
fn cut(diff: &str, most: usize) -> String {
    if diff.len() <= most {
        return diff.to_owned();
    }
    let mut end = 0;
    for (at, _) in diff.match_indices('\n').take_while(|(at, _)| *at < most) {
        end = at + 1;
    }
    let more = diff[end..].lines().count();
    format!("{}… {} more lines\n", &diff[..end], thousands(more))
}
