//! Enrolment policies and sync policies.

use std::collections::BTreeSet;

use fleet_model::{DeviceName, EnrollmentPolicy, SyncPolicy};

use crate::codes;
use crate::document::Document;
use crate::finding::Finding;
use crate::rules::trust;

pub(crate) fn enrollment_policy(document: &Document<'_, '_>, policy: &EnrollmentPolicy, findings: &mut Vec<Finding>) {
    for (at, rule) in policy.spec.rules.iter().enumerate() {
        let pointer = format!("/spec/rules/{at}/match");
        if rule.matches.is_empty() {
            let message = "the rule asks for nothing, so it matches no device";
            let finding = Finding::new(codes::RULE_MATCHES_NOBODY, document.key_span(&pointer), message);
            findings.push(finding.at_pointer(pointer.clone()).hint("give names, serialNumbers or systemInfo"));
        }
        for (index, name) in rule.matches.names.iter().enumerate() {
            if let Err(error) = name.parse::<DeviceName>() {
                let pointer = format!("{pointer}/names/{index}");
                let span = document.value_span(&pointer);
                findings.push(Finding::new(codes::BAD_DEVICE_NAME, span, error.to_string()).at_pointer(pointer));
            }
        }
    }
}

pub(crate) fn sync_policy(document: &Document<'_, '_>, policy: &SyncPolicy, findings: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for (at, source) in policy.spec.sources.iter().flatten().enumerate() {
        if !seen.insert(source) {
            let pointer = format!("/spec/sources/{at}");
            let message = format!("the source {source:?} is named twice");
            let finding = Finding::new(codes::DUPLICATE_ITEM, document.value_span(&pointer), message);
            findings.push(finding.at_pointer(pointer));
        }
    }
    if let Some(asked) = &policy.spec.trust {
        trust::trust(document, asked, findings);
    }
}
