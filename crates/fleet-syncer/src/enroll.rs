//! Enrolment: policies decide, approved requests get their certificate, and the device comes into being with its
//! labels, owner and first document in the same transaction.

use fleet_model::{
    DeviceName, Digest, EnrollmentPolicy, EnrollmentPolicySpec, Kind, Labels, Manifest, OrgId, RenderedVersion,
    SystemInfo,
};
use fleet_pki::{CertificateAuthority, DeviceCsr, DeviceSigner, IssueError, Issued, Lifetime};
use fleet_store::{
    IssuedCertificate, NewEvent, OpenEnrollment, PgConnection, StoreError, Ts, approve_by_policy, complete_enrollment,
    fail_enrollment, has_revoked_certificate, lock_device_certificates, manifest_documents, open_enrollments,
    pass_over_enrollment, put_enrolled_device, record_certificate, record_event,
};
use jiff::Timestamp;
use tracing::{info, warn};

/// Requests handled in one transaction.
pub(crate) const BATCH: i64 = 200;

/// A policy with its name.
pub(crate) struct Policy {
    name: String,
    spec: EnrollmentPolicySpec,
}

/// All policies that approve requests, by name, and the digest of all of them.
pub(crate) async fn policies(connection: &mut PgConnection, org: OrgId) -> Result<(Vec<Policy>, Digest), StoreError> {
    let mut stored = manifest_documents(connection, org, Kind::EnrollmentPolicy, None).await?;
    // One that left Git approves nobody any more: a grace keeps what is there, and lets nobody in.
    stored.retain(|stored| !stored.leaving);
    let documents: Vec<&serde_json::Value> = stored.iter().map(|stored| &stored.document).collect();
    let digest = Digest::of(&fleet_render::canonical::to_vec(&serde_json::json!(documents)));
    let mut policies = Vec::new();
    for stored in stored {
        match Manifest::from_document(Kind::EnrollmentPolicy, stored.document) {
            Ok(Manifest::EnrollmentPolicy(policy)) => {
                let EnrollmentPolicy { spec, .. } = *policy;
                policies.push(Policy { name: stored.name, spec });
            }
            Ok(_) => {}
            Err(error) => warn!(policy = stored.name, %error, "Passing over an EnrollmentPolicy that cannot be read"),
        }
    }
    Ok((policies, digest))
}

/// The policy that approves a request, and the labels it gives. A pure decision.
fn decide<'a>(request: &OpenEnrollment, policies: &'a [Policy]) -> Option<(&'a str, &'a Labels)> {
    let info = request.device_status.as_ref().and_then(|status| status.get("systemInfo"));
    let info: SystemInfo = info.and_then(|info| serde_json::from_value(info.clone()).ok()).unwrap_or_default();
    policies.iter().find_map(|policy| {
        let rule = policy.spec.first_match(&request.name, &info)?;
        Some((policy.name.as_str(), &rule.labels))
    })
}

/// Labels a device starts with: its own, overlaid by those of the decision, or only the latter.
fn first_labels(request: &OpenEnrollment, decision: &Labels) -> Labels {
    let mut labels = if request.replace_labels { Labels::new() } else { request.labels.clone() };
    labels.extend(decision.iter().map(|(key, value)| (key.clone(), value.clone())));
    labels
}

/// Handles open requests in the caller's transaction, at most [`BATCH`]. Returns how many were handled.
///
/// # Errors
/// When the database fails. A request that cannot be carried out is marked as failed and harms no other.
pub(crate) async fn enroll(
    connection: &mut PgConnection,
    org: OrgId,
    authority: &CertificateAuthority,
    lifetime: Lifetime,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let (policies, digest) = policies(connection, org).await?;
    let requests = open_enrollments(connection, org, digest, BATCH).await?;
    let at = Ts::from(now);
    let handled = requests.len();
    for request in requests {
        let name = request.name.as_str();
        let decision_labels = if request.approved {
            request.decision_labels.clone()
        } else {
            let Some((policy, labels)) = decide(&request, &policies) else {
                pass_over_enrollment(connection, org, name, digest).await?;
                continue;
            };
            approve_by_policy(connection, org, name, policy, labels, at).await?;
            info!(device = name, policy, "Approved an enrolment request");
            let message = format!("Approved by EnrollmentPolicy {policy}");
            record_event(connection, org, &approved_event(name, &message)).await?;
            labels.clone()
        };
        let signed = match revoked(connection, org, name).await? {
            true => Err("a certificate of this device was revoked".to_owned()),
            false => sign(authority, &request, lifetime, org, now).map_err(|error| error.to_string()),
        };
        match signed {
            Ok(issued) => {
                record_certificate(connection, org, &certificate_row(name, &issued)).await?;
                let known = request.known_rendered_version.as_deref().and_then(|v| v.parse().ok());
                let labels = first_labels(&request, &decision_labels);
                put_enrolled_device(connection, org, name, &labels, known.unwrap_or(RenderedVersion::ZERO)).await?;
                complete_enrollment(connection, org, name, &issued.chain_pem).await?;
                info!(device = name, serial = issued.serial_hex, "Enrolled a device");
            }
            Err(reason) => {
                warn!(device = name, error = reason, "An approved enrolment request cannot be carried out");
                fail_enrollment(connection, org, name, &reason).await?;
                let event = NewEvent {
                    kind: "EnrollmentRequest",
                    name,
                    reason: "EnrollmentRequestApprovalFailed",
                    warning: true,
                    message: &reason,
                    actor: "service:syncer",
                    details: None,
                };
                record_event(connection, org, &event).await?;
            }
        }
    }
    Ok(handled)
}

