//! The rest of a device specification: operating system, systemd units, resource monitors, update schedules.

use std::collections::HashMap;

use fleet_model::{AlertRule, AlertSeverity, DeviceSpec, OsSpec, ResourceMonitor, SystemdSpec, UpdateSchedule};

use super::applications::{catalog_item, image};
use crate::apps::clip;
use crate::codes::{self, Code};
use crate::cron;
use crate::document::Document;
use crate::finding::Finding;

/// Longest pattern for units, in characters.
const MAX_PATTERN: usize = 256;
/// Longest description of an alert, in characters.
const MAX_DESCRIPTION: usize = 256;
/// Longest path of a disk monitor, in bytes.
const MAX_PATH: usize = 2048;

/// Checks a device specification at `pointer`, without its configuration and applications.
pub(crate) fn check(
    document: &Document<'_, '_>,
    pointer: &str,
    spec: &DeviceSpec,
    is_template: bool,
    findings: &mut Vec<Finding>,
) {
    let mut rules = Rules { document, findings };
    if let Some(os) = &spec.os {
        rules.os(&format!("{pointer}/os"), os, is_template);
    }
    if let Some(systemd) = &spec.systemd {
        rules.systemd(&format!("{pointer}/systemd"), systemd);
    }
    rules.monitors(&format!("{pointer}/resources"), spec.resources.as_deref().unwrap_or_default());
    if let Some(policy) = &spec.update_policy {
        for (field, schedule) in
            [("downloadSchedule", &policy.download_schedule), ("updateSchedule", &policy.update_schedule)]
        {
            if let Some(schedule) = schedule {
                rules.schedule(&format!("{pointer}/updatePolicy/{field}"), schedule);
            }
        }
    }
}

/// Seconds of a duration such as `30s`, `10m` or `2h`.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let (digits, unit) = match (text.strip_suffix('s'), text.strip_suffix('m'), text.strip_suffix('h')) {
        (Some(digits), _, _) => (digits, 1),
        (_, Some(digits), _) => (digits, 60),
        (_, _, Some(digits)) => (digits, 3_600),
        (None, None, None) => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Seconds of a duration without zeros in front.
pub(super) fn plain_seconds(text: &str) -> Option<u64> {
    seconds(text).filter(|_| text.len() == 2 || !text.starts_with('0'))
}

