//! What is kept of a plan: cut short where there is more than anybody reads. The digest covers all.

use fleet_render::plan::{Change, Plan};
use serde::Serialize;
use serde_json::{Value, json};

/// The most names that are kept of one group of devices.
const MAX_NAMES: usize = 1_000;
/// The most groups, and the most objects, that are kept.
const MAX_GROUPS: usize = 100;
const MAX_OBJECTS: usize = 1_000;
/// The most files of a group that are kept.
const MAX_FILES: usize = 200;

/// Counts, and a sentence for people.
pub(crate) fn stored_summary(plan: &Plan) -> Value {
    let mut summary = to_value(&plan.summary);
    summary["sentence"] = Value::String(sentence(plan));
    summary
}

/// The plan with long lists cut short: each group has `count`, how many devices it has, and the plan has, where
/// something was left out, `omitted` with how many objects and groups.
pub(crate) fn stored_plan(plan: &Plan) -> Value {
    let groups = plan.groups.iter().take(MAX_GROUPS).map(|group| {
        let mut value = shortened(group, group.devices.len());
        if let Some(Value::Array(files)) = value.get_mut("files").filter(|_| group.files.len() > MAX_FILES) {
            files.truncate(MAX_FILES);
            value["fileCount"] = json!(group.files.len());
        }
        value
    });
    let mut stored = json!({
        "digest": plan.digest,
        "summary": plan.summary,
        "objects": plan.objects.iter().take(MAX_OBJECTS).map(to_value).collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "waiting": cut(&plan.waiting, |one| one.devices.len()),
        "unmanaged": cut(&plan.unmanaged, |one| one.devices.len()),
        "reassigned": cut(&plan.reassigned, |one| one.devices.len()),
        "radius": plan.radius,
    });
    let more = |all: usize, kept: usize| all.saturating_sub(kept);
    let omitted = [
        ("objects", more(plan.objects.len(), MAX_OBJECTS)),
        ("groups", more(plan.groups.len(), MAX_GROUPS)),
        ("waiting", more(plan.waiting.len(), MAX_GROUPS)),
        ("unmanaged", more(plan.unmanaged.len(), MAX_GROUPS)),
        ("reassigned", more(plan.reassigned.len(), MAX_GROUPS)),
    ];
    let omitted: serde_json::Map<String, Value> =
        omitted.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), json!(n))).collect();
    if !omitted.is_empty() {
        stored["omitted"] = Value::Object(omitted);
    }
    stored
}

fn cut<T: Serialize>(all: &[T], count: impl Fn(&T) -> usize) -> Vec<Value> {
    all.iter().take(MAX_GROUPS).map(|one| shortened(one, count(one))).collect()
}

fn shortened(group: &impl Serialize, count: usize) -> Value {
    let mut value = to_value(group);
    if let Some(Value::Array(names)) = value.get_mut("devices") {
        names.truncate(MAX_NAMES);
    }
    value["count"] = json!(count);
    value
}

fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("a plan has text keys and whole numbers only")
}

/// What a plan says, in one sentence.
fn sentence(plan: &Plan) -> String {
    let (objects, devices) = (&plan.summary.objects, &plan.summary.devices);
    let told = |parts: &[(usize, &str, &str)]| -> Vec<String> {
        let parts = parts.iter().filter(|(n, _, _)| *n > 0);
        parts.map(|(n, one, many)| format!("{n} {}", if *n == 1 { one } else { many })).collect()
    };
    let objects = told(&[
        (objects.added, "object is new", "objects are new"),
        (objects.changed, "object changes", "objects change"),
        (objects.removed, "object goes", "objects go"),
        (objects.moved, "object moves to another file", "objects move to other files"),
    ]);
    let new_waiting: usize = plan.waiting.iter().filter(|one| !one.already).map(|one| one.devices.len()).sum();
    let reassigned: usize = plan.reassigned.iter().map(|one| one.devices.len()).sum();
    let devices = told(&[
        (devices.changed, "device gets another document", "devices get another document"),
        (devices.new, "device is new", "devices are new"),
        (new_waiting, "device starts to wait", "devices start to wait"),
        (devices.unmanaged, "device loses its fleet", "devices lose their fleet"),
        (
            reassigned,
            "device goes to another fleet with the same document",
            "devices go to other fleets with the same document",
        ),
        (devices.removed, "device is not known any more", "devices are not known any more"),
    ]);
    let or = |parts: Vec<String>, nothing: &str| match parts.is_empty() {
        true => nothing.to_owned(),
        false => parts.join(", "),
    };
    format!("{}; {}", or(objects, "no object changes"), or(devices, "no device changes"))
}

/// Whether a plan changes anything at all.
pub(crate) fn is_empty(plan: &Plan) -> bool {
    let same_place = plan.objects.iter().all(|object| object.change == Change::Moved);
    let news = plan.waiting.iter().any(|one| !one.already);
    same_place && plan.groups.is_empty() && !news && plan.unmanaged.is_empty() && plan.reassigned.is_empty()
}
