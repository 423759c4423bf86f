//! Repositories and resource syncs.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::{BaseImage, HttpConfig, Repository, RepositorySpec, ResourceName, ResourceSync, SshConfig};

use super::config::{repository_hint, revision_problem};
use super::refused::scp_like;
use crate::apps::clip;
use crate::codes::{self, Code};
use crate::document::Document;
use crate::finding::Finding;
use crate::validate::valid_name;

struct Rules<'r, 't, 'a> {
    document: &'r Document<'t, 'a>,
    findings: &'r mut Vec<Finding>,
}

pub(crate) fn repository(document: &Document<'_, '_>, repository: &Repository, findings: &mut Vec<Finding>) {
    let mut rules = Rules { document, findings };
    match &repository.spec {
        RepositorySpec::Git { url, http_config, ssh_config } => {
            rules.url(url, &["https", "http", "ssh", "git+ssh", "file"]);
            rules.http_config(http_config.as_ref());
            rules.ssh_config(ssh_config.as_ref());
            if http_config.is_some() && ssh_config.is_some() {
                let message = "`httpConfig` and `sshConfig` are given together; a repository is reached in one way";
                rules.find_key(codes::HTTP_AND_SSH, "/spec/sshConfig", message).hint =
                    Some("keep the one that fits the URL".to_owned());
            }
        }
        RepositorySpec::Http { url, http_config, validation_suffix: _ } => {
            rules.url(url, &["https", "http"]);
            rules.http_config(http_config.as_ref());
        }
        RepositorySpec::Oci {
            registry,
            scheme: _,
            access_mode: _,
            oci_auth: _,
            ca_crt,
            skip_server_verification: _,
            base_images,
        } => {
            if let Some(problem) = registry_problem(registry) {
                let message = format!("the registry {registry:?} {problem}");
                rules.find(codes::BAD_REGISTRY, "/spec/registry", message).hint =
                    Some("write host or host:port, such as quay.io or [fd00::1]:5000".to_owned());
            }
            rules.ca("/spec/ca.crt", ca_crt.as_deref());
            rules.base_images(base_images.as_deref().unwrap_or_default());
        }
    }
}

impl Rules<'_, '_, '_> {
    fn find(&mut self, code: Code, pointer: &str, message: impl Into<String>) -> &mut Finding {
        let at = self.document.value_span(pointer);
        self.findings.push(Finding::new(code, at, message).at_pointer(pointer));
        self.findings.last_mut().expect("one was just pushed")
    }

    fn find_key(&mut self, code: Code, pointer: &str, message: impl Into<String>) -> &mut Finding {
        let at = self.document.key_span(pointer);
        self.findings.push(Finding::new(code, at, message).at_pointer(pointer));
        self.findings.last_mut().expect("one was just pushed")
    }

    fn url(&mut self, url: &str, schemes: &[&str]) {
        let pointer = "/spec/url";
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            self.find(codes::BAD_URL, pointer, "the URL has white space in it");
            return;
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            let may_be_scp = schemes.contains(&"ssh");
            match scp_like(url).filter(|_| may_be_scp) {
                Some((_, "")) => {
                    self.find(codes::BAD_URL, pointer, "the URL names no repository");
                }
                Some((scheme, path)) if schemes.contains(&scheme) && path.starts_with('/') => {
                    self.find(codes::BAD_URL, pointer, "the URL has no host").hint =
                        Some(format!("write two slashes: {scheme}://{}", path.trim_start_matches('/')));
                }
                Some(_) => {}
                None => {
                    self.find(codes::BAD_URL, pointer, "the URL has no scheme").hint = Some("use https://".to_owned());
                }
            }
            return;
        };
        if !schemes.contains(&scheme) {
            let message = format!("repositories of this type are not read over {scheme:?}");
            self.find(codes::BAD_URL, pointer, message).hint = Some("use https://".to_owned());
            return;
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
        if user.contains(':') {
            let message = "`spec.url` has a password in it; whoever reads the repository has it";
            self.find(codes::CREDENTIAL, pointer, message).hint =
                Some("remove it, replace the password, and give the new one to the service's configuration".to_owned());
        }
        if rest.trim_matches('/').is_empty() {
            self.find(codes::BAD_URL, pointer, "the URL names no repository");
        } else if scheme != "file"
            && let Some(problem) = host_problem(host)
        {
            self.find(codes::BAD_URL, pointer, format!("the URL's host {host:?} {problem}"));
        }
    }

    fn http_config(&mut self, config: Option<&HttpConfig>) {
        let Some(config) = config else { return };
        self.ca("/spec/httpConfig/ca.crt", config.ca_crt.as_deref());
        let pairs = [
            [("username", &config.username), ("password", &config.password)],
            [("tls.crt", &config.tls_crt), ("tls.key", &config.tls_key)],
        ];
        for [(one, of_one), (other, of_other)] in pairs {
            match (of_one, of_other) {
                (Some(_), None) => self.half(&format!("/spec/httpConfig/{one}"), one, other),
                (None, Some(_)) => self.half(&format!("/spec/httpConfig/{other}"), other, one),
                (None, None) | (Some(_), Some(_)) => {}
            }
        }
    }

    fn ssh_config(&mut self, config: Option<&SshConfig>) {
        if config.is_some_and(|config| config.private_key_passphrase.is_some() && config.ssh_private_key.is_none()) {
            self.half("/spec/sshConfig/privateKeyPassphrase", "privateKeyPassphrase", "sshPrivateKey");
        }
    }

    fn half(&mut self, pointer: &str, given: &str, missing: &str) {
        self.find_key(codes::HALF_CREDENTIAL, pointer, format!("`{given}` is given without `{missing}`"));
    }

    fn ca(&mut self, pointer: &str, ca: Option<&str>) {
        let Some(ca) = ca else { return };
        // Long base64 is often folded over lines.
        let pem = STANDARD.decode(ca.replace(['\r', '\n'], ""));
        if !pem.is_ok_and(|pem| pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----")) {
            self.find(codes::BAD_BASE64, pointer, "`ca.crt` is not the base64 of PEM certificates");
        }
    }

    fn base_images(&mut self, images: &[BaseImage]) {
        let mut names = BTreeSet::new();
        for (at, image) in images.iter().enumerate() {
            let pointer = format!("/spec/baseImages/{at}");
            if !names.insert(image.image_name.as_str()) {
                let message = format!("the image {:?} is named twice", image.image_name);
                self.find(codes::DUPLICATE_ITEM, &format!("{pointer}/imageName"), message);
            }
            let mut tags = BTreeSet::new();
            for (index, tag) in image.tags.iter().enumerate() {
                if !tags.insert(tag.as_str()) {
                    let message = format!("the tag {tag:?} is named twice");
                    self.find(codes::DUPLICATE_ITEM, &format!("{pointer}/tags/{index}"), message);
                }
            }
        }
    }
}