/// Reports that a text is no duration.
pub(super) fn bad_duration(document: &Document<'_, '_>, pointer: String, text: &str) -> Finding {
    let message = format!("{:?} is not a duration", clip(text));
    Finding::new(codes::BAD_DURATION, document.value_span(&pointer), message)
        .at_pointer(pointer)
        .hint("write a whole number with s, m or h behind it: `30s`, `10m`, `2h`")
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

    fn os(&mut self, pointer: &str, os: &OsSpec, is_template: bool) {
        match (&os.image, &os.catalog_item_ref) {
            (None, None) => {
                self.find(codes::ONE_OF, pointer, "`os` has neither `image` nor `catalogItemRef`");
            }
            (Some(_), Some(_)) => {
                self.find(codes::ONE_OF, pointer, "`os` has both `image` and `catalogItemRef`; give one of them");
            }
            (Some(text), None) => {
                image(self.document, &format!("{pointer}/image"), text, is_template, false, self.findings);
            }
            (None, Some(item)) => {
                catalog_item(self.document, &format!("{pointer}/catalogItemRef"), item, self.findings);
            }
        }
    }

    fn systemd(&mut self, pointer: &str, systemd: &SystemdSpec) {
        for (at, pattern) in systemd.match_patterns.iter().flatten().enumerate() {
            let reason = if pattern.chars().count() > MAX_PATTERN {
                "it has more than 256 characters"
            } else if !is_unit_pattern(pattern) {
                "a unit's name has letters, digits, `:`, `-`, `_`, `.`, `\\`, one `@` inside, and for patterns `*`, `?`, `[`, `]`, `!`"
            } else {
                continue;
            };
            let message = format!("{:?} is not a pattern for units: {reason}", clip(pattern));
            self.find(codes::BAD_UNIT_PATTERN, format!("{pointer}/matchPatterns/{at}"), message);
        }
    }

    fn monitors(&mut self, pointer: &str, monitors: &[ResourceMonitor]) {
        let mut lines: HashMap<&str, u32> = HashMap::new();
        for (at, monitor) in monitors.iter().enumerate() {
            let below = format!("{pointer}/{at}");
            let type_pointer = format!("{below}/monitorType");
            let line = self.document.value_span(&type_pointer).line;
            if let Some(first) = lines.insert(monitor.monitor_type(), line) {
                let kind = monitor.monitor_type();
                let message = format!("a device has one {kind} monitor at most; the first is on line {first}");
                self.find(codes::BAD_MONITOR, type_pointer, message).hint =
                    Some("put the rules into one monitor".to_owned());
            }
            if let ResourceMonitor::Disk(disk) = monitor
                && !(disk.path.starts_with('/') && disk.path.len() <= MAX_PATH)
            {
                let message =
                    format!("the path {:?} is not an absolute path of at most {MAX_PATH} bytes", clip(&disk.path));
                self.find(codes::BAD_MONITOR, format!("{below}/path"), message);
            }
            let interval = monitor.sampling_interval();
            let interval_pointer = format!("{below}/samplingInterval");
            let sampling = plain_seconds(interval).filter(|seconds| *seconds > 0);
            if sampling.is_none() {
                self.findings.push(bad_duration(self.document, interval_pointer, interval));
            }
            self.alerts(
                &format!("{below}/alertRules"),
                monitor.alert_rules(),
                sampling.map(|seconds| (seconds, interval)),
            );
        }
    }

    fn alerts(&mut self, pointer: &str, rules: &[AlertRule], sampling: Option<(u64, &str)>) {
        let mut lines: HashMap<AlertSeverity, u32> = HashMap::new();
        for (at, rule) in rules.iter().enumerate() {
            let below = format!("{pointer}/{at}");
            match (seconds(&rule.duration), sampling) {
                (None, _) => {
                    self.findings.push(bad_duration(self.document, format!("{below}/duration"), &rule.duration));
                }
                (Some(duration), Some((sampling, interval))) if duration <= sampling => {
                    let message = format!(
                        "the duration {:?} must be longer than the sampling interval, which is {interval}",
                        clip(&rule.duration)
                    );
                    self.find(codes::BAD_MONITOR, format!("{below}/duration"), message).hint =
                        Some("sample more often, or wait longer".to_owned());
                }
                (Some(_), _) => {}
            }
            if rule.percentage.as_f64().is_none_or(|percentage| !(0.0..=100.0).contains(&percentage)) {
                let message = format!("the percentage {} is not from 0 to 100", rule.percentage);
                self.find(codes::BAD_PERCENTAGE, format!("{below}/percentage"), message);
            }
            if rule.description.chars().count() > MAX_DESCRIPTION {
                let message = format!("the description has more than {MAX_DESCRIPTION} characters");
                self.find(codes::BAD_MONITOR, format!("{below}/description"), message);
            }
            let severity_pointer = format!("{below}/severity");
            let line = self.document.value_span(&severity_pointer).line;
            if let Some(first) = lines.insert(rule.severity, line) {
                let message = format!("there is a rule of severity {:?} already, on line {first}", rule.severity);
                self.find(codes::ALERT_RULES, severity_pointer, message);
            }
        }
        self.alert_order(pointer, rules);
    }

    /// Percentages must rise with the severity.
    fn alert_order(&mut self, pointer: &str, rules: &[AlertRule]) {
        let mut sorted: Vec<(usize, &AlertRule)> = rules.iter().enumerate().collect();
        sorted.sort_by_key(|(_, rule)| rule.severity);
        for pair in sorted.windows(2) {
            let [(_, lower), (at, higher)] = pair else { continue };
            let (Some(low), Some(high)) = (lower.percentage.as_f64(), higher.percentage.as_f64()) else { continue };
            let is_percentage = |number: f64| (0.0..=100.0).contains(&number);
            if lower.severity != higher.severity && low >= high && is_percentage(low) && is_percentage(high) {
                let message = format!(
                    "the {:?} rule begins at {} %, which is not above the {} % of {:?}",
                    higher.severity, higher.percentage, lower.percentage, lower.severity
                );
                self.find(codes::ALERT_RULES, format!("{pointer}/{at}/percentage"), message).hint =
                    Some("percentages rise from Info to Warning to Critical".to_owned());
            }
        }
    }

    fn schedule(&mut self, pointer: &str, schedule: &UpdateSchedule) {
        let zone_name = schedule.time_zone.as_deref().unwrap_or("Local");
        let zone = match cron::time_zone(zone_name) {
            Ok(zone) => Some(zone),
            Err((message, hint)) => {
                self.find(codes::BAD_TIME_ZONE, format!("{pointer}/timeZone"), message).hint = hint;
                None
            }
        };
        let grace = plain_seconds(&schedule.start_grace_duration);
        let grace_pointer = format!("{pointer}/startGraceDuration");
        if grace.is_none() {
            let finding = bad_duration(self.document, grace_pointer.clone(), &schedule.start_grace_duration);
            self.findings.push(finding);
        }
        let at_pointer = format!("{pointer}/at");
        let times = match cron::parse(&schedule.at) {
            Ok(times) => times,
            Err(problem) => {
                let at = self.document.part_span(&at_pointer, &problem.span);
                let hint = "every day at two: `0 2 * * *`; Saturdays at half past three: `30 3 * * 6`";
                let finding = Finding::new(codes::BAD_SCHEDULE, at, problem.message);
                self.findings.push(finding.at_pointer(at_pointer).hint(hint));
                return;
            }
        };
        if times.never_comes() {
            let message = format!("no month has the days of the schedule {:?}, so it never comes", clip(&schedule.at));
            self.find(codes::SCHEDULE_NEVER, at_pointer, message);
            return;
        }
        let interval = zone.and_then(|zone| times.shortest_interval(&zone));
        if let (Some(grace), Some(interval)) = (grace, interval)
            && grace > interval
        {
            let message = format!(
                "the grace time of {grace} s is longer than the shortest interval of the schedule, {interval} s, counted over \
                 the first five from {}",
                cron::REFERENCE
            );
            self.find(codes::GRACE_TOO_LONG, grace_pointer, message).hint =
                Some(format!("write at most `{}`", written(interval)));
        }
    }
}

