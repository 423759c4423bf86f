//! What changes on the devices of a group, with contents: differences of files and of applications. Contents that are
//! secret are never looked at, credentials are masked, and contents that are no text are named with their sizes.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_render::document::{Outline, OutlineFile};
use fleet_render::plan::{self, DeviceView, Group, Inventory, State};
use serde_json::Value;
use similar::TextDiff;

use super::masked;
use super::text::size;

/// Contents above this are not compared line by line.
const MAX_BYTES: usize = 512 << 10;
/// Nor are lines longer than this shown, in bytes: such a file is not for reading.
const MAX_LINE_BYTES: usize = 4 << 10;
/// One comparison may take so long; a coarser difference is shown then.
const MAX_TIME: Duration = Duration::from_millis(500);
/// Lines of context around a difference.
const CONTEXT: usize = 3;

/// What is said of contents that devices do not share.
pub(super) const VARIES: &str = "differs from device to device; shown for the first";

/// What changes on the devices of a group.
#[derive(Debug, Default)]
pub(super) struct Detail {
    /// Files, in the order of the group's.
    pub(super) files: Vec<Part>,
    /// Applications, in the order of the group's.
    pub(super) applications: Vec<Part>,
    /// Other fields of the specification, in the order of the group's.
    pub(super) others: Vec<Part>,
}

/// One thing that changes.
#[derive(Debug)]
pub(super) struct Part {
    /// Its path or name.
    pub(super) name: String,
    /// `+`, `-` or `~`.
    pub(super) sign: char,
    /// What else there is to say: mode, owner, why nothing is shown.
    pub(super) note: Option<String>,
    /// The difference, in the unified format without a header; empty when nothing of it is shown.
    pub(super) diff: String,
}

/// For each of the first groups, on the example of its first device.
pub(super) fn of_groups(
    groups: &[Group],
    most: usize,
    current: &State,
    incoming: &State,
    inventory: &Inventory,
) -> Vec<Detail> {
    groups.iter().take(most).map(|group| of_group(group, current, incoming, inventory)).collect()
}

fn of_group(group: &Group, current: &State, incoming: &State, inventory: &Inventory) -> Detail {
    let Some(device) = group.devices.first().filter(|_| group.after_known) else { return Detail::default() };
    let (before, after) = plan::views(current, incoming, inventory, device);
    let before = if group.before_known { outline(before.as_ref(), device) } else { None };
    let after = outline(after.as_ref(), device);
    let files = group.files.iter().map(|change| {
        let of =
            |outline: &Option<Outline>| outline.as_ref().and_then(|outline| outline.files.get(&change.path).cloned());
        let mut part = file(&change.path, of(&before).as_ref(), of(&after).as_ref());
        if change.varies {
            let more = part.note.take().map(|note| format!("; {note}")).unwrap_or_default();
            part.note = Some(format!("{VARIES}{more}"));
        }
        part
    });
    let value = |outline: &Option<Outline>, of: fn(&Outline) -> &BTreeMap<String, Value>, name: &str| {
        outline.as_ref().and_then(|outline| of(outline).get(name).cloned())
    };
    let applications = group.applications.iter().map(|change| {
        let of = |outline| value(outline, |outline| &outline.applications, &change.name);
        yaml(&change.name, of(&before).as_ref(), of(&after).as_ref())
    });
    let others = group.others.iter().map(|name| {
        let of = |outline| value(outline, |outline| &outline.others, name);
        yaml(name, of(&before).as_ref(), of(&after).as_ref())
    });
    Detail { files: files.collect(), applications: applications.collect(), others: others.collect() }
}

fn outline(view: Option<&DeviceView>, device: &str) -> Option<Outline> {
    view?.outline(device)?.ok()
}

fn sign<T>(before: Option<&T>, after: Option<&T>) -> char {
    match (before, after) {
        (None, _) => '+',
        (Some(_), None) => '-',
        (Some(_), Some(_)) => '~',
    }
}

fn file(path: &str, before: Option<&OutlineFile>, after: Option<&OutlineFile>) -> Part {
    let mut notes = Vec::new();
    if let (Some(old), Some(new)) = (before, after) {
        if old.mode != new.mode {
            notes.push(format!("mode {:04o} → {:04o}", old.mode, new.mode));
        }
        if (&old.user, &old.group) != (&new.user, &new.group) {
            notes.push(format!("owner {}:{} → {}:{}", old.user, old.group, new.user, new.group));
        }
    } else if let Some(file) = before.or(after)
        && (file.mode != 0o644 || file.user != "root" || file.group != "root")
    {
        notes.push(format!("mode {:04o}, owner {}:{}", file.mode, file.user, file.group));
    }
    let content = |file: Option<&OutlineFile>| file.map(|file| file.content.clone()).unwrap_or_default();
    let (old, new) = (content(before), content(after));
    let mut diff = String::new();
    if [before, after].into_iter().flatten().any(|file| file.secret) {
        notes.push("secret, not shown".to_owned());
    } else if old != new {
        match (readable(&old), readable(&new)) {
            (Ok(old), Ok(new)) => diff = unified(&masked::text(old), &masked::text(new)),
            (Err(why), _) | (_, Err(why)) => {
                let len = |file: Option<&OutlineFile>| {
                    file.map(|file| size(u64::try_from(file.content.len()).unwrap_or(u64::MAX)))
                };
                notes.push(match (len(before), len(after)) {
                    (Some(old), Some(new)) => format!("{why}, {old} → {new}"),
                    (one, other) => format!("{why}, {}", one.or(other).unwrap_or_default()),
                });
            }
        }
    }
    Part { name: path.to_owned(), sign: sign(before, after), note: note(&notes), diff }
}

