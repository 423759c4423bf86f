//! The sentences that the outputs share.

use fleet_model::{SECRET_REPOSITORY, SELF_REPOSITORY};
use fleet_render::plan::{Cause, Change, DeviceCounts, Group, ObjectCounts, Reassigned, Unmanaged, Waiting};

use super::Report;
use super::limits::Measured;
use super::text::{count, line, thousands};

/// So many keys of labels are named.
const MAX_KEYS: usize = 10;

/// `3 objects change (1 added, 2 moved)`.
pub(super) fn objects(counts: &ObjectCounts) -> String {
    let ObjectCounts { added, changed, removed, moved } = *counts;
    let total = added + changed + removed + moved;
    if total == 0 {
        return "no object changes".to_owned();
    }
    let parts = [(added, "added"), (changed, "changed"), (removed, "removed"), (moved, "moved")];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", thousands(*n))).collect();
    format!("{} {} ({})", count(total, "object"), if total == 1 { "changes" } else { "change" }, parts.join(", "))
}

/// `412 devices change, 3 wait, 9,585 do not change`.
pub(super) fn devices(counts: &DeviceCounts) -> String {
    let DeviceCounts { total: _, changed, unchanged, waiting, unmanaged, new, removed } = *counts;
    let one = |n: usize, one: &str, many: &str| format!("{} {}", thousands(n), if n == 1 { one } else { many });
    let mut parts = vec![format!("{} {}", count(changed, "device"), if changed == 1 { "changes" } else { "change" })];
    let more = [
        (new, "is new", "are new"),
        (waiting, "waits", "wait"),
        (unmanaged, "is left unmanaged", "are left unmanaged"),
        (removed, "has no manifest any more", "have no manifest any more"),
    ];
    parts.extend(more.iter().filter(|(n, ..)| *n > 0).map(|(n, single, plural)| one(*n, single, plural)));
    parts.push(one(unchanged, "does not change", "do not change"));
    parts.join(", ")
}

/// Which devices are known, and how.
pub(super) fn inventory(report: &Report) -> String {
    let known = count(report.plan.summary.devices.total, "device");
    match report.known.enrolled {
        Some(enrolled) => format!("{known} known: {} enrolled, and those with a Device manifest", thousands(enrolled)),
        None => format!("{known} known, by Device manifests only; --server URL adds those that are enrolled"),
    }
}

/// How a word from outside is set apart: as it is for people at a terminal, as code in Markdown.
pub(super) type Quote = fn(&str) -> String;

/// Why documents change.
pub(super) fn cause(cause: &Cause, quote: Quote) -> String {
    let commit = |commit: &Option<String>| commit.as_ref().map(|commit| quote(&short(commit)));
    match cause {
        Cause::Template => "the fleet's template".to_owned(),
        Cause::Specification => "the device's own specification".to_owned(),
        Cause::Input { provider, repository, from, to } => {
            if repository == SECRET_REPOSITORY {
                return format!("files of provider {} (a secret)", quote(provider));
            }
            let place = match repository == SELF_REPOSITORY {
                true => "this repository".to_owned(),
                false => format!("Repository {}", quote(repository)),
            };
            let pins = match (commit(from), commit(to)) {
                (Some(from), Some(to)) if from != to => format!(", {from} → {to}"),
                (Some(_), Some(_)) => String::new(),
                (None, Some(to)) => format!(", now at {to}"),
                (_, None) => ", not taken any more".to_owned(),
            };
            format!("files of provider {} ({place}{pins})", quote(provider))
        }
        Cause::Label { keys } => {
            let keys: Vec<String> = keys.iter().take(MAX_KEYS).map(|key| quote(key)).collect();
            format!("labels: {}", keys.join(", "))
        }
        Cause::Owner => "another owner".to_owned(),
        Cause::Unblocked { reason } => format!("does not wait any more; it waited: {}", quote(reason)),
        Cause::New => "a new device".to_owned(),
    }
}

/// A commit short, other words as they are.
fn short(commit: &str) -> String {
    let is_id = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { commit[..12].to_owned() } else { commit.to_owned() }
}

/// Who owns the devices of a group: `fleet pos`, `fleet a → fleet b`.
pub(super) fn owner(group: &Group) -> String {
    let name =
        |owner: &Option<String>| owner.as_ref().map_or_else(|| "no fleet".to_owned(), |fleet| format!("fleet {fleet}"));
    let (before, after) = (name(&group.owner_before), name(&group.owner_after));
    let is_new = group.causes.contains(&Cause::New);
    line(&if before == after || is_new { after } else { format!("{before} → {after}") }, 200)
}

/// Why nothing of a group can be shown, or only half of it.
pub(super) fn unknown(group: &Group) -> Option<&'static str> {
    match (group.before_known, group.after_known) {
        (_, false) => Some("what they get comes from another source and is not shown"),
        (false, true) if !group.causes.contains(&Cause::New) => {
            Some("what they have now is not known here, so everything is shown as new")
        }
        (_, true) => None,
    }
}

/// `+` and so on.
pub(super) fn sign(change: Change) -> &'static str {
    match change {
        Change::Added => "+",
        Change::Changed => "~",
        Change::Removed => "-",
        Change::Moved => ">",
    }
}

/// What devices lose.
pub(super) fn loses(unmanaged: &Unmanaged, quote: Quote) -> String {
    let is_one = unmanaged.devices.len() == 1;
    let keep = if is_one { "it keeps its last document" } else { "they keep their last documents" };
    match (&unmanaged.owner_before, is_one) {
        (Some(fleet), true) => format!("no fleet selects it any more (it was {}); {keep}", quote(fleet)),
        (Some(fleet), false) => format!("no fleet selects them any more (it was {}); {keep}", quote(fleet)),
        (None, true) => format!("its own specification is gone; {keep}"),
        (None, false) => format!("their own specifications are gone; {keep}"),
    }
}

/// Who owned devices and who owns them now, while their documents stay.
pub(super) fn reassigned(moved: &Reassigned, quote: Quote) -> String {
    let name = |owner: &Option<String>| owner.as_deref().map_or_else(|| "no fleet".to_owned(), quote);
    let same = if moved.devices.len() == 1 { "its document stays" } else { "their documents stay" };
    format!("{} → {}, and {same} the same", name(&moved.owner_before), name(&moved.owner_after))
}

/// `2 devices wait, as before, and keep what they have`.
pub(super) fn waits(waiting: &Waiting) -> String {
    let before = if waiting.already { ", as before," } else { "" };
    let (wait, keep) =
        if waiting.devices.len() == 1 { ("waits", "keeps what it has") } else { ("wait", "keep what they have") };
    format!("{} {wait}{before} and {keep}", count(waiting.devices.len(), "device"))
}

/// How many are allowed, and why more may be harmless.
pub(super) fn allowed(one: &Measured, report: &Report) -> String {
    let is_held = report.exceeded.iter().any(|exceeded| exceeded.limit == one.limit);
    let few = if one.count > one.allowed && !is_held { " (too few to be held up)" } else { "" };
    format!("{}{few}", thousands(one.allowed))
}
