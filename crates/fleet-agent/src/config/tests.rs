//! Good files are read whole, bad ones told whole.

use std::fs;

use proptest::prelude::*;

use super::*;

fn b64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn minimal() -> String {
    let (ca, cert, key) =
        ("-----BEGIN CERTIFICATE-----\nca", "-----BEGIN CERTIFICATE-----\nx", "-----BEGIN PRIVATE KEY-----\ny");
    format!(
        "enrollment-service:\n  authentication: {{client-certificate-data: {}, client-key-data: {}}}\n  \
         service: {{server: 'https://fleet.example:7443/', certificate-authority-data: {}}}\n  \
         enrollment-ui-endpoint: https://ui.example/\n",
        b64(cert),
        b64(key),
        b64(ca)
    )
}

fn load(text: &str, drop_ins: &[(&str, &str)]) -> Result<AgentConfig, ConfigError> {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/fleet-agent/conf.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(root.path().join("etc/fleet-agent/config.yaml"), text).unwrap();
    for (name, text) in drop_ins {
        fs::write(directory.join(name), text).unwrap();
    }
    AgentConfig::load(root.path(), None)
}

#[test]
fn a_minimal_file_is_enough_and_secrets_do_not_print() {
    let config = load(&minimal(), &[]).unwrap();
    assert_eq!(config.enrollment.server, "https://fleet.example:7443");
    assert_eq!(config.management, config.enrollment);
    assert_eq!((config.timings, config.log_level.as_str()), (Timings::default(), "info"));
    assert_eq!(config.enrollment_ui_endpoint, "https://ui.example");
    assert!(!format!("{:?}", config.enrollment_identity).contains("PRIVATE"));
}

#[test]
fn our_part_and_drop_ins_are_read() {
    let text = format!(
        "{}status-update-interval: 5s\ndefault-labels: {{site: berlin}}\npull-timeout: 10m\nshorebase:\n  \
         reload-units: {{/etc/chrony/: chronyd.service}}\n  drift-check-interval: 1m30s\n",
        minimal()
    );
    let drop_ins =
        [("10-a.yaml", "log-level: debug\n"), ("20-b.yaml", "log-level: warn\nserver: x\n"), ("30-c.yaml", "[")];
    let config = load(&text, &drop_ins).unwrap();
    assert_eq!(config.log_level, "warn");
    assert_eq!(config.timings.drift_check_interval, Duration::from_secs(90));
    assert_eq!(config.timings.status_update_interval, Duration::from_secs(5));
    assert_eq!(config.reload_rules, [ReloadRule { path: "/etc/chrony".into(), unit: "chronyd.service".into() }]);
    assert_eq!(config.default_labels["site"], "berlin");
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
}

#[test]
fn all_bad_values_are_told_at_once_with_their_keys() {
    let text = "enrollment-service:\n  authentication: {client-certificate-data: '%%', client-key: /missing.key}\n  \
         service: {server: 'ftp://x', certificate-authority-data: YWJj, tls-server-name: y}\n\
         status-update-interval: 1s\nlog-level: '=x='\nlog-levle: debug\ndefault-labels: {'-a': b, c: 1}\ntpm: {enabled: true}\n\
         spec-fetch-error-base-delay: 10m\nshorebase: {reload-units: {etc: x.service, /etc/a: 'rm -rf'}, poll-timeout: soon}\n";
    let told = load(text, &[]).unwrap_err().to_string();
    for part in [
        "config.yaml",
        "enrollment-service.authentication.client-certificate-data is not base64",
        "client-key: there is no file /missing.key",
        "enrollment-service.service.server: \"ftp://x\"",
        "certificate-authority is not PEM",
        "enrollment-service.service.tls-server-name is not a known key",
        "status-update-interval: \"1s\" is shorter",
        "log-level: log filter \"=x=\" is not valid",
        "log-levle is not a known key",
        "default-labels.-a",
        "default-labels.c: is not a text",
        "tpm.enabled",
        "spec-fetch-error-base-delay is longer than",
        "shorebase.reload-units: path \"etc\" is not absolute",
        "\"rm -rf\" is not the name of a unit",
        "shorebase.poll-timeout: \"soon\"",
    ] {
        assert!(told.contains(part), "{part}\nnot in\n{told}");
    }
    let missing = load("{}", &[]).unwrap_err().to_string();
    assert!(missing.contains("enrollment-service is missing"), "{missing}");
}

