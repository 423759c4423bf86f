//! The comment on a pull request: Markdown of GitHub, GitLab and Gitea, never longer than a forge takes.
//!
//! Nothing from a repository is Markdown here: names and sentences stand in code that they cannot end. So nobody is mentioned,
//! nothing is linked, and nothing breaks out.

use fleet_forge::MAX_COMMENT_BYTES;
use fleet_model::CommitId;
use fleet_render::plan::Change;

use super::Preview;
use super::signatures::Signatures;
use crate::outbox::sentence;

/// So many findings, objects, groups and names of a group are shown.
const MAX_FINDINGS: usize = 20;
const MAX_OBJECTS: usize = 40;
const MAX_GROUPS: usize = 20;
const MAX_NAMES: usize = 8;
/// So much of one text from outside is shown.
const MAX_TEXT: usize = 300;
/// The same of a sentence that ends with what to do.
const MAX_SENTENCE: usize = 700;
/// So many commits and rules are named.
const MAX_SIGNATURES: usize = 10;

/// Text from outside as inline code.
fn code(text: &str) -> String {
    code_of(text, MAX_TEXT)
}

fn code_of(text: &str, most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() || is_invisible(c) { ' ' } else { c });
    let line: String = plain.take(most).collect();
    let line = line.trim();
    if line.is_empty() {
        return "` `".to_owned();
    }
    let mut longest = 0;
    let mut run = 0;
    for c in line.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{}{pad}{fence}", line.replace('|', "¦"))
}

/// Characters that turn the direction of text or take no space.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `, and 3 more`.
fn more(all: usize, shown: usize) -> String {
    if all > shown { format!("and {} more", all - shown) } else { String::new() }
}

/// The section about signatures.
fn signatures(signatures: &Signatures) -> Vec<String> {
    let mut lines = vec!["\n### Signatures\n".to_owned()];
    let (commits, lacking, fix, landing) = match signatures {
        Signatures::NotJudged(why) => {
            lines.push(format!("Not judged: {}", code(why)));
            return lines;
        }
        Signatures::Judged { commits, lacking, fix, landing } => (*commits, lacking, fix, landing),
    };
    let are =
        if commits == 1 { "The commit of this pull request has" } else { "All commits of this pull request have" };
    match lacking.len() {
        0 => lines.push(format!("{are} every signature that a rule asks for.")),
        1 => lines.push(format!("**1 of {commits} commits lacks a signature that a rule asks for:**\n")),
        many if many > MAX_SIGNATURES => {
            lines.push(format!(
                "**More than {MAX_SIGNATURES} of {commits} commits lack a signature that a rule asks for:**\n"
            ));
        }
        many => lines.push(format!("**{many} of {commits} commits lack a signature that a rule asks for:**\n")),
    }
    let one = |one: &fleet_trust::Violation| format!("- {}: {}", one.kind.code(), code_of(&one.sentence, MAX_SENTENCE));
    lines.extend(lacking.iter().take(MAX_SIGNATURES).map(one));
    if !fix.is_empty() {
        lines.push("\nFix:\n".to_owned());
        lines.extend(fix.iter().map(|fix| format!("- {}", code_of(fix, MAX_SENTENCE))));
    }
    let makes = "\nA merge or squash that the Git host makes is another commit with its own signature, and is judged when it lands";
    if landing.is_empty() {
        lines.push(format!("{makes}; no rule covers it."));
        return lines;
    }
    lines.push(format!("{makes}. It will need a signature under each of these:\n"));
    lines.extend(landing.iter().take(MAX_SIGNATURES).map(|rule| format!("- {}", code(rule))));
    lines.extend(Some(more(landing.len(), MAX_SIGNATURES)).filter(|more| !more.is_empty()));
    lines
}

/// The comment.
pub(super) fn write(mark: &str, source: &str, head: &CommitId, applied: &CommitId, preview: &Preview) -> String {
    let mut lines = vec![mark.to_owned(), format!("## Fleet plan of source {}", code(source)), String::new()];
    lines.push(format!("{} after {}, which is in force.", code(head.short()), code(applied.short())));
    lines.extend(preview.landing.as_ref().map(|told| format!("\n> {}", code_of(told, MAX_SENTENCE))));
    lines.push(String::new());
    match &preview.plan {
        None => lines.push("**This commit would be refused, and change nothing.**".to_owned()),
        Some((plan, holds)) => {
            lines.push(format!("**{}.**", sentence(plan)));
            for hold in holds {
                lines.push(format!("\n> **Too much for a commit that nobody approves:** it {}", code(hold)));
            }
        }
    }
    lines.extend(preview.signatures.iter().flat_map(signatures));
    lines.push(String::new());
    for finding in preview.diagnostics.iter().take(MAX_FINDINGS) {
        lines.push(format!("- {}", code(&finding.to_string())));
    }
    lines.extend(Some(more(preview.diagnostics.len(), MAX_FINDINGS)).filter(|more| !more.is_empty()));
    if let Some((plan, _)) = &preview.plan {
        if !plan.objects.is_empty() {
            lines.push("\n| | object | file |\n|---|---|---|".to_owned());
        }
        for object in plan.objects.iter().take(MAX_OBJECTS) {
            let change = match object.change {
                Change::Added => "added",
                Change::Changed => "changed",
                Change::Removed => "removed",
                Change::Moved => "moved",
            };
            let (name, place) =
                (format!("{}/{}", object.kind, object.name), format!("{}:{}", object.file, object.line));
            lines.push(format!("| {change} | {} | {} |", code(&name), code(&place)));
        }
        let hidden = more(plan.objects.len(), MAX_OBJECTS);
        lines.extend(Some(format!("| | {hidden} | |")).filter(|_| !hidden.is_empty()));
        lines.push(String::new());
        for group in plan.groups.iter().take(MAX_GROUPS) {
            let names: Vec<String> = group.devices.iter().take(MAX_NAMES).map(|name| code(name)).collect();
            let hidden = more(group.devices.len(), MAX_NAMES);
            lines.push(format!("- {} with the same change: {} {hidden}", group.devices.len(), names.join(", ")));
        }
        lines.extend(
            Some(format!("- {} groups", more(plan.groups.len(), MAX_GROUPS))).filter(|line| line != "-  groups"),
        );
        for waiting in plan.waiting.iter().take(MAX_GROUPS) {
            lines.push(format!("- {} wait: {}", waiting.devices.len(), code(&waiting.reason)));
        }
        lines
            .push(format!("\n<sub>Plan {}; `fleetctl plan` shows what differs.</sub>", code(&plan.digest.to_string())));
    }
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() + 1 > MAX_COMMENT_BYTES {
            text.push_str("\nNot everything is shown.\n");
            break;
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_breaks_out_of_its_code() {
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("```"), "```` ``` ````");
        assert_eq!(code("@team\n# x | y"), "`@team # x ¦ y`");
        assert_eq!(code("\u{202e}abc"), "`abc`");
        assert_eq!(code(" \n"), "` `");
        assert!(code(&"é".repeat(1_000)).chars().count() <= MAX_TEXT + 2);
    }
}