/// Whether the device was shut out; no certificate of it is issued or revoked until the transaction ends.
async fn revoked(connection: &mut PgConnection, org: OrgId, name: &str) -> Result<bool, StoreError> {
    let Ok(device) = name.parse::<DeviceName>() else { return Ok(false) };
    lock_device_certificates(connection, org, &device).await?;
    has_revoked_certificate(connection, org, &device).await
}

fn approved_event<'a>(name: &'a str, message: &'a str) -> NewEvent<'a> {
    NewEvent {
        kind: "EnrollmentRequest",
        name,
        reason: "EnrollmentRequestApproved",
        warning: false,
        message,
        actor: "service:syncer",
        details: None,
    }
}

fn sign(
    authority: &CertificateAuthority,
    request: &OpenEnrollment,
    lifetime: Lifetime,
    org: OrgId,
    now: Timestamp,
) -> Result<Issued, IssueError> {
    let csr = DeviceCsr::parse(&request.csr)?;
    authority.sign_device(&csr, DeviceSigner::DeviceEnrollment, org, now, lifetime)
}

fn certificate_row(device: &str, issued: &Issued) -> IssuedCertificate {
    IssuedCertificate {
        serial: issued.serial_hex.clone(),
        device: Some(device.to_owned()),
        signer: DeviceSigner::DeviceEnrollment.name().to_owned(),
        fingerprint: issued.sha256,
        not_before: Ts::from(issued.not_before),
        not_after: Ts::from(issued.not_after),
    }
}

#[cfg(test)]
mod tests {
    use fleet_model::{EnrollmentRule, RuleMatch};
    use serde_json::json;

    use super::*;

    fn request(hostname: &str) -> OpenEnrollment {
        OpenEnrollment {
            name: "r1qtmvff4ch3dbm7".to_owned(),
            csr: String::new(),
            labels: [("alias".to_owned(), hostname.to_owned()), ("role".to_owned(), "mine".to_owned())].into(),
            device_status: Some(json!({"systemInfo": {
                "architecture": "amd64", "bootID": "b", "operatingSystem": "linux", "agentVersion": "1",
                "hostname": hostname}})),
            known_rendered_version: None,
            approved: false,
            decision_labels: Labels::new(),
            replace_labels: false,
        }
    }

    fn policy(name: &str, hostname: &str) -> Policy {
        let rule = EnrollmentRule {
            matches: RuleMatch {
                system_info: [("hostname".to_owned(), hostname.to_owned())].into(),
                ..RuleMatch::default()
            },
            labels: [("role".to_owned(), name.to_owned())].into(),
        };
        Policy { name: name.to_owned(), spec: EnrollmentPolicySpec { rules: vec![rule] } }
    }

    #[test]
    fn the_first_policy_with_a_matching_rule_decides() {
        let policies = [policy("gates", "gate-*"), policy("kiosks", "kiosk-*"), policy("all", "*")];
        assert_eq!(decide(&request("kiosk-1"), &policies).map(|(name, _)| name), Some("kiosks"));
        assert_eq!(decide(&request("other"), &policies[..2]), None);
        let silent = OpenEnrollment { device_status: None, ..request("kiosk-1") };
        assert_eq!(decide(&silent, &policies), None, "no facts, no rule about facts matches");
    }

    #[test]
    fn labels_of_the_decision_win_or_replace() {
        let decision: Labels = [("role".to_owned(), "kiosk".to_owned())].into();
        assert_eq!(first_labels(&request("k"), &decision).get("role").map(String::as_str), Some("kiosk"));
        assert_eq!(first_labels(&request("k"), &decision).len(), 2);
        let replacing = OpenEnrollment { replace_labels: true, ..request("k") };
        assert_eq!(first_labels(&replacing, &decision), decision);
    }
}
