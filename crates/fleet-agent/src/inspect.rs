//! What an agent's state directory says, for people: `fleet-agent status`.

use std::fmt;
use std::io;
use std::path::Path;

use fleet_model::{DeviceName, RenderedVersion};
use fleet_pki::{CertificateFacts, DeviceKey};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::disk::{Disk, RealDisk};
use crate::paths;
use crate::progress::Progress;
use crate::state::{self, Loaded, State};

/// What is known about the device without asking the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The device's name; none before the first start.
    pub device: Option<DeviceName>,
    /// Until when the management certificate is valid (RFC 3339); none while the device is not enrolled.
    pub certificate_not_after: Option<String>,
    /// The version that is applied; 0 for none.
    pub applied_version: RenderedVersion,
    /// The newest version that was decided on; 0 for none.
    pub desired_version: RenderedVersion,
    /// How the update stands, in one word.
    pub reason: &'static str,
    /// How the update stands, in one sentence.
    pub message: String,
    /// Paths of managed files.
    pub files: Vec<String>,
    /// How many contents failed and are not tried again.
    pub blocked: usize,
}

/// Reads the state below `root`. Changes nothing, and may be called while an agent runs.
///
/// # Errors
/// When the state cannot be read or is damaged.
pub fn inspect(root: &Path) -> io::Result<Inspection> {
    let disk = RealDisk::open(root)?;
    let state = match state::load(&disk)? {
        Loaded::Fresh => State::default(),
        Loaded::State(state) => *state,
        Loaded::Damaged(why) => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is damaged: {why}", paths::state_file()),
            ));
        }
    };
    let read = |path| -> io::Result<Option<Zeroizing<String>>> {
        let bytes = disk.read(&path, 1 << 20)?;
        Ok(bytes.map(|bytes| Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())))
    };
    let key = read(paths::key_file())?.and_then(|pem| DeviceKey::from_pem(&pem).ok());
    let certificate = read(paths::certificate_file())?.and_then(|pem| CertificateFacts::from_pem(&pem).ok());
    let progress = Progress::of(&state, None);
    Ok(Inspection {
        device: key.map(|key| key.device_name().clone()),
        certificate_not_after: certificate.map(|facts| facts.not_after.to_string()),
        applied_version: state.current.version,
        desired_version: state.desired.version,
        reason: progress.reason,
        message: progress.message,
        files: state.current.files.iter().map(|file| file.path.to_string()).collect(),
        blocked: state.blocked.len(),
    })
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device.as_ref().map_or("none yet; it gets its name at the first start", |name| name.as_str());
        writeln!(f, "Device:    {device}")?;
        match &self.certificate_not_after {
            Some(until) => writeln!(f, "Enrolled:  yes, certificate valid until {until}")?,
            None => writeln!(f, "Enrolled:  no")?,
        }
        writeln!(f, "Applied:   version {}, {} files", self.applied_version, self.files.len())?;
        writeln!(f, "Desired:   version {}", self.desired_version)?;
        writeln!(f, "Update:    {}: {}", self.reason, self.message)?;
        if self.blocked > 0 {
            writeln!(f, "Blocked:   {} contents that failed and are not tried again", self.blocked)?;
        }
        for file in &self.files {
            writeln!(f, "  {file}")?;
        }
        Ok(())
    }
}
