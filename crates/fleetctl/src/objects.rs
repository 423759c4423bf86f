//! The types of resources: their names, paths and columns.

use fleet_model::annotations;
use jiff::Timestamp;
use serde_json::Value;

use crate::duration::{ago, left};

/// A type of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Device,
    Fleet,
    Source,
    EnrollmentRequest,
    Event,
    Repository,
    ResourceSync,
    TemplateVersion,
    Plan,
    CertificateSigningRequest,
    Organization,
}

impl Type {
    const ALL: [Self; 11] = [
        Self::Device,
        Self::Fleet,
        Self::Source,
        Self::EnrollmentRequest,
        Self::Event,
        Self::Repository,
        Self::ResourceSync,
        Self::TemplateVersion,
        Self::Plan,
        Self::CertificateSigningRequest,
        Self::Organization,
    ];

    /// Singular, plural, short. The plural is the path.
    fn names(self) -> [&'static str; 3] {
        match self {
            Self::Device => ["device", "devices", "dev"],
            Self::Fleet => ["fleet", "fleets", "fl"],
            Self::Source => ["source", "sources", "src"],
            Self::EnrollmentRequest => ["enrollmentrequest", "enrollmentrequests", "er"],
            Self::Event => ["event", "events", "ev"],
            Self::Repository => ["repository", "repositories", "repo"],
            Self::ResourceSync => ["resourcesync", "resourcesyncs", "rs"],
            Self::TemplateVersion => ["templateversion", "templateversions", "tv"],
            Self::Plan => ["plan", "plans", "pl"],
            Self::CertificateSigningRequest => ["certificatesigningrequest", "certificatesigningrequests", "csr"],
            Self::Organization => ["organization", "organizations", "org"],
        }
    }

    /// The type of any of its names.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.to_ascii_lowercase();
        Self::ALL.into_iter().find(|t| t.names().contains(&text.as_str())).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|t| t.names()[1]).collect();
            anyhow::anyhow!("unknown type {text:?}; types are {}", known.join(", "))
        })
    }

    /// The singular.
    pub(crate) fn singular(self) -> &'static str {
        self.names()[0]
    }

    /// The collection's name in paths.
    pub(crate) fn collection(self) -> &'static str {
        self.names()[1]
    }

    /// Whether names are key fingerprints, which nobody types in full.
    pub(crate) fn has_long_names(self) -> bool {
        matches!(self, Self::Device | Self::EnrollmentRequest)
    }

    /// Whether the service shows one by name.
    pub(crate) fn has_items(self) -> bool {
        !matches!(self, Self::Event | Self::Organization)
    }

    /// The path of the collection; template versions lie below their fleet, plans below their source.
    pub(crate) fn path<'a>(self, fleet: Option<&'a str>, source: Option<&'a str>) -> anyhow::Result<Vec<&'a str>> {
        match (self, fleet, source) {
            (Self::TemplateVersion, Some(fleet), _) => Ok(vec!["fleets", fleet, "templateversions"]),
            (Self::TemplateVersion, None, _) => anyhow::bail!("template versions belong to a fleet: give --fleetname"),
            (Self::Plan, _, Some(source)) => Ok(vec!["sources", source, "plans"]),
            (Self::Plan, _, None) => anyhow::bail!("plans belong to a source: give --source"),
            (_, _, _) => Ok(vec![self.collection()]),
        }
    }

    /// The table's header.
    pub(crate) fn header(self, wide: bool) -> Vec<&'static str> {
        let mut header = match self {
            Self::Device => vec!["NAME", "ALIAS", "OWNER", "VERSION", "UPDATED", "STATUS", "LAST SEEN"],
            Self::Fleet => vec!["NAME", "OWNER", "REVISION", "VALID", "DEVICES"],
            Self::Source => {
                vec!["NAME", "REVISION", "STATE", "OBSERVED", "APPLIED", "SETTLED", "BEHIND", "READY", "MESSAGE"]
            }
            Self::EnrollmentRequest => vec!["NAME", "ALIAS", "DECISION", "BY", "CERTIFICATE", "AGE"],
            Self::Event => vec!["AGE", "TYPE", "REASON", "OBJECT", "ACTOR", "MESSAGE"],
            Self::Repository => vec!["NAME", "TYPE", "URL", "ACCESSIBLE"],
            Self::ResourceSync => vec!["NAME", "REPOSITORY", "REVISION", "PATH", "OBSERVED", "SYNCED"],
            Self::TemplateVersion => vec!["NAME", "FLEET", "COMMIT", "AGE"],
            Self::Plan => vec!["COMMIT", "DIGEST", "AGE", "CHANGE"],
            Self::CertificateSigningRequest => vec!["NAME", "OWNER", "SIGNER", "CERTIFICATE", "AGE"],
            Self::Organization => vec!["NAME", "DISPLAY NAME"],
        };
        if wide {
            match self {
                Self::Device => header.extend(["APPLICATIONS", "COMMIT", "LABELS"]),
                Self::Source => header.extend(["VERIFIED", "DEVICES", "URL", "PATH", "POLLED"]),
                Self::Fleet => header.extend(["COMMIT", "DEFINED IN"]),
                Self::EnrollmentRequest => header.push("LABELS"),
                Self::Repository | Self::ResourceSync => header.push("DEFINED IN"),
                Self::Plan => header.push("BASE"),
                Self::Event | Self::TemplateVersion | Self::CertificateSigningRequest | Self::Organization => {}
            }
        }
        header
    }

    /// The table's row of one object.
    pub(crate) fn row(self, object: &Value, wide: bool, now: Timestamp) -> Vec<String> {
        let view = View { object, now };
        let mut row = match self {
            Self::Device => view.device(),
            Self::Fleet => view.fleet(),
            Self::Source => view.source(),
            Self::EnrollmentRequest => view.enrollment_request(),
            Self::Event => view.event(),
            Self::Repository => vec![
                view.name(),
                view.text("/spec/type"),
                view.first(&["/spec/url", "/spec/registry"]),
                view.or_leaving(view.condition("Accessible").0),
            ],
            Self::ResourceSync => vec![
                view.name(),
                view.text("/spec/repository"),
                view.text("/spec/targetRevision"),
                view.text("/spec/path"),
                short(&view.text("/status/observedCommit")),
                view.or_leaving(view.condition("Synced").0),
            ],
            Self::TemplateVersion => {
                vec![view.name(), view.text("/spec/fleet"), short(&view.annotation(annotations::COMMIT)), view.age()]
            }
            Self::Plan => vec![
                short(&view.name()),
                short(view.text("/status/digest").trim_start_matches("sha256:")),
                view.age(),
                view.text("/status/summary/sentence"),
            ],
            Self::CertificateSigningRequest => vec![
                view.name(),
                view.text("/metadata/owner"),
                view.text("/spec/signerName"),
                yes(view.object.pointer("/status/certificate").is_some()),
                view.age(),
            ],
            Self::Organization => vec![view.name(), view.text("/spec/displayName")],
        };
        if wide {
            row.extend(view.wide(self));
        }
        row
    }
}