fn note(notes: &[String]) -> Option<String> {
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Text that people can read; the error says what it is instead.
fn readable(content: &[u8]) -> Result<&str, &'static str> {
    if content.len() > MAX_BYTES {
        return Err("too large to compare");
    }
    let text = std::str::from_utf8(content).ok().filter(|text| !text.contains('\0')).ok_or("binary")?;
    if text.lines().any(|line| line.len() > MAX_LINE_BYTES) {
        return Err("lines too long to show");
    }
    Ok(text)
}

fn yaml(name: &str, before: Option<&Value>, after: Option<&Value>) -> Part {
    let text =
        |value: Option<&Value>| value.map(|value| serde_yaml::to_string(&masked::value(value)).unwrap_or_default());
    let (old, new) = (text(before).unwrap_or_default(), text(after).unwrap_or_default());
    let (note, diff) = match (readable(old.as_bytes()), readable(new.as_bytes())) {
        (Ok(old), Ok(new)) => (None, unified(old, new)),
        (Err(why), _) | (_, Err(why)) => (Some(why.to_owned()), String::new()),
    };
    Part { name: name.to_owned(), sign: sign(before, after), note, diff }
}

fn unified(old: &str, new: &str) -> String {
    let diff = TextDiff::configure().timeout(MAX_TIME).diff_lines(old, new);
    diff.unified_diff().context_radius(CONTEXT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(content: &[u8], mode: u32, secret: bool) -> OutlineFile {
        OutlineFile {
            content: content.to_vec(),
            mode,
            user: "root".to_owned(),
            group: "root".to_owned(),
            provider: "p".to_owned(),
            secret,
        }
    }

    #[test]
    fn text_is_compared_and_other_contents_are_named_with_sizes() {
        let changed = file("/a", Some(&made(b"x\ny\n", 0o644, false)), Some(&made(b"x\nz\n", 0o600, false)));
        assert_eq!((changed.sign, changed.note.as_deref()), ('~', Some("mode 0644 → 0600")));
        assert_eq!(changed.diff, "@@ -1,2 +1,2 @@\n x\n-y\n+z\n");
        let binary = file("/a", Some(&made(b"\0\xff", 0o644, false)), Some(&made(b"text", 0o644, false)));
        assert_eq!((binary.note.as_deref(), binary.diff.as_str()), (Some("binary, 2 B → 4 B"), ""));
        let large = file("/a", None, Some(&made(&vec![b'\n'; MAX_BYTES + 1], 0o644, false)));
        assert_eq!((large.sign, large.diff.as_str()), ('+', ""));
        assert!(large.note.unwrap().starts_with("too large to compare, 512.0 KiB"));
    }

    #[test]
    fn secrets_are_not_shown_on_either_side() {
        for (old, new) in [(true, false), (false, true)] {
            let part = file("/k", Some(&made(b"PRIVATE", 0o400, old)), Some(&made(b"secret", 0o400, new)));
            assert_eq!((part.note.as_deref(), part.diff.as_str()), (Some("secret, not shown"), ""));
        }
    }

    #[test]
    fn credentials_are_not_shown_though_that_they_change_is() {
        let key = |body: &str| format!("a\n-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let part = file(
            "/k",
            Some(&made(key("ONE").as_bytes(), 0o600, false)),
            Some(&made(key("TWO").as_bytes(), 0o600, false)),
        );
        assert!(part.diff.contains("\n a\n-[a private key, not shown: "), "{}", part.diff);
        assert!(!part.diff.contains("ONE") && !part.diff.contains("TWO"), "{}", part.diff);
        let app = yaml("x", None, Some(&serde_json::json!({"envVars": {"K": key("ONE")}})));
        assert!(app.diff.contains("not shown") && !app.diff.contains("ONE"), "{}", app.diff);
    }

    #[test]
    fn a_missing_line_break_at_the_end_is_said() {
        assert!(unified("a\n", "a").contains("No newline at end of file"));
    }
}
