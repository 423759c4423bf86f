//! The types and the schemas agree: what the types write the schemas accept, and what the schemas accept is decoded.

use std::collections::BTreeMap;

use fleet_lint::parse_file;
use fleet_model::{
    AlertRule, AlertSeverity, Application, ApplicationFile, ApplicationResources, ApplicationVolume, CatalogItemRef,
    ComposeApplication, ConfigProvider, ConfigSource, ContainerApplication, ContentEncoding, DeviceSpec, DiskMonitor,
    FileSpec, GitRef, HelmApplication, HttpRef, LoadMonitor, OsSpec, PullPolicy, QuadletApplication, ReclaimPolicy,
    ResourceLimits, ResourceMonitor, SecretRef, SystemdSpec, UpdatePolicy, UpdateSchedule, VmApplication, VolumeImage,
    VolumeMount,
};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Value, json};

fn text() -> BoxedStrategy<String> {
    prop_oneof!["[a-z]{1,6}", "/[a-z]{1,6}(/[a-z]{1,3}){0,2}", "[ -~ä]{0,12}", "[0-9]{1,2}[smh%]"].boxed()
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[A-Za-z_]{1,5}", text(), 0..3)
}

fn item() -> impl Strategy<Value = CatalogItemRef> {
    (text(), text(), text(), of(text())).prop_map(|(catalog, item, version, channel)| CatalogItemRef {
        catalog,
        item,
        version,
        channel,
    })
}

fn files() -> impl Strategy<Value = Vec<ApplicationFile>> {
    let encoding = of(prop_oneof![Just(ContentEncoding::Plain), Just(ContentEncoding::Base64)]);
    let file = (text(), of(text()), encoding).prop_map(|(path, content, content_encoding)| ApplicationFile {
        path,
        content,
        content_encoding,
    });
    vec(file, 0..3)
}

fn volumes() -> impl Strategy<Value = Vec<ApplicationVolume>> {
    let pull = of(prop_oneof![Just(PullPolicy::Always), Just(PullPolicy::IfNotPresent), Just(PullPolicy::Never)]);
    let image = (of(text()), of(item()), pull).prop_map(|(reference, catalog_item_ref, pull_policy)| VolumeImage {
        reference,
        catalog_item_ref,
        pull_policy,
    });
    let mount = text().prop_map(|path| VolumeMount { path });
    let volume = (text(), of(Just(ReclaimPolicy::Retain)), of(image), of(mount))
        .prop_map(|(name, reclaim_policy, image, mount)| ApplicationVolume { name, reclaim_policy, image, mount });
    vec(volume, 0..2)
}

