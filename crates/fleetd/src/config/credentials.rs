//! Reads `git.credentials` and `git.credentialsDirectory`, at the start and again while the service runs, so that secrets can
//! be replaced without a restart.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr as _;

use fleet_fetch::{SecretBytes, read_secret_directory};
use fleet_git::{ClientCertificate, HttpsOptions, RemoteAuth, Secret, SshOptions};
use fleet_model::ResourceName;
use fleet_syncer::GitCredential;
use serde_yaml::{Mapping, Value};

use super::fields::{Fields, Problems};
use super::read::read_secret;

/// Sub-directories of the credentials' directory that are read.
const MAX_DIRECTORIES: usize = 1000;
/// Files of a credential's directory, in the order of [`Parts`].
const FILES: [&str; 13] = [
    "url-prefix",
    "username",
    "password",
    "token",
    "ca.crt",
    "tls.crt",
    "tls.key",
    "ssh-privatekey",
    "passphrase",
    "known_hosts",
    "proxy-url",
    "proxy-password",
    "skip-server-verification",
];

/// Where credentials come from. Holds names of files and variables, and none of their values.
#[derive(Clone)]
pub struct CredentialFiles {
    list: Value,
    directory: Option<PathBuf>,
    beside: PathBuf,
}

impl fmt::Debug for CredentialFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialFiles").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl CredentialFiles {
    /// Takes the keys of the `git` section that say where credentials come from.
    pub(super) fn take(section: &mut Fields, beside: &Path) -> Self {
        let list = section.raw("credentials");
        let directory = section.text("credentialsDirectory").map(|directory| beside.join(directory));
        Self { list, directory, beside: beside.to_owned() }
    }

    /// Reads all credentials as they are now. `environment` looks a variable up.
    ///
    /// # Errors
    /// All problems at once, none with a secret in it.
    pub fn read(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Vec<GitCredential>, Vec<String>> {
        let problems: Problems = Rc::new(RefCell::new(Vec::new()));
        let mut root = Mapping::new();
        root.insert("credentials".into(), self.list.clone());
        let mut section = Fields::new("git", Value::Mapping(root), &problems);
        let items = section.sections("credentials").into_iter();
        let mut found: Vec<GitCredential> =
            items.filter_map(|item| read_item(item, &self.beside, environment)).collect();
        if let Some(directory) = &self.directory {
            found.extend(read_directories(directory, &problems));
        }
        let mut names = BTreeSet::new();
        for name in found.iter().filter_map(|credential| credential.name.as_deref()) {
            if !names.insert(name) {
                problems.borrow_mut().push(format!("git.credentials: the name {name:?} is used twice"));
            }
        }
        let problems = problems.take();
        if problems.is_empty() { Ok(found) } else { Err(problems) }
    }
}

/// What a credential is made of, wherever it was read, and what each part is called there.
#[derive(Default)]
struct Parts {
    name: Option<String>,
    url_prefix: String,
    username: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    ca_pem: Option<String>,
    certificate: Option<String>,
    key: Option<Secret>,
    ssh: SshOptions,
    skip_verify: bool,
    proxy: Option<String>,
    proxy_password: Option<Secret>,
}

/// What the parts are called, for problems.
struct Labels {
    prefix: &'static str,
    username: &'static str,
    password: &'static str,
    token: &'static str,
    certificate: &'static str,
    key: &'static str,
    ssh_key: &'static str,
    known_hosts: &'static str,
    proxy: &'static str,
}

const IN_YAML: Labels = Labels {
    prefix: "urlPrefix",
    username: "username",
    password: "passwordFile",
    token: "tokenFile",
    certificate: "clientCertificateFile",
    key: "clientKeyFile",
    ssh_key: "privateKeyFile",
    known_hosts: "knownHostsFile",
    proxy: "proxyUrl",
};

const IN_DIRECTORY: Labels = Labels {
    prefix: "url-prefix",
    username: "username",
    password: "password",
    token: "token",
    certificate: "tls.crt",
    key: "tls.key",
    ssh_key: "ssh-privatekey",
    known_hosts: "known_hosts",
    proxy: "proxy-url",
};

