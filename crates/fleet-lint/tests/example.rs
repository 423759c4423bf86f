//! The example repository is clean, and does what its README says.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use fleet_lint::{LintConfig, check_tree, is_candidate, parse_file};
use fleet_model::{ConfigSource, Labels, Manifest, SystemInfo};
use fleet_render::{Subject, Template};

fn files(directory: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, root, found);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_example_repository_is_clean() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../example-fleet-repo");
    let mut all = BTreeMap::new();
    files(&root, &root, &mut all);
    let paths: BTreeSet<String> = all.keys().cloned().collect();
    let parsed = all
        .iter()
        .filter(|(path, _)| is_candidate(path))
        .map(|(path, bytes)| (path.clone(), Arc::new(parse_file(path, bytes))))
        .collect();
    let report = check_tree(&parsed, Some(&paths), &LintConfig::default());
    assert_eq!(report.diagnostics, []);
    assert_eq!(
        report.config_paths,
        ["config/gateway", "config/kiosk", "config/till", "config/till/base"].map(str::to_owned).into()
    );
    for place in &report.config_paths {
        assert!(paths.iter().any(|path| path.starts_with(&format!("{place}/"))), "{place} has a file");
    }

    let fleets_of = |labels: &Labels| -> Vec<String> {
        let fleets = report.manifests.iter().filter_map(|placed| {
            let Manifest::Fleet(fleet) = placed.manifest() else { return None };
            Some(fleet)
        });
        fleets
            .filter(|fleet| fleet.spec.selector.as_ref().is_some_and(|selector| selector.matches(labels)))
            .map(|fleet| fleet.metadata.name.clone().unwrap())
            .collect()
    };
    let policy = report
        .manifests
        .iter()
        .find_map(|placed| {
            let Manifest::EnrollmentPolicy(policy) = placed.manifest() else { return None };
            Some(policy)
        })
        .unwrap();
    let machine = |hostname: &str| SystemInfo {
        more: [("hostname".to_owned(), hostname.into())].into(),
        ..SystemInfo::default()
    };
    let name = "r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg";
    for hostname in ["kiosk-1", "kiosk-2"] {
        let rule = policy.spec.first_match(name, &machine(hostname)).expect("kiosks enrol by themselves");
        assert_eq!(fleets_of(&rule.labels), ["kiosks"]);
    }
    assert_eq!(policy.spec.first_match(name, &machine("gateway-1")), None);
    assert_eq!(fleets_of(&labels(&[("role", "gateway")])), ["gateways"]);
    // The quickstart's devices run our agent in a directory: what it cannot run is in a fleet that none of them joins.
    for placed in &report.manifests {
        let Manifest::Fleet(fleet) = placed.manifest() else { continue };
        let spec = &fleet.spec.template.spec;
        let is_config_only = spec.os.is_none()
            && spec.applications.is_none()
            && spec.systemd.is_none()
            && spec.resources.is_none()
            && spec.update_policy.is_none();
        assert_eq!(is_config_only, fleet.metadata.name.as_deref() != Some("tills"));
    }

    let mut rendered = Vec::new();
    for placed in &report.manifests {
        let Manifest::Fleet(fleet) = placed.manifest() else { continue };
        for provider in fleet.spec.template.spec.config.iter().flatten() {
            let ConfigSource::Inline(files) = &provider.source else { continue };
            for labels in [labels(&[]), labels(&[("site", "berlin"), ("role", "relay")])] {
                let subject = Subject { name, labels: &labels };
                rendered.extend(files.iter().map(|f| Template::parse(&f.content).unwrap().evaluate(&subject).unwrap()));
            }
        }
    }
    let wanted = [
        format!("device={name}\nsite=unknown\nmode=gateway\n"),
        format!("device={name}\nsite=berlin\nmode=relay\n"),
        format!("device={name}\nsite=unknown\ngreeting=Welcome to OUR SHOP\n"),
        format!("device={name}\nsite=berlin\ngreeting=Welcome to BERLIN\n"),
    ];
    assert_eq!(rendered, wanted);
}

#[test]
fn schema_comments_name_files_of_this_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../example-fleet-repo");
    let mut all = BTreeMap::new();
    files(&root, &root, &mut all);
    let mut seen = 0;
    for (path, bytes) in &all {
        let text = String::from_utf8_lossy(bytes);
        let Some(rest) = text.strip_prefix("# yaml-language-server: $schema=") else { continue };
        let schema = root.join(path).parent().unwrap().join(rest.lines().next().unwrap());
        assert!(schema.is_file(), "{path}: {}", schema.display());
        seen += 1;
    }
    assert!(seen >= 8, "{seen} comments");
}
