//! Whose signatures a SyncPolicy asks for: keys that can be read, sets that exist, patterns that mean something.

use std::collections::BTreeSet;

use fleet_model::{SignerSet, SyncTrust, TrustEffect};
use fleet_trust::{AllowedSigners, Certificates, glob};

use crate::codes::{self, Code};
use crate::document::Document;
use crate::finding::{Finding, nearest};

/// 2026-01-01T00:00:00Z. There were no policies for signatures before: keys that were over by then never count. Lint has no
/// clock, so that a commit is judged the same on every day; what ends later the service says when it matters.
const FIRST_COMMITS: i64 = 1_767_225_600;

pub(super) fn trust(document: &Document<'_, '_>, trust: &SyncTrust, findings: &mut Vec<Finding>) {
    let mut add = |code: Code, pointer: String, message: String, hint: Option<String>| {
        let finding = Finding::new(code, document.value_span(&pointer), message);
        findings.push(finding.at_pointer(pointer).maybe_hint(hint));
    };
    let mut names = BTreeSet::new();
    for (at, set) in trust.signers.iter().enumerate() {
        let pointer = format!("/spec/trust/signers/{at}");
        if !names.insert(set.name.as_str()) {
            let message = format!("there are two sets of signers named {:?}", set.name);
            add(codes::DUPLICATE_ITEM, format!("{pointer}/name"), message, None);
        }
        let mut broken = false;
        for (key, message) in problems(set) {
            broken = true;
            let pointer = key.map_or_else(|| pointer.clone(), |key| format!("{pointer}/{key}"));
            add(codes::BAD_SIGNERS, pointer, message, None);
        }
        if !broken && !anybody(set, FIRST_COMMITS) {
            let message = format!(
                "no key of the signers {:?} can sign commits: all are over, revoked or for something else",
                set.name
            );
            add(codes::SIGNERS_OVER, pointer, message, Some("add the keys that are in use now".to_owned()));
        }
    }
    let mut guarded = false;
    for (at, rule) in trust.rules.iter().enumerate() {
        let pointer = format!("/spec/trust/rules/{at}");
        guarded |= rule.covers_everything() || rule.effects.iter().flatten().any(|e| *e == TrustEffect::SyncPolicy);
        for (index, name) in rule.signed_by.iter().enumerate().filter(|(_, name)| !names.contains(name.as_str())) {
            let hint = nearest(name, names.iter().copied()).map(|known| format!("did you mean {known:?}?"));
            let message = format!("there is no set of signers named {name:?} in this policy");
            add(codes::UNKNOWN_SIGNERS, format!("{pointer}/signedBy/{index}"), message, hint);
        }
        for (index, path) in rule.paths.iter().flatten().enumerate() {
            if let Err(error) = glob(path) {
                let message = format!("the pattern {path:?} is not valid: {error}");
                add(codes::BAD_TRUST_PATH, format!("{pointer}/paths/{index}"), message, None);
            }
        }
    }
    if !guarded {
        let message = "no rule covers changes of the policy itself, so an unsigned commit can remove these rules";
        let hint = "add a rule with `effects: [SyncPolicy]`, or one without paths and effects";
        add(codes::TRUST_UNPROTECTED, "/spec/trust/rules".to_owned(), message.to_owned(), Some(hint.to_owned()));
    }
}

fn problems(set: &SignerSet) -> Vec<(Option<&'static str>, String)> {
    let mut found = Vec::new();
    if let Some(text) = &set.ssh {
        let (signers, errors) = AllowedSigners::parse(text);
        found.extend(errors.iter().map(|error| (Some("ssh"), format!("the signers {:?}, {error}", set.name))));
        if errors.is_empty() && signers.is_empty() {
            found.push((Some("ssh"), format!("the signers {:?} have no SSH key", set.name)));
        }
    }
    if let Some(text) = &set.openpgp
        && let Err(error) = Certificates::parse(text)
    {
        found
            .push((Some("openpgp"), format!("the OpenPGP keys of the signers {:?} cannot be used: {error}", set.name)));
    }
    found
}

fn anybody(set: &SignerSet, now: i64) -> bool {
    let ssh = set.ssh.as_ref().is_some_and(|text| AllowedSigners::parse(text).0.any_from(now));
    let openpgp =
        || Certificates::parse(set.openpgp.as_deref().unwrap_or_default()).is_ok_and(|keys| keys.any_from(now));
    ssh || openpgp()
}
