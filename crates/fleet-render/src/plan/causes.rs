//! Why the document of a device changes.

use std::collections::{BTreeMap, BTreeSet};

use fleet_model::{LabelSelector, Labels};

use super::sides::{Holder, Side, Want};
use super::{Cause, InputFacts, Revision, State};
use crate::template::Subject;

/// What makes the document of a device change, sorted; never empty.
pub(super) fn causes(
    name: &str,
    before: Option<&Side<'_>>,
    after: &Side<'_>,
    current: &State,
    incoming: &State,
) -> Vec<Cause> {
    let Some(before) = before else { return vec![Cause::New] };
    let mut causes = BTreeSet::new();
    let changed = changed_keys(&before.labels, &after.labels);
    let looked_at = |key: &&str| [before, after].into_iter().any(|side| is_input(side, key));
    let keys: Vec<String> = if before.holder == after.holder {
        changed.into_iter().filter(looked_at).map(str::to_owned).collect()
    } else {
        causes.insert(Cause::Owner);
        let mut selecting = BTreeSet::new();
        for (side, state) in [(before, current), (after, incoming)] {
            let fleets = side.owner().into_iter().chain(side.ownership.contenders.iter().map(String::as_str));
            for selector in fleets.filter_map(|name| state.fleets.get(name)?.selector.as_ref()) {
                selector_keys(selector, &mut selecting);
            }
        }
        let matters = |key: &&str| selecting.contains(*key) || looked_at(key);
        changed.into_iter().filter(matters).map(str::to_owned).collect()
    };
    if !keys.is_empty() {
        causes.insert(Cause::Label { keys });
    }
    if let Some(reason) = before.reason().filter(|reason| after.reason() != Some(*reason)) {
        causes.insert(Cause::Unblocked { reason: reason.to_owned() });
    }
    if let (Some(old), Some(new), true) = (before.revision(), after.revision(), before.holder == after.holder) {
        if old.template != new.template {
            causes.insert(template(after.holder));
        }
        causes.extend(inputs((old, before), (new, after), name));
    }
    if causes.is_empty() {
        causes.insert(template(after.holder));
    }
    causes.into_iter().collect()
}

fn template(holder: Holder<'_>) -> Cause {
    match holder {
        Holder::Fleet(_) => Cause::Template,
        Holder::Itself | Holder::Nobody => Cause::Specification,
    }
}

/// Inputs with other files for this device. The same files at another commit are the same.
fn inputs(old: (&Revision, &Side<'_>), new: (&Revision, &Side<'_>), name: &str) -> Vec<Cause> {
    let by_provider = |(revision, side): (&'_ Revision, &Side<'_>)| -> BTreeMap<String, InputFacts> {
        let subject = Subject { name, labels: &side.labels };
        let meant = |input: &&InputFacts| {
            input.value.is_none() || input.value == revision.prepared.value(&input.provider, &subject)
        };
        revision.inputs.iter().filter(meant).map(|input| (input.provider.clone(), input.clone())).collect()
    };
    let (olds, news) = (by_provider(old), by_provider(new));
    let mut names: BTreeSet<&String> = olds.keys().collect();
    names.extend(news.keys());
    let cause = |name: &String| {
        let (old, new) = (olds.get(name), news.get(name));
        // Another value comes with another label, which is told already.
        if old.map(|input| input.tree) == new.map(|input| input.tree)
            || old.is_some_and(|old| new.is_some_and(|new| old.value != new.value))
        {
            return None;
        }
        let repository = new.or(old).map(|input| input.repository.clone()).unwrap_or_default();
        let commit = |input: Option<&InputFacts>| input.map(|input| input.commit.clone());
        Some(Cause::Input { provider: name.clone(), repository, from: commit(old), to: commit(new) })
    };
    names.into_iter().filter_map(cause).collect()
}

/// Whether a placeholder looks at the label.
fn is_input(side: &Side<'_>, key: &str) -> bool {
    match (&side.want, side.revision()) {
        (_, Some(revision)) => {
            let inputs = revision.prepared.inputs();
            inputs.all_labels || inputs.labels.contains(key)
        }
        // Not known: any label may count.
        (Want::Elsewhere, None) => true,
        (Want::Document(_) | Want::Waits { .. } | Want::Nothing, None) => false,
    }
}

fn changed_keys<'l>(before: &'l Labels, after: &'l Labels) -> BTreeSet<&'l str> {
    let keys = before.keys().chain(after.keys());
    keys.filter(|key| before.get(*key) != after.get(*key)).map(String::as_str).collect()
}

fn selector_keys<'s>(selector: &'s LabelSelector, keys: &mut BTreeSet<&'s str>) {
    keys.extend(selector.match_labels.iter().flatten().map(|(key, _)| key.as_str()));
    keys.extend(selector.match_expressions.iter().flatten().map(|expression| expression.key.as_str()));
}
