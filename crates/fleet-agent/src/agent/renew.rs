//! A new certificate before the old one ends, for the same key.

use std::time::Duration;

use base64::Engine as _;
use fleet_model::{CertificateSigningRequest, ConditionStatus, CsrSpec, CsrStatus, ObjectMeta, signer};
use fleet_pki::CertificateFacts;
use fleet_runtime::ErrorChain;
use jiff::Timestamp;
use rand::Rng;
use tracing::{info, warn};

use super::manage::{Ended, Session};
use super::{AgentError, Worker, backoff};
use crate::client::ClientError;
use crate::identity::{Held, renewal_due};

/// How often an answer is asked for before another request is made.
const MAX_LOOKS: u32 = 10;
/// First and longest wait after a failed renewal.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// How long a new certificate is left alone when the clock says that it is old.
const PAUSE_OF_WRONG_CLOCK: Duration = Duration::from_secs(7 * 86_400);

/// Why a renewal brought nothing.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the certificate that was issued cannot be used")]
    Unusable(#[source] AgentError),
    #[error("the service refused: {0}")]
    Refused(String),
    #[error("the service did not issue a certificate in time")]
    Pending,
}

/// Whether to renew at `now`. Also before the certificate's life: the clock is behind then, by nobody knows how much,
/// and would not tell when the certificate ends.
fn is_due(facts: &CertificateFacts, share: f64, now: Timestamp) -> bool {
    now < facts.not_before || now >= renewal_due(facts, share)
}

/// The chain that a request was answered with, or that it was refused.
fn issued(status: Option<CsrStatus>) -> Result<Option<String>, RenewalError> {
    let Some(status) = status else { return Ok(None) };
    if let Some(encoded) = status.certificate.filter(|text| !text.trim().is_empty()) {
        // Base64 of PEM by the protocol; PEM itself is taken too.
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim());
        let pem = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(encoded);
        return Ok(Some(pem));
    }
    let refusal = status
        .conditions
        .iter()
        .find(|c| matches!(c.kind.as_str(), "Denied" | "Failed") && c.status != ConditionStatus::False);
    refusal.map_or(Ok(None), |c| Err(RenewalError::Refused(format!("{}: {}", c.kind, c.message))))
}

impl Worker {
    /// Renews whenever it is due. Never ends by itself, except by a bug.
    pub(super) async fn renew(&self, session: &Session) -> Result<Ended, AgentError> {
        // The devices of a fleet enrol together and should not renew together.
        let share: f64 = rand::rng().random();
        let mut errors = backoff(RETRY_DELAY);
        loop {
            let held = session.held();
            let mut pause = self.config.timings.certificate_check_interval;
            if is_due(&held.facts, share, self.clock.now()) {
                match self.renew_once(session).await {
                    Ok(renewed) => {
                        errors.reset();
                        if is_due(&renewed.facts, share, self.clock.now()) {
                            pause = pause.max(PAUSE_OF_WRONG_CLOCK);
                            warn!(
                                "By this device's clock even the new certificate is due for renewal; the clock is wrong"
                            );
                        }
                        info!(serial = renewed.facts.serial_hex, not_after = %renewed.facts.not_after, "Renewed the certificate");
                    }
                    Err(error) => {
                        pause = pause.max(errors.next_delay());
                        warn!(error = %ErrorChain(&error), not_after = %held.facts.not_after, "The certificate could not be renewed; it is tried again");
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn renew_once(&self, session: &Session) -> Result<Held, RenewalError> {
        let client = session.client();
        let csr = self.identity.csr_pem().map_err(|e| RenewalError::Unusable(e.into()))?;
        let random: u32 = rand::rng().random();
        let name = format!("{}-{random:08x}", self.name());
        let request = CertificateSigningRequest {
            api_version: "v1beta1".to_owned(),
            kind: "CertificateSigningRequest".to_owned(),
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            spec: CsrSpec {
                request: base64::engine::general_purpose::STANDARD.encode(csr),
                signer_name: signer::DEVICE_RENEWAL.to_owned(),
                usages: vec!["clientAuth".to_owned(), "CA:false".to_owned()],
                expiration_seconds: None,
                username: None,
            },
            status: None,
        };
        let mut chain = issued(client.submit_csr(&request).await?.status)?;
        let mut delays = backoff(self.config.timings.enrollment_delay);
        for _ in 0..MAX_LOOKS {
            if chain.is_some() {
                break;
            }
            tokio::time::sleep(delays.next_delay()).await;
            chain = issued(client.csr(&name).await?.status)?;
        }
        let chain = chain.ok_or(RenewalError::Pending)?;
        let held = self.accept(&chain).map_err(RenewalError::Unusable)?;
        let client = self.identity.management_client(&self.config.management, &held, self.clock.clone());
        session.replace(client.map_err(|e| RenewalError::Unusable(e.into()))?, held.clone());
        Ok(held)
    }
}