fn values() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        text().prop_map(Value::from)
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map("[a-z]{1,3}", inner, 0..3).prop_map(|fields| json!(fields))
        ]
    });
    btree_map("[a-z]{1,3}", value, 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn application() -> impl Strategy<Value = Application> {
    let common = (of(text()), of(text()), of(item()), of(files()), of(texts()), of(text()), of(volumes()));
    let limits = of((of(text()), of(text())).prop_map(|(cpu, memory)| ResourceLimits { cpu, memory }));
    let own = (
        of(vec(text(), 0..3)),
        of(limits.prop_map(|limits| ApplicationResources { limits })),
        of(text()),
        of(values()),
    );
    (0..5, common, own).prop_map(|(kind, common, (list, resources, namespace, values))| {
        let (name, image, catalog_item_ref, inline, env_vars, run_as, volumes) = common;
        match kind {
            0 => Application::Compose(ComposeApplication {
                name,
                image,
                catalog_item_ref,
                inline,
                env_vars,
                volumes,
                ..Default::default()
            }),
            1 => Application::Quadlet(QuadletApplication {
                name,
                image,
                catalog_item_ref,
                inline,
                env_vars,
                run_as,
                volumes,
                ..Default::default()
            }),
            2 => Application::Container(ContainerApplication {
                name,
                image,
                catalog_item_ref,
                env_vars,
                run_as,
                volumes,
                ports: list,
                resources,
                ..Default::default()
            }),
            3 => Application::Helm(HelmApplication {
                name,
                image,
                catalog_item_ref,
                namespace,
                values,
                values_files: list,
                ..Default::default()
            }),
            _ => Application::Vm(VmApplication { name, image, inline, publish_ports: list, ..Default::default() }),
        }
    })
}

fn monitor() -> impl Strategy<Value = ResourceMonitor> {
    let severity = prop_oneof![Just(AlertSeverity::Info), Just(AlertSeverity::Warning), Just(AlertSeverity::Critical)];
    let percentage = prop_oneof![
        (0..=100_u32).prop_map(serde_json::Number::from),
        (0.0..100.0_f64).prop_map(|number| serde_json::Number::from_f64(number).unwrap()),
    ];
    let rule = (severity, text(), percentage, text()).prop_map(|(severity, duration, percentage, description)| {
        AlertRule { severity, duration, percentage, description }
    });
    (0..3, text(), text(), vec(rule, 0..3)).prop_map(|(kind, path, sampling_interval, alert_rules)| match kind {
        0 => ResourceMonitor::Cpu(LoadMonitor { sampling_interval, alert_rules }),
        1 => ResourceMonitor::Memory(LoadMonitor { sampling_interval, alert_rules }),
        _ => ResourceMonitor::Disk(DiskMonitor { path, sampling_interval, alert_rules }),
    })
}

fn provider() -> impl Strategy<Value = ConfigProvider> {
    let encoding = of(prop_oneof![Just(ContentEncoding::Plain), Just(ContentEncoding::Base64)]);
    let file = (text(), text(), encoding, of(0..0o7777_u32), of(text()), of(text())).prop_map(
        |(path, content, content_encoding, mode, user, group)| FileSpec {
            path,
            content,
            content_encoding,
            mode,
            user,
            group,
        },
    );
    let source = prop_oneof![
        vec(file, 0..3).prop_map(ConfigSource::Inline),
        (text(), of(text()), text()).prop_map(|(repository, target_revision, path)| ConfigSource::GitRef(GitRef {
            repository,
            target_revision,
            path
        })),
        (text(), of(text()), text()).prop_map(|(repository, suffix, file_path)| ConfigSource::HttpRef(HttpRef {
            repository,
            suffix,
            file_path
        })),
        (text(), text(), text(), of(text()), of(text())).prop_map(|(name, namespace, mount_path, user, group)| {
            ConfigSource::SecretRef(SecretRef { name, namespace, mount_path, user, group })
        }),
    ];
    (text(), source).prop_map(|(name, source)| ConfigProvider { name, source })
}

fn spec() -> impl Strategy<Value = DeviceSpec> {
    let os = (of(text()), of(item())).prop_map(|(image, catalog_item_ref)| OsSpec { image, catalog_item_ref });
    let schedule = (text(), of(text()), text()).prop_map(|(at, time_zone, start_grace_duration)| UpdateSchedule {
        at,
        time_zone,
        start_grace_duration,
    });
    let update_policy = (of(schedule.clone()), of(schedule))
        .prop_map(|(download_schedule, update_schedule)| UpdatePolicy { download_schedule, update_schedule });
    let systemd = of(vec(text(), 0..3)).prop_map(|match_patterns| SystemdSpec { match_patterns });
    let parts = (
        of(os),
        of(vec(provider(), 0..3)),
        of(vec(application(), 0..3)),
        of(systemd),
        of(vec(monitor(), 0..3)),
        of(update_policy),
    );
    parts.prop_map(|(os, config, applications, systemd, resources, update_policy)| DeviceSpec {
        os,
        config,
        applications,
        systemd,
        resources,
        update_policy,
        ..DeviceSpec::default()
    })
}

fn fleet_of(spec: &Value) -> Value {
    json!({
        "apiVersion": "flightctl.io/v1beta1", "kind": "Fleet", "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": spec}},
    })
}

