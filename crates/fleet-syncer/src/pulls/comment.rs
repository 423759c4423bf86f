//! The comment on a pull request: Markdown of GitHub, GitLab and Gitea, never longer than a forge takes.
//!
//! Nothing from a repository is Markdown here: names and sentences stand in code that they cannot end. So nobody is mentioned,
//! nothing is linked, and nothing breaks out.

use fleet_forge::MAX_COMMENT_BYTES;
use fleet_model::CommitId;
use fleet_render::plan::Change;

use super::Preview;
use crate::outbox::sentence;

/// So many findings, objects, groups and names of a group are shown.
const MAX_FINDINGS: usize = 20;
const MAX_OBJECTS: usize = 40;
const MAX_GROUPS: usize = 20;
const MAX_NAMES: usize = 8;
/// So much of one text from outside is shown.
const MAX_TEXT: usize = 300;

/// Text from outside as inline code.
fn code(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() || is_invisible(c) { ' ' } else { c });
    let line: String = plain.take(MAX_TEXT).collect();
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

/// The comment.
pub(super) fn write(mark: &str, source: &str, head: &CommitId, applied: &CommitId, preview: &Preview) -> String {
    let mut lines = vec![mark.to_owned(), format!("## Fleet plan of source {}", code(source)), String::new()];
    lines.push(format!("{} after {}, which is in force.", code(head.short()), code(applied.short())));
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
