//! Making a certificate authority: everything in a directory of its own, one rename as the last step.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SerialNumber,
};

use super::{CLIENT_SIGNER, CaError, ROOT, SERVER_SIGNER};
use crate::IssueError;
use crate::files::{self, FileError};
use crate::issue::random_serial;
use crate::key::SigningKeyPair;
use crate::lifetime::{Lifetime, Window};

/// Life of the root and of both signers.
const AUTHORITY_LIFETIME: Lifetime = Lifetime::days(3650);
/// Start of the names of directories in which an authority is being made.
const UNFINISHED_PREFIX: &str = ".ca-";

/// Makes `place` inside `dir`, unless another process does so first.
pub(super) fn create(dir: &Path, place: &Path, now: Timestamp) -> Result<(), CaError> {
    let lock_path = dir.join(".ca.lock");
    let lock = File::create(&lock_path).and_then(|file| file.lock().map(|()| file));
    let _held_to_the_end = lock.map_err(|source| FileError::new("lock", &lock_path, source))?;
    if place.is_dir() {
        return Ok(());
    }
    remove_unfinished(dir)?;
    let random = random_serial()?;
    let random = data_encoding::HEXLOWER.encode(&random[..8]);
    let unfinished = dir.join(format!("{UNFINISHED_PREFIX}{random}"));
    let made = DirBuilder::new().mode(0o700).create(&unfinished);
    made.map_err(|source| FileError::new("create directory", &unfinished, source))?;
    write_authority(&unfinished, now, &random)?;
    files::sync_dir(&unfinished)?;
    fs::rename(&unfinished, place).map_err(|source| FileError::new("create", place, source))?;
    files::sync_dir(dir)?;
    tracing::info!(directory = %place.display(), "Created a new certificate authority");
    Ok(())
}

/// Removes what a creation left behind that did not reach its last step. Only called under the lock.
fn remove_unfinished(dir: &Path) -> Result<(), FileError> {
    let entries = fs::read_dir(dir).map_err(|source| FileError::new("list", dir, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| FileError::new("list", dir, source))?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(|source| FileError::new("remove", &path, source))?;
            tracing::warn!(directory = %path.display(), "Removed an unfinished certificate authority");
        }
    }
    Ok(())
}

fn write_authority(dir: &Path, now: Timestamp, id: &str) -> Result<(), CaError> {
    let window = Window::new(now, AUTHORITY_LIFETIME, Timestamp::MAX)?;
    let root_key = SigningKeyPair::generate().map_err(IssueError::from)?;
    let root_params = authority_params(&format!("Shorebase root {id}"), window, None)?;
    let root = root_params.self_signed(&root_key).map_err(IssueError::from)?;
    write_pair(dir, ROOT, &root, &root_key)?;
    let issuer = Issuer::from_ca_cert_der(root.der(), root_key).map_err(IssueError::from)?;
    for (name, usage) in
        [(CLIENT_SIGNER, ExtendedKeyUsagePurpose::ClientAuth), (SERVER_SIGNER, ExtendedKeyUsagePurpose::ServerAuth)]
    {
        let key = SigningKeyPair::generate().map_err(IssueError::from)?;
        let params = authority_params(name, window, Some(usage))?;
        let certificate = params.signed_by(&key, &issuer).map_err(IssueError::from)?;
        write_pair(dir, name, &certificate, &key)?;
    }
    Ok(())
}

/// The parameters of the root (`usage` absent) or of a signer.
fn authority_params(
    common_name: &str,
    window: Window,
    usage: Option<ExtendedKeyUsagePurpose>,
) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    window.apply(&mut params)?;
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let path = if usage.is_some() { 0 } else { 1 };
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usage.into_iter().collect();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn write_pair(dir: &Path, name: &str, certificate: &Certificate, key: &SigningKeyPair) -> Result<(), FileError> {
    files::write_new(&dir.join(format!("{name}.key")), key.to_pem().as_bytes(), 0o600)?;
    files::write_new(&dir.join(format!("{name}.crt")), certificate.pem().as_bytes(), 0o600)
}