fn registry_problem(registry: &str) -> Option<&'static str> {
    if registry.contains("://") {
        return Some("has a scheme; give `scheme` beside it");
    }
    if registry.contains('/') {
        return Some("has a path");
    }
    host_problem(registry)
}

/// What is wrong with a host with an optional port: a DNS name, an IPv4 address, or an IPv6 address in brackets.
fn host_problem(text: &str) -> Option<&'static str> {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return Some("has no `]`"),
        Some(Some((address, rest))) => {
            if address.parse::<Ipv6Addr>().is_err() {
                return Some("is no IPv6 address in its brackets");
            }
            match rest.strip_prefix(':') {
                None if !rest.is_empty() => return Some("has more behind the `]` than a port"),
                port => (None, port),
            }
        }
        None => text.split_once(':').map_or((Some(text), None), |(host, port)| (Some(host), Some(port))),
    };
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|p| p > 0)) {
        return Some("has a port that is not a number from 1 to 65535");
    }
    let host = host?;
    let looks_like_ipv4 = host.split('.').count() == 4 && host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let ok = match looks_like_ipv4 {
        true => host.parse::<Ipv4Addr>().is_ok(),
        false => host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label),
    };
    (!ok).then_some("is neither a DNS name nor an address")
}

pub(crate) fn resource_sync(document: &Document<'_, '_>, sync: &ResourceSync, findings: &mut Vec<Finding>) {
    if let Err(problem) = fleet_render::literal_prefix(&sync.spec.path) {
        let at = document.value_span("/spec/path");
        findings.push(Finding::new(codes::BAD_REPOSITORY_PATH, at, problem.to_string()).at_pointer("/spec/path"));
    }
    if let Err(error) = sync.spec.repository.parse::<ResourceName>() {
        let at = document.value_span("/spec/repository");
        let hint = repository_hint(&sync.spec.repository).map(str::to_owned);
        let hint = hint.or_else(|| valid_name(&sync.spec.repository).map(|name| format!("did you mean `{name}`?")));
        let finding = Finding::new(codes::BAD_NAME, at, format!("the repository's {error}"));
        findings.push(finding.at_pointer("/spec/repository").maybe_hint(hint));
    }
    if let Some(problem) = revision_problem(&sync.spec.target_revision) {
        let at = document.value_span("/spec/targetRevision");
        let message = format!("`targetRevision`: {:?} {problem}", clip(&sync.spec.target_revision));
        let finding = Finding::new(codes::SCHEMA, at, message).at_pointer("/spec/targetRevision");
        findings.push(finding.hint("name a branch, tag or commit"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_hosts_with_an_optional_port() {
        for good in ["quay.io", "localhost:5000", "192.0.2.1", "192.0.2.1:443", "[fd00::1]", "[::1]:5000", "a-b.C"] {
            assert_eq!(registry_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "https://quay.io",
            "quay.io/acme",
            "quay.io:",
            "quay.io:0",
            "quay.io:65536",
            "quay.io:+1",
            "a:1:2",
            "fd00::1",
            "[fd00::1",
            "[fd00::1]5000",
            "[quay.io]",
            "192.0.2.256",
            "-a",
            "a..b",
            "a_b",
            "a b",
        ] {
            assert!(registry_problem(bad).is_some(), "{bad}");
        }
    }
}
