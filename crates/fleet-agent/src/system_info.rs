//! Facts about the machine, from files that the kernel and the distribution keep.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;

use fleet_model::{DeviceName, SystemInfo};
use serde_json::Value;

use crate::disk::Disk;
use crate::identity::Held;
use crate::path::FilePath;

const MAX_BYTES: u64 = 64 << 10;

fn line(disk: &dyn Disk, path: &str) -> Option<String> {
    let bytes = disk.read(&FilePath::own(path), MAX_BYTES).ok()??;
    let text: String = String::from_utf8_lossy(&bytes).trim().chars().filter(|c| !c.is_control()).take(256).collect();
    (!text.is_empty()).then_some(text)
}

/// The machine's name: the root's own file, or what the kernel says.
pub(crate) fn hostname(disk: &dyn Disk) -> String {
    line(disk, "/etc/hostname").unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

fn os_release(disk: &dyn Disk) -> BTreeMap<String, String> {
    let read = |path: &str| disk.read(&FilePath::own(path), MAX_BYTES).ok().flatten();
    let bytes = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.trim_matches(['"', '\'']).to_owned())).collect()
}

/// The interface of the default route.
fn default_interface() -> Option<String> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let mut rows = routes.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.find(|row| row.get(1) == Some(&"00000000")).and_then(|row| row.first().map(|name| (*name).to_owned()))
}

/// The address that packets to the outside carry. Connecting a datagram socket sends nothing.
fn default_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

/// The architecture in the protocol's terms.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Gathers the facts. What cannot be found is left out.
pub(crate) fn gather(disk: &dyn Disk, held: Option<&Held>) -> SystemInfo {
    let mut more = BTreeMap::new();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            more.insert(key.to_owned(), Value::from(value));
        }
    };
    add("hostname", Some(hostname(disk)));
    add("kernel", Some(rustix::system::uname().release().to_string_lossy().into_owned()));
    let mut release = os_release(disk);
    for (key, field) in [("distroName", "NAME"), ("distroVersion", "VERSION_ID"), ("distroId", "ID")] {
        add(key, release.remove(field));
    }
    for (key, file) in
        [("productName", "product_name"), ("productSerial", "product_serial"), ("productUuid", "product_uuid")]
    {
        add(key, line(disk, &format!("/sys/class/dmi/id/{file}")));
    }
    let interface = default_interface();
    let address_file = interface.as_ref().map(|name| Path::new("/sys/class/net").join(name).join("address"));
    add(
        "netMacDefault",
        address_file.and_then(|path| std::fs::read_to_string(path).ok()).map(|mac| mac.trim().to_owned()),
    );
    add("netIpDefault", interface.as_ref().and_then(|_| default_address()));
    add("netInterfaceDefault", interface);
    add("managementCertSerial", held.map(|held| held.facts.serial_hex.clone()));
    add("managementCertNotAfter", held.map(|held| held.facts.not_after.to_string()));
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    SystemInfo {
        architecture: architecture().to_owned(),
        boot_id,
        operating_system: "linux".to_owned(),
        agent_version: format!("v{}", env!("CARGO_PKG_VERSION")),
        custom_info: BTreeMap::new(),
        more,
    }
}

/// The alias that a device asks for: its host name as a label value, or nothing when none can be made of it.
pub(crate) fn alias(disk: &dyn Disk, name: &DeviceName) -> String {
    let host = hostname(disk);
    if fleet_model::validate_label_value(&host).is_ok() { host } else { name.as_str().chars().take(12).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn the_roots_own_files_name_the_device() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/hostname", "till-7\n"),
            ("sys/class/dmi/id/product_serial", "SN-42\n"),
            ("usr/lib/os-release", "NAME=\"Edge Linux\"\nID=edge\nVERSION_ID='9'\n"),
        ] {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let disk = RealDisk::open(root.path()).unwrap();
        let info = gather(&disk, None);
        for (key, value) in
            [("hostname", "till-7"), ("productSerial", "SN-42"), ("distroName", "Edge Linux"), ("distroVersion", "9")]
        {
            assert_eq!(info.get(key), Some(value));
        }
        assert!(!info.boot_id.is_empty() && !info.architecture.is_empty());
    }
}