/// Documents that use every field, one per kind.
fn documents() -> Vec<Value> {
    let image = json!({"reference": "quay.io/a/b:1", "pullPolicy": "Never"});
    let rules = json!([{"severity": "Info", "duration": "1m", "percentage": 5.5, "description": "x"}]);
    let spec = json!({
        "os": {"image": "quay.io/a/b:1"},
        "config": [
            {"name": "a", "inline": [{"path": "/a", "content": "x", "contentEncoding": "plain", "mode": 420, "user": "a", "group": "b"}]},
            {"name": "b", "gitRef": {"repository": "r", "targetRevision": "main", "path": "x"}},
            {"name": "c", "httpRef": {"repository": "h", "suffix": "/x", "filePath": "/c"}},
            {"name": "d", "secretRef": {"name": "s", "namespace": "n", "mountPath": "/d", "user": "a", "group": "b"}},
        ],
        "applications": [
            {"appType": "compose", "name": "a", "inline": [{"path": "docker-compose.yaml", "content": "services: {}"}], "envVars": {"A": "b"}},
            {"appType": "quadlet", "name": "b", "image": "quay.io/a/b:1", "runAs": "u", "volumes": [{"name": "v", "image": image}]},
            {"appType": "container", "name": "c", "image": "quay.io/a/b:1", "ports": ["1:2"], "resources": {"limits": {"cpu": "1", "memory": "1m"}},
             "volumes": [{"name": "v", "reclaimPolicy": "Retain", "mount": {"path": "/v"}}]},
            {"appType": "helm", "name": "d", "catalogItemRef": {"catalog": "c", "item": "i", "version": "v", "channel": "s"}, "namespace": "n", "values": {"a": [1]}, "valuesFiles": ["a.yaml"]},
            {"appType": "vm", "name": "e", "image": "quay.io/a/b:1", "publishPorts": ["1:2/udp"]},
        ],
        "systemd": {"matchPatterns": ["a.service"]},
        "resources": [
            {"monitorType": "CPU", "samplingInterval": "1s", "alertRules": rules},
            {"monitorType": "Disk", "path": "/", "samplingInterval": "1s", "alertRules": rules},
        ],
        "updatePolicy": {"updateSchedule": {"at": "0 1 * * *", "timeZone": "UTC", "startGraceDuration": "1h"}},
    });
    let mut fleet = fleet_of(&spec);
    fleet["spec"]["rolloutPolicy"] = json!({
        "deviceSelection": {"strategy": "BatchSequence", "sequence": [
            {"selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}, "limit": 1, "successThreshold": "5%"}, {"limit": "5%"},
        ]},
        "disruptionBudget": {"groupBy": ["a"], "minAvailable": 1, "maxUnavailable": 1},
        "successThreshold": "90%", "defaultUpdateTimeout": "1h",
    });
    let of_kind = |kind: &str, version: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": spec});
    let peer = "flightctl.io/v1beta1";
    vec![
        fleet,
        of_kind(
            "Repository",
            peer,
            json!({"type": "git", "url": "https://h/r", "httpConfig": {"skipServerVerification": true}}),
        ),
        of_kind("Repository", peer, json!({"type": "http", "url": "https://h", "validationSuffix": "/x"})),
        of_kind(
            "Repository",
            peer,
            json!({"type": "oci", "registry": "h:1", "scheme": "http", "accessMode": "Read", "ociAuth": {"authType": "docker", "username": "u", "password": "p"}, "baseImages": [{"imageName": "a", "tags": ["1"], "displayName": "x"}]}),
        ),
        of_kind(
            "ResourceSync",
            peer,
            json!({"type": "fleet", "repository": "r", "targetRevision": "main", "path": "x"}),
        ),
        of_kind(
            "SyncPolicy",
            "shorebase/v1alpha1",
            json!({"sources": ["a"], "limits": {"removedFleets": {"count": 1, "percent": 1}, "changedDevicesWithoutRollout": {"percent": 1}}, "forcedPush": "Hold", "deletionGracePeriod": "1h"}),
        ),
        of_kind(
            "EnrollmentPolicy",
            "shorebase/v1alpha1",
            json!({"rules": [{"match": {"serialNumbers": ["a"]}, "labels": {"a": "b"}}]}),
        ),
    ]
}

/// The values below `value`, in order.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| pointers(item, &format!("{at}/{n}"), found))
        }
        Value::Object(fields) => fields.iter().for_each(|(key, field)| pointers(field, &format!("{at}/{key}"), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Values to put in the place of others.
fn odd_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(4_294_967_296_u64),
        json!(1e300),
        json!(""),
        json!("{{"),
        json!("{{ .metadata.labels.a }}"),
        json!("a b"),
        json!("docker"),
        json!("x".repeat(5_000)),
        json!([]),
        json!([null]),
        json!([{}]),
        json!({}),
        json!({"a": 1}),
        json!({"catalog": "a", "item": "b", "version": "c"}),
    ]
}

fn check(document: &Value) -> Result<(), TestCaseError> {
    let file = parse_file("a.json", document.to_string().as_bytes());
    for diagnostic in &file.diagnostics {
        prop_assert_ne!(&diagnostic.code, "SB0308", "the schema lets through what the types refuse: {}", diagnostic);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_types_write_is_read_again_and_known_to_the_schema(spec in spec()) {
        let written = serde_json::to_value(&spec).unwrap();
        let read: DeviceSpec = serde_json::from_value(written.clone()).unwrap();
        prop_assert_eq!(&read, &spec);
        prop_assert_eq!(serde_json::to_value(&read).unwrap().to_string(), written.to_string());
        let file = parse_file("a.json", fleet_of(&written).to_string().as_bytes());
        for diagnostic in &file.diagnostics {
            let of_shape = matches!(diagnostic.code.as_str(), "SB0301" | "SB0303" | "SB0304" | "SB0308");
            prop_assert!(!of_shape, "{diagnostic}\n{written}");
        }
    }

    #[test]
    fn edited_documents_never_panic_and_never_slip_past_the_schema(
        document in 0..7_usize,
        edits in vec((any::<prop::sample::Index>(), 0..4_usize, proptest::sample::select(odd_values())), 1..5),
    ) {
        let mut document = documents().swap_remove(document);
        check(&document)?;
        for (at, edit, odd) in edits {
            let mut places = Vec::new();
            pointers(&document, "", &mut places);
            let place = at.get(&places).clone();
            let parent = place.rsplit_once('/').map(|(above, name)| (above.to_owned(), name.to_owned()));
            match (edit, document.pointer_mut(&place)) {
                (0, Some(Value::Object(fields))) => drop(fields.insert("extra".to_owned(), odd)),
                (1, _) => if let Some((above, name)) = parent
                    && let Some(Value::Object(fields)) = document.pointer_mut(&above) {
                    fields.remove(&name);
                }
                (2, _) => if let Some((above, name)) = parent
                    && let Some(Value::Object(fields)) = document.pointer_mut(&above)
                    && let Some(moved) = fields.remove(&name) {
                    fields.insert(format!("{name}x"), moved);
                }
                (_, Some(value)) => *value = odd,
                (_, None) => {}
            }
        }
        check(&document)?;
    }
}
