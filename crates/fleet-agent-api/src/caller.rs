//! Who calls: the certificate of the connection, looked at for every request.

use std::sync::Arc;

use fleet_http::{ApiError, PeerConnection};
use fleet_model::OrgId;
use fleet_pki::{CertificateFacts, PeerIdentity};
use fleet_store::IndexedDevice;
use tracing::warn;

use crate::Shared;
use crate::index::DeviceKey;

/// What a connection's certificate says; worked out once a connection.
enum Caller {
    Device(Arc<DeviceCaller>),
    Enrollment(Arc<EnrollmentCaller>),
    Nobody(String),
}

/// A managed device.
pub(crate) struct DeviceCaller {
    pub(crate) key: DeviceKey,
    pub(crate) certificate: CertificateFacts,
}

/// Somebody who may ask for enrolment.
pub(crate) struct EnrollmentCaller {
    pub(crate) org: OrgId,
    pub(crate) certificate: CertificateFacts,
}

fn read(peer: &PeerConnection) -> Arc<Caller> {
    peer.identity(|certificate| {
        let Some(der) = certificate else { return Caller::Nobody("no client certificate".to_owned()) };
        match PeerIdentity::from_certificate(der) {
            Ok(PeerIdentity::Management { device, org, certificate, .. }) => {
                Caller::Device(Arc::new(DeviceCaller { key: (org, device), certificate }))
            }
            Ok(PeerIdentity::Enrollment { org, certificate, .. }) => {
                Caller::Enrollment(Arc::new(EnrollmentCaller { org, certificate }))
            }
            Err(error) => Caller::Nobody(error.to_string()),
        }
    })
}

impl Shared {
    fn refuse(&self, peer: &PeerConnection, who: &str, why: &str) -> ApiError {
        self.metrics.refused.inc();
        warn!(peer = %peer.addr(), who, why, "Refused a request");
        ApiError::unauthorized(format!("the client certificate does not allow this: {why}"))
    }

    /// The device that holds the connection's certificate; `name`, where there is one, must be its name.
    pub(crate) fn device_caller(
        &self,
        peer: &PeerConnection,
        name: Option<&str>,
    ) -> Result<Arc<DeviceCaller>, ApiError> {
        let caller = match &*read(peer) {
            Caller::Device(caller) => Arc::clone(caller),
            Caller::Enrollment(_) => {
                return Err(self.refuse(peer, "enrollment", "an enrolment certificate can only enrol"));
            }
            Caller::Nobody(why) => return Err(self.refuse(peer, "nobody", why)),
        };
        let device = caller.key.1.as_str();
        if name.is_some_and(|name| name != device) {
            return Err(self.refuse(peer, device, "the certificate is that of another device"));
        }
        self.check_time(peer, device, &caller.certificate)?;
        Ok(caller)
    }

    /// That the device's certificate is valid still and was not revoked: looked at again before every answer, since
    /// both can change while a poll is held.
    pub(crate) fn check_device(
        &self,
        peer: &PeerConnection,
        caller: &DeviceCaller,
        device: &IndexedDevice,
    ) -> Result<(), ApiError> {
        self.check_time(peer, caller.key.1.as_str(), &caller.certificate)?;
        if device.revoked.contains(&caller.certificate.serial_hex) {
            return Err(self.refuse(peer, caller.key.1.as_str(), "the certificate was revoked"));
        }
        Ok(())
    }

    /// The holder of an enrolment certificate.
    pub(crate) fn enrollment_caller(&self, peer: &PeerConnection) -> Result<Arc<EnrollmentCaller>, ApiError> {
        match &*read(peer) {
            Caller::Enrollment(caller) => {
                self.check_time(peer, "enrollment", &caller.certificate)?;
                Ok(Arc::clone(caller))
            }
            Caller::Device(caller) => {
                Err(self.refuse(peer, caller.key.1.as_str(), "a management certificate cannot enrol"))
            }
            Caller::Nobody(why) => Err(self.refuse(peer, "nobody", why)),
        }
    }

    /// That an enrolment certificate was not revoked.
    pub(crate) fn refuse_revoked(&self, peer: &PeerConnection) -> ApiError {
        self.refuse(peer, "enrollment", "the certificate was revoked")
    }

    fn check_time(&self, peer: &PeerConnection, who: &str, certificate: &CertificateFacts) -> Result<(), ApiError> {
        if certificate.is_valid_at(self.clock.now()) {
            return Ok(());
        }
        Err(self.refuse(peer, who, "the certificate has expired or is not valid yet"))
    }
}