#[test]
fn a_drop_in_with_a_wrong_value_is_passed_over_whole_and_the_others_count() {
    let text = format!("{}log-level: warn\nshorebase: {{poll-timeout: 2m}}\n", minimal());
    let bad = [
        "log-level: 5\n",
        "log-level: '=x='\nstatus-update-interval: 9s\n",
        "shorebase: {future-key: 1}\n",
        "shorebase: none\n",
        "shorebase: {poll-timeout: soon}\n",
        "default-labels: {'-a': b}\n",
        "spec-fetch-error-base-delay: 10m\n",
    ];
    for drop_in in bad {
        let alone = load(&text, &[("10-a.yaml", drop_in)]).unwrap();
        let [warning] = alone.warnings.as_slice() else { panic!("{drop_in}: {:?}", alone.warnings) };
        assert!(warning.contains("conf.d/10-a.yaml is passed over: "), "{warning}");
        let good = "status-update-interval: 7s\n";
        let among = load(&text, &[("05-a.yaml", good), ("10-b.yaml", drop_in), ("20-c.yaml", "log-level: debug\n")]);
        let among = among.unwrap();
        assert_eq!((among.log_level.as_str(), alone.log_level.as_str()), ("debug", "warn"), "{drop_in}");
        assert_eq!(among.timings.status_update_interval, Duration::from_secs(7), "{drop_in}");
        assert_eq!(among.timings.poll_timeout, Duration::from_secs(120), "{drop_in}");
        assert_eq!(among.timings.error_delay, Timings::default().error_delay, "{drop_in}");
        assert!(among.default_labels.is_empty());
    }
    // What is wrong in the file itself stays an error, and is told once, unless a drop-in sets it right.
    let wrong = format!("{}log-level: 5\n", minimal());
    assert!(load(&wrong, &[("10-a.yaml", "status-update-interval: 7s\n")]).is_err());
    assert_eq!(load(&wrong, &[("10-a.yaml", "log-level: warn\n")]).unwrap().log_level, "warn");
}

#[test]
fn drop_ins_add_to_our_part_key_by_key() {
    let text = format!(
        "{}shorebase: {{poll-timeout: 2m, drift-check-interval: 3m, reload-units: {{/etc/a: a.service}}}}\n",
        minimal()
    );
    let drop_ins =
        [("10-a.yaml", "shorebase: {drift-check-interval: 4m}\n"), ("20-b.yaml", "shorebase:\n"), ("30-c.yaml", "")];
    let config = load(&text, &drop_ins).unwrap();
    assert_eq!(config.timings.poll_timeout, Duration::from_secs(120));
    assert_eq!(config.timings.drift_check_interval, Duration::from_secs(240));
    assert_eq!((config.reload_rules.len(), config.warnings.len()), (1, 0), "{:?}", config.warnings);
}

#[test]
fn a_missing_file_says_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let told = AgentConfig::load(root.path(), None).unwrap_err().to_string();
    assert!(told.contains("/etc/fleet-agent/config.yaml") && told.contains("--config"), "{told}");
    assert!(AgentConfig::load(root.path(), Some("relative.yaml")).unwrap_err().to_string().contains("absolute"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_makes_it_panic(tail in "[a-z{}:,\\[\\]&*<\n -]{0,60}") {
        let _ = load(&format!("{}{tail}", minimal()), &[]);
        let _ = load(&tail, &[("a.yaml", &tail)]);
    }
}
