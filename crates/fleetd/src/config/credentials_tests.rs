//! Credentials as configuration, files, variables and directories hold them.

use std::fs;

use super::*;

const SECRET: &str = "hunter2";

fn environment(name: &str) -> Option<String> {
    (name == "GIT_SECRET").then(|| SECRET.to_owned())
}

/// What is read from a `git` section whose files lie in `beside`. No problem shows the secret.
fn read(text: &str, beside: &Path) -> Result<Vec<GitCredential>, Vec<String>> {
    let problems: Problems = Rc::new(RefCell::new(Vec::new()));
    let mut section = Fields::new("git", serde_yaml::from_str(text).unwrap(), &problems);
    let files = CredentialFiles::take(&mut section, beside);
    section.finish();
    assert_eq!(problems.take(), Vec::<String>::new());
    let found = files.read(&environment);
    assert!(!format!("{found:?} {files:?}").contains(SECRET), "{found:?}");
    found
}

fn place(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

#[test]
fn every_secret_may_come_from_a_file_or_a_variable() {
    let beside = place(&[("secret", "hunter2\n"), ("pem", "PEM\n")]);
    let read = |text: &str| read(text, beside.path()).unwrap().remove(0);
    let basic = |way: &str| read(&format!("credentials: [{{urlPrefix: 'https://h/', username: u, {way}}}]")).https.auth;
    assert_eq!(basic("passwordFile: secret"), basic("passwordEnv: GIT_SECRET"));
    let bearer = |way: &str| read(&format!("credentials: [{{name: bot, urlPrefix: 'https://h/', {way}}}]"));
    assert_eq!(bearer("tokenFile: secret"), bearer("tokenEnv: GIT_SECRET"));
    assert_eq!(bearer("tokenFile: secret").https.auth, RemoteAuth::Bearer { token: Secret::new(SECRET) });
    assert_eq!(bearer("tokenFile: secret").name.as_deref(), Some("bot"));
    let client = |way: &str| {
        read(&format!("credentials: [{{urlPrefix: 'https://h/', clientCertificateFile: pem, {way}}}]"))
            .https
            .client_certificate
    };
    assert_eq!(client("clientKeyFile: secret"), client("clientKeyEnv: GIT_SECRET"));
    assert_eq!(client("clientKeyFile: secret").unwrap().key_pem, Secret::new(SECRET));
    let proxy = |way: &str| {
        let https =
            read(&format!("credentials: [{{urlPrefix: 'https://h/', proxyUrl: 'http://u@p:3128', {way}}}]")).https;
        (https.proxy, https.proxy_password)
    };
    assert_eq!(proxy("proxyPasswordFile: secret"), proxy("proxyPasswordEnv: GIT_SECRET"));
    let ssh = |way: &str| read(&format!("credentials: [{{urlPrefix: 'git@h:', knownHostsFile: pem, {way}}}]")).ssh;
    assert_eq!(
        ssh("privateKeyFile: secret, passphraseFile: secret"),
        ssh("privateKeyEnv: GIT_SECRET, passphraseEnv: GIT_SECRET")
    );
}

#[test]
fn a_directory_of_directories_gives_one_named_credential_each() {
    let beside = place(&[
        ("all/web/url-prefix", "https://h/\n"),
        ("all/web/username", "u\n"),
        ("all/web/password", "hunter2\n"),
        ("all/web/ca.crt", "CA"),
        ("all/web/tls.crt", "CERT"),
        ("all/web/tls.key", "hunter2"),
        ("all/web/proxy-url", "http://u@p:3128"),
        ("all/web/proxy-password", "hunter2"),
        ("all/web/skip-server-verification", "true"),
        ("all/ssh/url-prefix", "git@h:"),
        ("all/ssh/ssh-privatekey", "hunter2"),
        ("all/ssh/passphrase", "hunter2"),
        ("all/ssh/known_hosts", "h ssh-ed25519 A"),
        ("all/.hidden/token", "hunter2"),
    ]);
    let found = read("{credentialsDirectory: all, credentials: [{urlPrefix: 'https://x/'}]}", beside.path()).unwrap();
    let names: Vec<_> = found.iter().map(|credential| credential.name.as_deref()).collect();
    assert_eq!(names, [None, Some("ssh"), Some("web")]);
    assert_eq!(found[1].ssh.private_key, Some(Secret::new(SECRET)));
    assert_eq!((found[2].url_prefix.as_str(), found[2].https.skip_verify), ("https://h/", true));
    assert_eq!(found[2].https.proxy_password, Some(Secret::new(SECRET)));
    assert_eq!(found[2].https.client_certificate.as_ref().unwrap().key_pem, Secret::new(SECRET));
}

#[test]
fn a_secret_that_is_replaced_is_read_again_and_a_bad_one_is_told() {
    let beside = place(&[("all/web/url-prefix", "https://h/"), ("all/web/token", "first"), ("file", "first")]);
    let problems: Problems = Rc::default();
    let text = "{credentialsDirectory: all, credentials: [{urlPrefix: 'https://x/', tokenFile: file}]}";
    let mut section = Fields::new("git", serde_yaml::from_str(text).unwrap(), &problems);
    let files = CredentialFiles::take(&mut section, beside.path());
    let tokens = || {
        files
            .read(&environment)
            .map(|found| found.into_iter().map(|credential| credential.https.auth).collect::<Vec<_>>())
    };
    let bearer = |token: &str| RemoteAuth::Bearer { token: Secret::new(token) };
    assert_eq!(tokens(), Ok(vec![bearer("first"), bearer("first")]));
    fs::write(beside.path().join("file"), "second").unwrap();
    fs::write(beside.path().join("all/web/token"), "third").unwrap();
    assert_eq!(tokens(), Ok(vec![bearer("second"), bearer("third")]));
    fs::write(beside.path().join("all/web/token"), "").unwrap();
    assert!(tokens().unwrap_err()[0].ends_with("all/web/token: is empty"));
    fs::remove_file(beside.path().join("file")).unwrap();
    assert_eq!(tokens().unwrap_err().len(), 2);
}

#[test]
fn what_does_not_belong_together_is_told_at_once() {
    let beside = place(&[
        ("hunter", "hunter2"),
        ("all/a/url-prefix", "https://h"),
        ("all/b/token", "hunter2"),
        ("all/c/url-prefix", "https://h/"),
        ("all/c/tls.key", "hunter2"),
        ("all/c/tokn", "hunter2"),
        ("all/c/skip-server-verification", "hunter2"),
        ("all/d/url-prefix", "https://h/"),
        ("all/d/known_hosts", "h"),
        ("all/file", "x"),
        ("all/NAME/url-prefix", "https://h/"),
    ]);
    std::os::unix::fs::symlink(beside.path().join("hunter"), beside.path().join("all/d/token")).unwrap();
    let found = read(
        "{credentialsDirectory: all, credentials: [
          {name: a, urlPrefix: 'https://h/', tokenFile: hunter, tokenEnv: GIT_SECRET},
          {name: a, urlPrefix: 'https://h/', tokenEnv: NONE},
          {name: 'A b', urlPrefix: 'https://h/'},
          {urlPrefix: 'https://h/', clientCertificateFile: hunter},
          {urlPrefix: 'https://h/', clientKeyFile: hunter},
          {urlPrefix: 'git@h:', privateKeyFile: hunter, knownHostsFile: hunter, proxyUrl: 'http://p:1', clientCertificateFile: hunter},
          {urlPrefix: 'https://h/', proxyUrl: 'http://u:hunter2@p:1'},
          {urlPrefix: 'https://h/', proxyUrl: 'socks5://p:1'},
          {urlPrefix: 'https://h/', proxyPasswordFile: hunter},
          {urlPrefix: 'https://h/', proxyUrl: 'http://p:1', proxyPasswordFile: hunter},
          {urlPrefix: 'https:///'}, {urlPrefix: 'git@:'}, {urlPrefix: \"https://h/\\nx/\"},
          {urlPrefix: 'https://h/', privateKeyFile: hunter},
          {urlPrefix: 'https://h/', password: hunter2}
        ]}",
        beside.path(),
    );
    let found = found.unwrap_err();
    for wanted in [
        "git.credentials[0].tokenEnv: tokenFile is given too",
        "git.credentials[1].tokenEnv: the environment variable NONE is not set",
        "git.credentials[2].name: must be a name",
        "git.credentials[3].clientKeyFile: is missing",
        "git.credentials[4].clientCertificateFile: is missing",
        "git.credentials[5].clientCertificateFile: belongs to an https:// prefix",
        "git.credentials[5].proxyUrl: belongs to an https:// prefix",
        "git.credentials[6].proxyUrl: must be http://",
        "git.credentials[7].proxyUrl: must be http://",
        "git.credentials[8].proxyUrl: is missing",
        "git.credentials[9].proxyUrl: names no user",
        "git.credentials[10].urlPrefix: must name a host",
        "git.credentials[11].urlPrefix: must name a host",
        "git.credentials[12].urlPrefix: must name a host",
        "git.credentials[13].privateKeyFile: this key",
        "git.credentials[14].password: unknown key",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(wanted)), "{wanted} is not in {found:#?}");
    }
    for wanted in [
        "all/a/url-prefix: must name a host",
        "all/b/url-prefix: is missing",
        "all/c/tls.crt: is missing",
        "all/c/tokn: unknown file",
        "all/c/skip-server-verification: expected true or false",
        "token is a link",
        "all/file is no directory",
        "all/NAME/name: must be a name",
    ] {
        assert!(found.iter().any(|problem| problem.contains(wanted)), "{wanted} is not in {found:#?}");
    }
    let twice =
        read("credentials: [{name: a, urlPrefix: 'https://h/'}, {name: a, urlPrefix: 'https://i/'}]", beside.path());
    assert_eq!(twice.unwrap_err(), ["git.credentials: the name \"a\" is used twice"]);
    assert!(read("credentialsDirectory: nowhere", beside.path()).unwrap_err()[0].contains("cannot read"));
}