/// A number of seconds as a duration, in the largest unit without a rest.
fn written(seconds: u64) -> String {
    match seconds {
        _ if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// `name`, or `template@instance`; both may be patterns, and an extension is part of either.
fn is_unit_pattern(pattern: &str) -> bool {
    let is_part = |part: &str| {
        let is_character = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\[]!*?".contains(&b);
        !part.is_empty() && part.bytes().all(is_character)
    };
    match pattern.split_once('@') {
        Some((name, instance)) => is_part(name) && is_part(instance),
        None => is_part(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        for (text, expected) in [
            ("30s", Some(30)),
            ("10m", Some(600)),
            ("2h", Some(7_200)),
            ("0s", Some(0)),
            ("", None),
            ("s", None),
            ("10", None),
            ("1.5h", None),
            ("1d", None),
            ("-1s", None),
            ("1h30m", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
            assert_eq!(plain_seconds(text), expected, "{text}");
        }
        assert_eq!((seconds("05m"), plain_seconds("05m")), (Some(300), None));
    }

    #[test]
    fn patterns_are_names_of_units() {
        for good in ["sshd.service", "podman-*.service", "getty@tty?.service", "a@.service", "[ab]*", "x\\x2dy.mount"] {
            assert!(is_unit_pattern(good), "{good}");
        }
        for bad in ["", "@a", "a@", "a@b@c", "a b", "a/b", "ä", "{{ .metadata.name }}"] {
            assert!(!is_unit_pattern(bad), "{bad}");
        }
    }
}