fn read_item(mut item: Fields, beside: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Option<GitCredential> {
    let file = |item: &mut Fields, key: &'static str| {
        let path = item.text(key)?;
        read_secret(item, key, &beside.join(path))
    };
    let secret = |item: &mut Fields, key: &'static str, variable_key: &'static str| {
        let from_file = file(item, key).map(Secret::from);
        let Some(variable) = item.text(variable_key) else { return from_file };
        if from_file.is_some() {
            item.problem(variable_key, format_args!("{key} is given too; use one of them"));
        }
        let value = environment(&variable).filter(|value| !value.is_empty());
        if value.is_none() {
            item.problem(variable_key, format_args!("the environment variable {variable} is not set"));
        }
        from_file.or(value.map(Secret::from))
    };
    let skip_verify = item.flag("skipServerVerification").unwrap_or(false);
    let parts = Parts {
        name: item.text("name"),
        url_prefix: item.required_text("urlPrefix"),
        username: item.text("username"),
        password: secret(&mut item, "passwordFile", "passwordEnv"),
        token: secret(&mut item, "tokenFile", "tokenEnv"),
        key: secret(&mut item, "clientKeyFile", "clientKeyEnv"),
        ssh: SshOptions {
            private_key: secret(&mut item, "privateKeyFile", "privateKeyEnv"),
            passphrase: secret(&mut item, "passphraseFile", "passphraseEnv"),
            known_hosts: file(&mut item, "knownHostsFile"),
            skip_verify,
        },
        proxy_password: secret(&mut item, "proxyPasswordFile", "proxyPasswordEnv"),
        ca_pem: file(&mut item, "caFile"),
        certificate: file(&mut item, "clientCertificateFile"),
        skip_verify,
        proxy: item.text("proxyUrl"),
    };
    let credential = parts.check(&IN_YAML, &|key, problem| item.problem(key, problem));
    item.finish();
    credential
}

/// The credentials of all sub-directories, each named as its directory.
fn read_directories(directory: &Path, problems: &Problems) -> Vec<GitCredential> {
    let note = |problem: String| problems.borrow_mut().push(format!("git.credentialsDirectory: {problem}"));
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            note(format!("cannot read {}: {error}", directory.display()));
            return Vec::new();
        }
    };
    let mut places = Vec::new();
    for entry in entries.take(MAX_DIRECTORIES) {
        match entry {
            // Links of Kubernetes volumes, and what people hide.
            Ok(entry) if entry.file_name().to_string_lossy().starts_with('.') => {}
            Ok(entry) if entry.path().is_dir() => places.push(entry.path()),
            Ok(entry) => note(format!("{} is no directory; each credential is one", entry.path().display())),
            Err(error) => note(format!("cannot read {}: {error}", directory.display())),
        }
    }
    places.sort();
    places.iter().filter_map(|place| read_place(place, &note)).collect()
}

fn read_place(place: &Path, note: &dyn Fn(String)) -> Option<GitCredential> {
    let shown = place.display();
    let files = read_secret_directory(place).map_err(|error| note(error.message)).ok()?;
    for file in files.keys().filter(|file| !FILES.contains(&file.as_str())) {
        note(format!("{shown}/{file}: unknown file; known here: {}", FILES.join(", ")));
    }
    let text =
        |file: &str| text_of(&files, file).map_err(|problem| note(format!("{shown}/{file}: {problem}"))).ok().flatten();
    let secret = |file: &str| text(file).map(Secret::from);
    let skip_verify = match text("skip-server-verification").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            note(format!("{shown}/skip-server-verification: expected true or false"));
            false
        }
    };
    let parts = Parts {
        name: Some(place.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        url_prefix: text("url-prefix").unwrap_or_default(),
        username: text("username"),
        password: secret("password"),
        token: secret("token"),
        ca_pem: text("ca.crt"),
        certificate: text("tls.crt"),
        key: secret("tls.key"),
        ssh: SshOptions {
            private_key: secret("ssh-privatekey"),
            passphrase: secret("passphrase"),
            known_hosts: text("known_hosts"),
            skip_verify,
        },
        skip_verify,
        proxy: text("proxy-url"),
        proxy_password: secret("proxy-password"),
    };
    parts.check(&IN_DIRECTORY, &|file, problem| note(format!("{shown}/{file}: {problem}")))
}

fn text_of(files: &BTreeMap<String, SecretBytes>, file: &str) -> Result<Option<String>, &'static str> {
    let Some(bytes) = files.get(file) else { return Ok(None) };
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| "is not UTF-8")?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() { Err("is empty") } else { Ok(Some(text.to_owned())) }
}

