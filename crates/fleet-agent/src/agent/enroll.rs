//! Getting a management certificate: ask, wait for somebody's approval, take what was issued.

use fleet_model::{ConditionStatus, EnrollmentRequest, EnrollmentRequestSpec, EnrollmentRequestStatus, ObjectMeta};
use fleet_runtime::ErrorChain;
use tracing::{info, warn};

use super::{AgentError, Worker, backoff};
use crate::banner::Purpose;
use crate::client::{ClientError, Submitted};
use crate::identity::{Held, Identity, store_certificate};
use crate::report::Reporter;
use crate::system_info;

/// What the answer to an enrolment request says.
#[derive(Debug, PartialEq, Eq)]
enum Answered {
    /// Nobody decided yet.
    Pending,
    /// A certificate.
    Certificate(String),
    /// No.
    Refused(String),
}

fn read(status: Option<EnrollmentRequestStatus>) -> Answered {
    let Some(status) = status else { return Answered::Pending };
    if let Some(chain) = status.certificate.filter(|pem| !pem.trim().is_empty()) {
        return Answered::Certificate(chain);
    }
    let refusal = status
        .conditions
        .iter()
        .find(|c| matches!(c.kind.as_str(), "Denied" | "Failed") && c.status != ConditionStatus::False);
    refusal.map_or(Answered::Pending, |c| Answered::Refused(format!("{}: {}", c.kind, c.message)))
}

impl Worker {
    /// Enrols. Waits as long as it takes; with `give_up`, a refusal ends it.
    pub(super) async fn enroll(&self, give_up: bool) -> Result<Held, AgentError> {
        let config = &self.config;
        let client = Identity::enrollment_client(&config.enrollment, &config.enrollment_identity, self.clock.clone())?;
        self.show_banner(Purpose::Enroll);
        let mut delays = backoff(config.timings.enrollment_delay);
        let mut submitted = false;
        info!(device = %self.name(), server = config.enrollment.server, "Enrolling");
        loop {
            if !submitted {
                match client.submit_enrollment(&self.enrollment_request().await?).await {
                    Ok(Submitted::Created | Submitted::Exists) => submitted = true,
                    Err(error) => {
                        tokio::time::sleep(self.failed("Asking to be enrolled", &error, &mut delays)).await;
                        continue;
                    }
                }
            }
            let delay = match client.enrollment(self.name()).await.map(|request| read(request.status)) {
                Ok(Answered::Certificate(chain)) => match self.accept(&chain) {
                    Ok(held) => {
                        info!(device = %self.name(), not_after = %held.facts.not_after, "Enrolled");
                        return Ok(held);
                    }
                    Err(error) => {
                        warn!(error = %ErrorChain(&error), "The certificate that was issued cannot be used");
                        self.set_hint(format!(
                            "the certificate that was issued cannot be used: {}",
                            ErrorChain(&error)
                        ));
                        delays.next_delay()
                    }
                },
                Ok(Answered::Pending) => {
                    self.set_hint(format!("enrolment request {} waits for approval", self.name()));
                    delays.next_delay()
                }
                Ok(Answered::Refused(why)) if give_up => return Err(AgentError::Denied(why)),
                Ok(Answered::Refused(why)) => {
                    warn!(why, "The enrolment was refused; waiting for another decision");
                    delays.next_delay()
                }
                // It was deleted meanwhile: ask anew.
                Err(error @ (ClientError::Refused { code: 404, .. } | ClientError::DeviceGone(_))) => {
                    submitted = false;
                    self.failed("Looking at the enrolment request", &error, &mut delays)
                }
                Err(error) => self.failed("Looking at the enrolment request", &error, &mut delays),
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// Checks a certificate by making a client of it, then stores it.
    pub(super) fn accept(&self, chain: &str) -> Result<Held, AgentError> {
        let held = self.identity.check(chain)?;
        self.identity.management_client(&self.config.management, &held, self.clock.clone())?;
        store_certificate(self.disk.as_ref(), &held)?;
        Ok(held)
    }

    async fn enrollment_request(&self) -> Result<EnrollmentRequest, AgentError> {
        let (disk, name) = (self.disk.clone(), self.name().clone());
        let facts = tokio::task::spawn_blocking(move || {
            (system_info::gather(disk.as_ref(), None), system_info::alias(disk.as_ref(), &name))
        });
        let (info, alias) = facts.await.map_err(|_| AgentError::Panicked)?;
        let progress = self.progress.borrow().clone();
        let mut labels = self.config.default_labels.clone();
        labels.entry("alias".to_owned()).or_insert(alias);
        Ok(EnrollmentRequest {
            api_version: "v1beta1".to_owned(),
            kind: "EnrollmentRequest".to_owned(),
            metadata: ObjectMeta { name: Some(self.name().to_string()), ..ObjectMeta::default() },
            spec: EnrollmentRequestSpec {
                csr: self.identity.csr_pem()?,
                device_status: Some(Reporter::default().status(&progress, info, &self.clock.now_rfc3339())),
                labels: Some(labels),
                known_rendered_version: Some(progress.current.to_string()),
                os_mode: Some("package".to_owned()),
            },
            status: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use fleet_model::Condition;

    use super::*;

    #[test]
    fn a_certificate_counts_and_a_condition_that_does_not_hold_does_not() {
        let with = |kind: &str, status, certificate: Option<&str>| {
            let conditions = vec![Condition::new(kind, status, "R", "why", "t")];
            read(Some(EnrollmentRequestStatus {
                conditions,
                certificate: certificate.map(str::to_owned),
                approval: None,
            }))
        };
        assert_eq!(read(None), Answered::Pending);
        assert_eq!(with("Approved", ConditionStatus::True, None), Answered::Pending);
        assert_eq!(with("Approved", ConditionStatus::True, Some("pem")), Answered::Certificate("pem".into()));
        assert_eq!(with("Denied", ConditionStatus::True, Some(" ")), Answered::Refused("Denied: why".into()));
        assert_eq!(with("Denied", ConditionStatus::False, None), Answered::Pending);
    }
}
