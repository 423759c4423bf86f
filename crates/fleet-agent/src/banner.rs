//! What the console shows above the login prompt: where to approve or find this device, as text and as a QR code.

use fleet_model::DeviceName;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use tracing::warn;

use crate::disk::{self, Disk};
use crate::paths;

/// What the banner leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The page where a person approves the device.
    Enroll,
    /// The page of the enrolled device.
    Manage,
}

/// The banner's text.
pub(crate) fn text(purpose: Purpose, endpoint: &str, name: &DeviceName) -> String {
    let (intent, path) = match purpose {
        Purpose::Enroll => ("Approve the enrolment of this device", "enroll"),
        Purpose::Manage => ("This device is enrolled; manage it", "manage"),
    };
    if endpoint.is_empty() {
        return format!("\n{intent}: {name}\n\n");
    }
    let url = format!("{endpoint}/{path}/{name}");
    let code = QrCode::new(url.as_bytes()).map(|code| code.render::<Dense1x2>().quiet_zone(true).build());
    let code = code.map(|drawn| format!("{drawn}\n\n")).unwrap_or_default();
    format!("\n{intent} at:\n{url}\n\n{code}")
}

/// Writes the banner. A device without one works all the same.
pub(crate) fn write(disk: &dyn Disk, purpose: Purpose, endpoint: &str, name: &DeviceName) {
    let path = paths::banner_file();
    let text = text(purpose, endpoint, name);
    let same = disk.read(&path, 1 << 20).ok().flatten().is_some_and(|found| found == text.as_bytes());
    if !same && let Err(error) = disk::replace(disk, &path, text.as_bytes(), 0o644, 0o755) {
        warn!(%error, file = %path, "The banner could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_holds_the_link_as_text_and_as_a_code() {
        let name: DeviceName = "r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg".parse().unwrap();
        let banner = text(Purpose::Enroll, "https://ui.example", &name);
        assert!(banner.contains(&format!("\nhttps://ui.example/enroll/{name}\n")) && banner.contains('█'));
        assert!(text(Purpose::Manage, "", &name).contains(name.as_str()));
    }
}
