//! Rollout policies: batches, thresholds, time-outs and disruption budgets. Which fields must be there the schema says.

use std::collections::HashMap;

use fleet_model::{BatchLimit, DeviceSelection, DisruptionBudget, LabelSelector, RolloutPolicy, validate_label_key};

use super::device::{bad_duration, plain_seconds};
use crate::apps::clip;
use crate::codes::{self, Code};
use crate::document::Document;
use crate::finding::Finding;

/// Checks the rollout policy at `pointer`.
pub(crate) fn check(document: &Document<'_, '_>, pointer: &str, policy: &RolloutPolicy, findings: &mut Vec<Finding>) {
    let mut rules = Rules { document, findings };
    rules.threshold(pointer, policy.success_threshold.as_deref());
    if let Some(timeout) = policy.default_update_timeout.as_deref().filter(|text| plain_seconds(text).is_none()) {
        let finding = bad_duration(document, format!("{pointer}/defaultUpdateTimeout"), timeout);
        rules.findings.push(finding);
    }
    if let Some(selection) = &policy.device_selection {
        rules.selection(&format!("{pointer}/deviceSelection"), selection);
    }
    if let Some(budget) = &policy.disruption_budget {
        rules.budget(&format!("{pointer}/disruptionBudget"), budget);
    }
}

struct Rules<'r, 't, 'a> {
    document: &'r Document<'t, 'a>,
    findings: &'r mut Vec<Finding>,
}

impl Rules<'_, '_, '_> {
    fn find(&mut self, code: Code, pointer: impl Into<String>, message: impl Into<String>) -> &mut Finding {
        let pointer = pointer.into();
        let at = self.document.value_span(&pointer);
        self.findings.push(Finding::new(code, at, message).at_pointer(pointer));
        self.findings.last_mut().expect("one was just pushed")
    }

    fn at_key(&mut self, code: Code, pointer: &str, message: impl Into<String>) -> &mut Finding {
        let at = self.document.key_span(pointer);
        self.findings.push(Finding::new(code, at, message).at_pointer(pointer));
        self.findings.last_mut().expect("one was just pushed")
    }

    fn threshold(&mut self, pointer: &str, threshold: Option<&str>) {
        if let Some(threshold) = threshold.filter(|threshold| !is_percentage(threshold)) {
            let message = format!("the success threshold {:?} is not a percentage", clip(threshold));
            self.find(codes::BAD_PERCENTAGE, format!("{pointer}/successThreshold"), message).hint =
                Some("write a whole number from 0 to 100 with `%` behind it: `90%`".to_owned());
        }
    }

    fn selection(&mut self, pointer: &str, selection: &DeviceSelection) {
        let DeviceSelection::BatchSequence(batches) = selection;
        let batches = batches.sequence.as_deref();
        if batches.is_none_or(<[_]>::is_empty) {
            let message = "the batch sequence has no batch";
            self.at_key(codes::BAD_ROLLOUT, &format!("{pointer}/sequence"), message).hint =
                Some("add at least one batch to `sequence`; devices in none of them come last".to_owned());
        }
        for (at, batch) in batches.unwrap_or_default().iter().enumerate() {
            let below = format!("{pointer}/sequence/{at}");
            if let Some(selector) = &batch.selector {
                self.selector(&format!("{below}/selector"), selector);
            }
            self.threshold(&below, batch.success_threshold.as_deref());
            let limit = match &batch.limit {
                Some(BatchLimit::Count(0)) => "0".to_owned(),
                Some(BatchLimit::Percent(percent)) if !is_percentage(percent) => format!("{:?}", clip(percent)),
                Some(BatchLimit::Count(_) | BatchLimit::Percent(_)) | None => continue,
            };
            let message = format!("the limit {limit} is neither a number from 1 nor a percentage");
            self.find(codes::BAD_PERCENTAGE, format!("{below}/limit"), message).hint =
                Some("write for example `5`, or `10%`".to_owned());
        }
    }

    fn selector(&mut self, pointer: &str, selector: &LabelSelector) {
        if selector.is_empty() {
            let message = "the selector of the batch selects nothing";
            self.at_key(codes::BAD_SELECTOR, pointer, message).hint =
                Some("leave the selector out for all devices of the fleet".to_owned());
        }
        // `matchLabels` are looked at with all other labels.
        super::expressions(self.document, pointer, selector, self.findings);
    }

    fn budget(&mut self, pointer: &str, budget: &DisruptionBudget) {
        for (field, number) in [("minAvailable", budget.min_available), ("maxUnavailable", budget.max_unavailable)] {
            if number == Some(0) {
                let message = format!("`{field}` is 0; it must be at least 1");
                self.find(codes::BAD_PERCENTAGE, format!("{pointer}/{field}"), message);
            }
        }
        let mut lines: HashMap<&str, u32> = HashMap::new();
        for (at, key) in budget.group_by.iter().flatten().enumerate() {
            let below = format!("{pointer}/groupBy/{at}");
            if let Err(error) = validate_label_key(key) {
                self.find(codes::BAD_LABEL, below.as_str(), error.to_string());
            }
            let line = self.document.value_span(&below).line;
            if let Some(first) = lines.insert(key, line) {
                let message = format!("the label key {:?} is given twice; the first is on line {first}", clip(key));
                self.find(codes::DUPLICATE_ITEM, below, message);
            }
        }
    }
}

/// `0%` to `100%`.
fn is_percentage(text: &str) -> bool {
    let Some(digits) = text.strip_suffix('%') else { return false };
    let is_number = !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit());
    is_number && (digits.len() == 1 || !digits.starts_with('0')) && digits.parse::<u8>().is_ok_and(|n| n <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_whole_numbers_up_to_one_hundred() {
        for good in ["0%", "5%", "90%", "100%"] {
            assert!(is_percentage(good), "{good}");
        }
        for bad in ["", "%", "5", "05%", "101%", "1000%", "5.5%", "-5%", " 5%", "5 %"] {
            assert!(!is_percentage(bad), "{bad}");
        }
    }
}
