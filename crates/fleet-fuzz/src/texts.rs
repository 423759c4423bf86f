//! Parsers that are called with a text as it is.

use fleet_lint::LintConfig;
use fleet_model::Labels;
use fleet_render::{Subject, Template};

use crate::text;

/// Templates: those that lint accepts are evaluated for devices with and without labels, twice with the same result.
pub(crate) fn template(data: &[u8]) {
    let text = text(data);
    let Ok(template) = Template::parse(&text) else { return };
    let labels: Labels =
        [("site", "berlin"), ("role", "relay"), ("empty", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    for labels in [Labels::new(), labels] {
        let subject = Subject { name: "r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg", labels: &labels };
        let (once, again) = (template.evaluate(&subject), template.evaluate(&subject));
        assert_eq!(format!("{once:?}"), format!("{again:?}"), "the same template says two things");
        if !text.contains("{{") {
            assert_eq!(once.ok().as_deref(), Some(&*text), "text without placeholders changed");
        }
    }
}

/// The layout of YAML: what is laid out stays as it is, and no comment is lost.
pub(crate) fn fmt(data: &[u8]) {
    let text = text(data);
    let Ok(once) = fleet_fmt::format(&text) else { return };
    assert_eq!(fleet_fmt::format(&once).as_ref(), Ok(&once), "the layout is not stable");
    // The layout may add a line feed at the end, and nothing else changes for lint's own reader either.
    let values = |text: &str| -> Vec<serde_json::Value> {
        let file = fleet_lint::parse_file("fleets/x.yaml", text.as_bytes());
        file.manifests.into_iter().map(|manifest| manifest.document).collect()
    };
    assert_eq!(values(&text), values(&once), "lint reads another manifest");
}

/// Lint's own configuration.
pub(crate) fn config(data: &[u8]) {
    let (config, findings) = LintConfig::parse(data);
    assert!(findings.iter().all(|finding| finding.line >= 1 && finding.column >= 1), "a finding without a place");
    let _ = config.is_excluded("fleets/kiosks.yaml");
}

/// Globs of paths: the first line is a pattern, the second a path.
pub(crate) fn glob(data: &[u8]) {
    let text = text(data);
    let (pattern, path) = text.split_once('\n').unwrap_or((&text, "a/b.yaml"));
    let document = serde_json::json!({ "exclude": [pattern] });
    let (config, _) = LintConfig::parse(document.to_string().as_bytes());
    assert_eq!(config.is_excluded(path), config.is_excluded(path));
}
