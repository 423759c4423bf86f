//! Repositories, resource syncs and enrolment policies.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::{DeviceName, EnrollmentPolicy, HttpConfig, Repository, RepositorySpec, ResourceName, ResourceSync};

use crate::codes;
use crate::document::Document;
use crate::finding::Finding;

pub(crate) fn repository(document: &Document<'_, '_>, repository: &Repository, findings: &mut Vec<Finding>) {
    let (url, http_config): (&str, Option<&HttpConfig>) = match &repository.spec {
        RepositorySpec::Git { url, http_config, .. } => (url, http_config.as_ref()),
        // Refused by the table of refused fields.
        RepositorySpec::Http { .. } | RepositorySpec::Oci { .. } => return,
    };
    let at = document.value_span("/spec/url");
    match url.split_once("://") {
        Some(("https" | "http" | "file" | "ssh" | "git+ssh", rest)) => {
            let userinfo = rest.split('/').next().and_then(|host| host.rsplit_once('@')).map(|(user, _)| user);
            if userinfo.is_some_and(|user| user.contains(':')) {
                let message = "`spec.url` has a password in it; whoever reads the repository has it";
                let hint = "remove it, replace the password, and give the new one to the service's configuration";
                findings.push(Finding::new(codes::CREDENTIAL, at, message).at_pointer("/spec/url").hint(hint));
            }
            if rest.trim_matches('/').is_empty() {
                let message = "the URL names no repository";
                findings.push(Finding::new(codes::BAD_URL, at, message).at_pointer("/spec/url"));
            }
        }
        Some((scheme, _)) => {
            let message = format!("repositories are not read over {scheme:?}");
            findings.push(Finding::new(codes::BAD_URL, at, message).at_pointer("/spec/url").hint("use https://"));
        }
        // `user@host:path` is refused by the table of refused fields.
        None if url.contains('@') && url.contains(':') => {}
        None => {
            findings.push(
                Finding::new(codes::BAD_URL, at, "the URL has no scheme").at_pointer("/spec/url").hint("use https://"),
            );
        }
    }
    if let Some(ca) = http_config.and_then(|config| config.ca_crt.as_deref()) {
        let pem = STANDARD.decode(ca.as_bytes());
        if !pem.is_ok_and(|pem| pem.starts_with(b"-----BEGIN ")) {
            let pointer = "/spec/httpConfig/ca.crt";
            let message = "`ca.crt` is not the base64 of PEM certificates";
            findings.push(Finding::new(codes::BAD_BASE64, document.value_span(pointer), message).at_pointer(pointer));
        }
    }
}

pub(crate) fn resource_sync(document: &Document<'_, '_>, sync: &ResourceSync, findings: &mut Vec<Finding>) {
    if let Err(problem) = fleet_render::literal_prefix(&sync.spec.path) {
        let at = document.value_span("/spec/path");
        findings.push(Finding::new(codes::BAD_REPOSITORY_PATH, at, problem.to_string()).at_pointer("/spec/path"));
    }
    if let Err(error) = sync.spec.repository.parse::<ResourceName>() {
        let at = document.value_span("/spec/repository");
        findings.push(
            Finding::new(codes::BAD_NAME, at, format!("the repository's {error}")).at_pointer("/spec/repository"),
        );
    }
    let revision = &sync.spec.target_revision;
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/');
    if !revision.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) || !revision.bytes().all(inner) {
        let at = document.value_span("/spec/targetRevision");
        let message = format!("{revision:?} is not the name of a branch, tag or commit");
        findings.push(Finding::new(codes::SCHEMA, at, message).at_pointer("/spec/targetRevision"));
    }
}

pub(crate) fn enrollment_policy(document: &Document<'_, '_>, policy: &EnrollmentPolicy, findings: &mut Vec<Finding>) {
    for (at, rule) in policy.spec.rules.iter().enumerate() {
        let pointer = format!("/spec/rules/{at}/match");
        if rule.matches.is_empty() {
            let message = "the rule asks for nothing, so it matches no device";
            let finding = Finding::new(codes::RULE_MATCHES_NOBODY, document.key_span(&pointer), message);
            findings.push(finding.at_pointer(pointer.clone()).hint("give names, serialNumbers or systemInfo"));
        }
        for (index, name) in rule.matches.names.iter().enumerate() {
            if let Err(error) = name.parse::<DeviceName>() {
                let pointer = format!("{pointer}/names/{index}");
                let span = document.value_span(&pointer);
                findings.push(Finding::new(codes::BAD_DEVICE_NAME, span, error.to_string()).at_pointer(pointer));
            }
        }
    }
}