impl Parts {
    /// The credential, when the parts belong together. Every problem is told.
    fn check(self, labels: &Labels, problem: &dyn Fn(&str, &str)) -> Option<GitCredential> {
        let is_good = Cell::new(true);
        let wrong = |key: &str, words: &str| {
            is_good.set(false);
            problem(key, words);
        };
        if self.name.as_ref().is_some_and(|name| ResourceName::from_str(name).is_err()) {
            wrong("name", "must be a name as manifests can write it: a-z, 0-9, - and .");
        }
        let kind = Prefix::of(&self.url_prefix);
        match kind {
            Some(Prefix::Https | Prefix::Ssh) => {}
            // Of a key in YAML that is missing, its reader told already.
            None if self.url_prefix.is_empty() && labels.prefix == IN_YAML.prefix => is_good.set(false),
            None if self.url_prefix.is_empty() => wrong(labels.prefix, "is missing"),
            None => wrong(
                labels.prefix,
                "must name a host and go on behind it: https://host/, ssh://user@host/ or user@host: (a prefix of the URL as it is written)",
            ),
        }
        let is_ssh = kind == Some(Prefix::Ssh)
            || (kind.is_none() && (self.url_prefix.starts_with("ssh://") || !self.url_prefix.contains("://")));
        let has_ssh = self.ssh.private_key.is_some() || self.ssh.passphrase.is_some() || self.ssh.known_hosts.is_some();
        if kind == Some(Prefix::Ssh) {
            for (key, is_missing) in [
                (labels.ssh_key, self.ssh.private_key.is_none()),
                (labels.known_hosts, self.ssh.known_hosts.is_none() && !self.skip_verify),
            ] {
                if is_missing {
                    wrong(key, "is missing; SSH needs it");
                }
            }
        } else if has_ssh && !is_ssh {
            wrong(labels.ssh_key, "this key, the passphrase and known hosts belong to an SSH prefix");
        }
        if kind == Some(Prefix::Ssh) {
            for (key, is_given) in [
                (labels.certificate, self.certificate.is_some() || self.key.is_some()),
                (labels.proxy, self.proxy.is_some() || self.proxy_password.is_some()),
            ] {
                if is_given {
                    wrong(key, "belongs to an https:// prefix");
                }
            }
        }
        let client_certificate = match (self.certificate, self.key) {
            (Some(certificate_pem), Some(key_pem)) => Some(ClientCertificate { certificate_pem, key_pem }),
            (None, None) => None,
            (Some(_), None) => {
                wrong(labels.key, "is missing; a client certificate and its key belong together");
                None
            }
            (None, Some(_)) => {
                wrong(labels.certificate, "is missing; a client certificate and its key belong together");
                None
            }
        };
        match &self.proxy {
            Some(proxy) if !is_proxy(proxy) => wrong(
                labels.proxy,
                "must be http://[user@]host:port (or https://), with the password in a file of its own",
            ),
            Some(proxy) if self.proxy_password.is_some() && !proxy.contains('@') => {
                wrong(labels.proxy, "names no user for the proxy's password: http://user@host:port");
            }
            None if self.proxy_password.is_some() => {
                wrong(labels.proxy, "is missing; a password for the proxy is given")
            }
            Some(_) | None => {}
        }
        let auth = match (self.username, self.password, self.token) {
            (Some(username), Some(password), None) => RemoteAuth::Basic { username, password },
            (None, None, Some(token)) => RemoteAuth::Bearer { token },
            (None, None, None) => RemoteAuth::Anonymous,
            (Some(_), None, None) => {
                wrong(labels.password, "is missing; user name and password belong together");
                RemoteAuth::Anonymous
            }
            (None, Some(_), None) => {
                wrong(labels.username, "is missing; user name and password belong together");
                RemoteAuth::Anonymous
            }
            (_, _, Some(_)) => {
                wrong(labels.token, "a user name or password is given too; use one way");
                RemoteAuth::Anonymous
            }
        };
        let https = HttpsOptions {
            auth,
            ca_pem: self.ca_pem,
            skip_verify: self.skip_verify,
            client_certificate,
            proxy: self.proxy,
            proxy_password: self.proxy_password,
        };
        is_good.get().then_some(GitCredential { name: self.name, url_prefix: self.url_prefix, https, ssh: self.ssh })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Https,
    Ssh,
}

impl Prefix {
    /// The kind of URLs that a prefix is for; `None` when it does not go on behind a host.
    fn of(prefix: &str) -> Option<Self> {
        if prefix.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return None;
        }
        match prefix.split_once("://") {
            Some(("https", rest)) => rest.find('/').is_some_and(|at| at > 0).then_some(Self::Https),
            Some(("ssh", rest)) => rest.find('/').is_some_and(|at| at > 0).then_some(Self::Ssh),
            Some(_) => None,
            None => prefix
                .split_once('@')
                .is_some_and(|(user, rest)| !user.is_empty() && rest.find(':').is_some_and(|at| at > 0))
                .then_some(Self::Ssh),
        }
    }
}

/// Whether a text is the URL of a proxy, without a password.
fn is_proxy(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else { return false };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '%');
    user.is_none_or(|user| !user.is_empty() && user.chars().all(is_plain))
        && !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']'))
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