/// The name of an object.
pub(crate) fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// The first 12 characters of a commit.
pub(crate) fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

struct View<'a> {
    object: &'a Value,
    now: Timestamp,
}

impl View<'_> {
    fn text(&self, pointer: &str) -> String {
        match self.object.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        }
    }

    fn first(&self, pointers: &[&str]) -> String {
        pointers.iter().map(|pointer| self.text(pointer)).find(|text| !text.is_empty()).unwrap_or_default()
    }

    fn name(&self) -> String {
        name(self.object).to_owned()
    }

    fn annotation(&self, key: &str) -> String {
        let found = self.object.pointer("/metadata/annotations").and_then(|all| all.get(key));
        found.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn labels(&self, pointer: &str) -> String {
        let labels = self.object.pointer(pointer).and_then(Value::as_object);
        let pairs =
            labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// Status and message of a condition.
    fn condition(&self, kind: &str) -> (String, String) {
        let all = self.object.pointer("/status/conditions").and_then(Value::as_array);
        let found = all.into_iter().flatten().find(|c| c["type"] == kind);
        let text = |key: &str| found.and_then(|c| c[key].as_str()).unwrap_or_default().to_owned();
        (text("status"), text("message"))
    }

    /// That the object left Git, and how long it stays in force; else `state`.
    fn or_leaving(&self, state: String) -> String {
        let until: Option<Timestamp> = self.annotation(annotations::IN_FORCE_UNTIL).parse().ok();
        until.map_or(state, |until| format!("Terminating ({})", left(until.as_second() - self.now.as_second())))
    }

    fn since(&self, pointer: &str) -> String {
        let at: Option<Timestamp> = self.text(pointer).parse().ok();
        at.map(|at| ago(self.now.as_second() - at.as_second())).unwrap_or_default()
    }

    fn age(&self) -> String {
        self.since("/metadata/creationTimestamp")
    }

    fn device(&self) -> Vec<String> {
        let reported = self.text("/status/config/renderedVersion");
        let rendered = self.annotation(annotations::RENDERED_VERSION);
        let reported = if reported.is_empty() { "0".to_owned() } else { reported };
        vec![
            self.name(),
            self.first(&["/metadata/labels/alias", "/status/systemInfo/hostname"]),
            self.text("/metadata/owner"),
            if rendered.is_empty() { reported } else { format!("{reported}/{rendered}") },
            self.text("/status/updated/status"),
            self.text("/status/summary/status"),
            self.since("/status/lastSeen"),
        ]
    }

    fn fleet(&self) -> Vec<String> {
        vec![
            self.name(),
            self.text("/metadata/owner"),
            self.annotation(annotations::TEMPLATE_VERSION),
            self.or_leaving(self.condition("Valid").0),
            self.text("/status/devicesSummary/total"),
        ]
    }

    fn source(&self) -> Vec<String> {
        let (ready, message) = self.condition("Ready");
        // A word that says more than `False`.
        let waits = ["Suspended", "Held"].into_iter().find(|kind| self.condition(kind).0 == "True");
        let (ready, message) = waits.map_or((ready, message), |kind| (kind.to_owned(), self.condition(kind).1));
        // A commit stays in force while its host is away: that is not the whole story then.
        let (reachable, why) = self.condition("SourceReachable");
        let message = if ready == "True" && reachable == "False" { why } else { message };
        vec![
            self.name(),
            self.text("/spec/revision"),
            self.text("/status/state"),
            short(&self.text("/status/observedCommit")),
            short(&self.text("/status/appliedCommit")),
            short(&self.text("/status/settledCommit")),
            self.text("/status/behindBy"),
            ready,
            message,
        ]
    }

    fn enrollment_request(&self) -> Vec<String> {
        let decision = match self.object.pointer("/status/approval/approved").and_then(Value::as_bool) {
            Some(true) => "Approved",
            Some(false) => "Denied",
            None => "Pending",
        };
        let failed = self.condition("Failed").0 == "True";
        vec![
            self.name(),
            self.first(&["/spec/labels/alias", "/spec/deviceStatus/systemInfo/hostname"]),
            if failed { "Failed".to_owned() } else { decision.to_owned() },
            self.text("/status/approval/approvedBy"),
            yes(self.object.pointer("/status/certificate").is_some()),
            self.age(),
        ]
    }

    fn event(&self) -> Vec<String> {
        vec![
            self.age(),
            self.text("/type"),
            self.text("/reason"),
            format!("{}/{}", self.text("/involvedObject/kind"), self.text("/involvedObject/name")),
            self.text("/actor"),
            self.text("/message"),
        ]
    }

    fn wide(&self, kind: Type) -> Vec<String> {
        let defined = || self.annotation("shorebase/file");
        match kind {
            Type::Device => vec![
                self.text("/status/applicationsSummary/status"),
                short(&self.annotation(annotations::COMMIT)),
                self.labels("/metadata/labels"),
            ],
            Type::Source => vec![
                short(&self.text("/status/verifiedCommit")),
                match self.text("/status/devices/total").as_str() {
                    "" => String::new(),
                    total => format!("{}/{total}", self.text("/status/devices/updated")),
                },
                self.text("/spec/url"),
                self.text("/spec/path"),
                self.since("/status/lastPolledAt"),
            ],
            Type::Fleet => vec![short(&self.annotation(annotations::COMMIT)), defined()],
            Type::EnrollmentRequest => vec![self.labels("/spec/labels")],
            Type::Repository | Type::ResourceSync => vec![defined()],
            Type::Plan => vec![short(&self.text("/spec/baseCommit"))],
            Type::Event | Type::TemplateVersion | Type::CertificateSigningRequest | Type::Organization => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_type_is_known_and_no_name_twice() {
        for kind in Type::ALL {
            for name in kind.names() {
                assert_eq!(Type::parse(name).unwrap(), kind, "{name}");
            }
        }
        assert!(Type::parse("pods").unwrap_err().to_string().contains("devices"));
    }

    #[test]
    fn rows_have_as_many_cells_as_the_header_whatever_the_object() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        for kind in Type::ALL {
            for wide in [false, true] {
                for object in
                    [serde_json::json!({}), serde_json::json!(null), serde_json::json!({"status": 3, "metadata": []})]
                {
                    assert_eq!(kind.row(&object, wide, now).len(), kind.header(wide).len(), "{kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_fleet_that_left_git_shows_how_long_it_stays() {
        let fleet = serde_json::json!({
            "metadata": {"name": "pos", "annotations": {"shorebase/in-force-until": "2001-09-09T02:45:40Z"}},
            "status": {"conditions": [{"type": "Valid", "status": "True"}]},
        });
        let valid = |seconds: i64| Type::Fleet.row(&fleet, false, Timestamp::from_second(seconds).unwrap())[3].clone();
        assert_eq!(valid(1_000_000_000), "Terminating (59m left)");
        assert_eq!(valid(1_000_000_000 + 3_600), "Terminating (0s left)");
    }

    #[test]
    fn a_device_shows_what_it_runs_and_what_it_should() {
        let device = serde_json::json!({
            "metadata": {"name": "d", "owner": "Fleet/pos", "labels": {"alias": "till-1"},
                "annotations": {"device-controller/renderedVersion": "3"}},
            "status": {"config": {"renderedVersion": "2"}, "updated": {"status": "Updating"}, "summary": {"status": "Online"},
                "lastSeen": "2001-09-09T01:46:10Z"},
        });
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        assert_eq!(
            Type::Device.row(&device, false, now),
            ["d", "till-1", "Fleet/pos", "2/3", "Updating", "Online", "30s ago"]
        );
    }
}
