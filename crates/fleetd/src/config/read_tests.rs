//! The configuration as files hold it.

use super::*;
use crate::config::SecretStore;

fn none(_: &str) -> Option<String> {
    None
}

fn problems(text: &str) -> Vec<String> {
    parse(Path::new("/etc/fleetd.yaml"), text, &none).map(|_| Vec::new()).unwrap_or_else(|errors| errors.problems)
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = parse(Path::new("/etc/fleetd.yaml"), "", &none).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/fleetd"));
    assert_eq!((config.user_api.address.port(), config.agent_api.address.port()), (3443, 7443));
    assert_eq!(config.metrics_address, SocketAddr::from(([127, 0, 0, 1], 15690)));
    assert!(config.database.url.is_none() && config.auth.local && config.sources.is_empty());
    assert_eq!(config.git.polls_per_second_per_host, 100);
}

#[test]
fn every_bad_value_is_reported_at_once() {
    let found = problems(
        "dataDir: here\nlog: {format: xml, level: 'a=b=c'}\ndatabase: {url: mysql://x, maxConnections: 0}\n\
         agentApi: {address: nowhere, pollHold: 1h}\nuserApi: {certificate: /a}\n\
         auth: {local: false}\ngit: {pollInterval: 10, workerMemory: 1Mi, maxPackBytes: -1, requestTimeout: 1s, pollsPerSecondPerHost: 0, mirrors: {maxBytes: 10G, keep: 1}, credentials: [{urlPrefix: 'ftp://x'}, {urlPrefix: 'git@h:', passphraseFile: /nowhere}]}\n\
         sources: [{name: A, url: 'ftp://x/y'}, {name: b}, {name: b, url: 'https://u:p@h/x', path: '../x'}]\nsauces: []\n",
    );
    for wanted in [
        "dataDir: here is not an absolute path",
        "log.format:",
        "log.level:",
        "database.url:",
        "database.maxConnections:",
        "agentApi.address:",
        "agentApi.pollHold:",
        "userApi.key:",
        "auth.local:",
        "git.pollInterval: 10 has no unit; write 10s",
        "git.pollsPerSecondPerHost:",
        "git.mirrors.maxBytes: expected a size",
        "git.workerMemory: expected a size",
        "git.maxPackBytes: expected a size",
        "git.requestTimeout: 1s is out of range",
        "git.mirrors.keep: unknown key",
        "git.credentials[0].urlPrefix:",
        "git.credentials[1].privateKeyFile: is missing",
        "git.credentials[1].knownHostsFile: is missing",
        "git.credentials[1].passphraseFile: cannot read /nowhere",
        "sources[0].name:",
        "sources[0].url:",
        "sources[1].url: is missing",
        "sources[2].name: \"b\" is used by another source",
        "sources[2].url: holds credentials",
        "sources[2].path:",
        "sauces: unknown key; known here:",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(wanted)), "{wanted} is not in {found:#?}");
    }
    assert!(!found.iter().any(|problem| problem.contains("u:p")), "a password is shown: {found:#?}");
}

#[test]
fn the_environment_takes_the_place_of_the_file() {
    let environment = |name: &str| match name {
        "FLEETD_DATA_DIR" => Some("/data".to_owned()),
        "FLEETD_DATABASE_URL" => Some("postgres://db/fleet".to_owned()),
        "FLEETD_METRICS_ADDRESS" => Some("0.0.0.0:9000".to_owned()),
        _ => None,
    };
    let config = parse(Path::new("x.yaml"), "dataDir: /other\n", &environment).unwrap();
    assert_eq!(config.data_dir, Path::new("/data"));
    assert_eq!(config.database.url.as_deref().map(String::as_str), Some("postgres://db/fleet"));
    assert_eq!(config.metrics_address.port(), 9000);
}

#[test]
fn broken_yaml_names_line_and_column() {
    assert!(problems("a: [1\nb: 2").iter().any(|problem| problem.contains("line 2")));
    assert!(problems("- a\n").iter().any(|problem| problem == "the document: expected a mapping, found a list"));
}

#[test]
fn the_database_url_does_not_print() {
    let config = parse(Path::new("x"), "database: {url: 'postgres://u:geheim@h/d'}", &none).unwrap();
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn secrets_come_from_one_store() {
    let config = |text: &str| parse(Path::new("/etc/fleetd.yaml"), text, &none).unwrap().secrets;
    assert_eq!(config(""), None);
    let files = config("secrets: {directory: secrets, namespaces: [ops], pollInterval: 5s}").unwrap();
    assert_eq!(files.store, SecretStore::Directory("/etc/secrets".into()));
    assert_eq!((files.namespaces, files.poll_interval), (BTreeSet::from(["ops".to_owned()]), Duration::from_secs(5)));
    let cluster = config("secrets: {kubernetes: true}").unwrap();
    assert_eq!((cluster.store, cluster.poll_interval), (SecretStore::Kubernetes, Duration::from_secs(60)));
    for (text, wanted) in [
        ("secrets: {}", "secrets.directory: is missing; say where secrets come from"),
        ("secrets: {directory: /a, kubernetes: true}", "secrets.kubernetes: directory is given too"),
        ("secrets: {directory: /a, namespaces: []}", "secrets.namespaces: is empty"),
        ("secrets: {directory: /a, namespaces: ['../b']}", "secrets.namespaces: "),
        ("secrets: {directory: /a, pollInterval: 10}", "secrets.pollInterval: 10 has no unit"),
        ("secrets: {directory: /a, vault: b}", "secrets.vault: unknown key"),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{wanted} is not {found:#?}");
    }
}
