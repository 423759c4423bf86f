//! `fleetctl enrollment-config`: an agent configuration with a new enrolment certificate.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_model::{API_VERSION, EnrollmentConfig, signer};
use fleet_pki::{DeviceKey, ENROLLMENT_COMMON_NAME};
use reqwest::{Method, Url};

use crate::cli::{Connection, EnrollmentConfigArgs};
use crate::client::Client;
use crate::{Io, Outcome};

pub(crate) async fn enrollment_config(
    args: &EnrollmentConfigArgs,
    connection: &Connection,
    io: &mut Io<'_>,
) -> anyhow::Result<Outcome> {
    let client = Client::new(connection)?;
    let key = DeviceKey::generate()?;
    // The key's fingerprint is random enough to make names differ.
    let suffix: String = key.device_name().as_str().chars().take(8).collect();
    let common_name = format!("{ENROLLMENT_COMMON_NAME}-{suffix}");
    let name = args.name.clone().unwrap_or_else(|| common_name.clone());
    let mut request = serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": STANDARD.encode(key.csr_pem(&common_name)?),
            "signerName": signer::ENROLLMENT,
            "usages": ["clientAuth", "CA:false"],
        },
    });
    if let Some(ttl) = args.ttl {
        request["spec"]["expirationSeconds"] = ttl.as_secs().into();
    }
    client.send(Method::POST, &["certificatesigningrequests"], &[], Some(&request)).await?;
    let answer = client.get(&["enrollmentconfig"], &[("csr", &name)]).await?;
    let mut config: EnrollmentConfig =
        serde_json::from_value(answer).context("the service's answer is not an agent configuration")?;
    let service = &mut config.enrollment_service;
    service.authentication.client_key_data = STANDARD.encode(key.pem());
    if let Some(host) = &args.server_name {
        service.service.server = with_host(&service.service.server, host)?;
    }
    config.default_labels = args.labels.iter().cloned().collect();
    let yaml = serde_yaml::to_string(&config)?;
    match &args.output {
        None => io.out.write_all(yaml.as_bytes())?,
        Some(path) => {
            write_private(path, yaml.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
            writeln!(io.err, "wrote {}; it holds a key: keep it private", path.display())?;
        }
    }
    Ok(Outcome::Good)
}

/// The URL with another host; the port stays unless `host` brings one.
fn with_host(url: &str, host: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(url).with_context(|| format!("the service names {url:?} as the agents' URL"))?;
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.starts_with('[') => {
            (name, Some(port.parse().with_context(|| format!("{host:?} has no valid port"))?))
        }
        _ => (host, None),
    };
    if name.is_empty() || url.set_host(Some(name)).is_err() {
        bail!("{host:?} is not a host name");
    }
    if port.is_some() && url.set_port(port).is_err() {
        bail!("{host:?} has no valid port");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Writes a file that only the user may read, in one motion.
fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // Temporary files are made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_replaced_and_the_port_kept() {
        let url = "https://localhost:7443";
        assert_eq!(with_host(url, "fleet.example").unwrap(), "https://fleet.example:7443");
        assert_eq!(with_host(url, "fleet.example:8443").unwrap(), "https://fleet.example:8443");
        assert_eq!(with_host(url, "10.0.0.1").unwrap(), "https://10.0.0.1:7443");
        assert_eq!(with_host(url, "[::1]:9").unwrap(), "https://[::1]:9");
        for bad in ["", "a b", "x:y", ":1"] {
            assert!(with_host(url, bad).is_err(), "{bad}");
        }
    }
}
