//! TLS listeners, and the certificates they show.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use fleet_pki::tls::{TlsTime, agent_server_config, user_server_config};
use fleet_pki::{CertificateAuthority, ServerCertificate};
use fleet_runtime::{CancellationToken, Clock};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::config::ListenerConfig;

/// How often certificates are looked at.
const CHECK: Duration = Duration::from_secs(3_600);

/// Who a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// People, with tokens.
    Users,
    /// Devices, with client certificates.
    Agents,
}

/// A certificate that is kept fresh.
#[derive(Debug)]
pub(crate) struct ListenerTls {
    audience: Audience,
    authority: Arc<CertificateAuthority>,
    clock: Arc<dyn Clock>,
    names: Vec<String>,
    own: Option<(PathBuf, PathBuf)>,
    dir: PathBuf,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl ListenerTls {
    /// Loads or issues the certificate.
    pub(crate) fn new(
        audience: Audience,
        config: &ListenerConfig,
        dir: PathBuf,
        authority: Arc<CertificateAuthority>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let (names, own) = (certificate_names(config), config.certificate.clone());
        let built = build(audience, &names, own.as_ref(), &dir, &authority, &clock)?;
        Ok(Self { audience, authority, clock, names, own, dir, current: Arc::new(ArcSwap::new(built)) })
    }

    pub(crate) fn current(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.current)
    }

    /// Replaces the configuration once an hour: a certificate near its end is renewed, an operator's new file is read,
    /// and session tickets get new keys. A failure keeps what there is.
    pub(crate) async fn keep_fresh(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(CHECK) => {}
            }
            match build(self.audience, &self.names, self.own.as_ref(), &self.dir, &self.authority, &self.clock) {
                Ok(config) => self.current.store(config),
                Err(error) => {
                    warn!(error = format!("{error:#}"), "Cannot refresh a server certificate; keeping the old one")
                }
            }
        }
    }
}

fn build(
    audience: Audience,
    names: &[String],
    own: Option<&(PathBuf, PathBuf)>,
    dir: &std::path::Path,
    authority: &CertificateAuthority,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let certificate = match own {
        Some((chain, key)) => ServerCertificate::from_files(chain, key)?,
        None => ServerCertificate::load_or_issue(dir, authority, names, clock.now())?,
    };
    let clock = Arc::clone(clock);
    let time = TlsTime::from_fn(move || clock.now());
    Ok(match audience {
        Audience::Users => user_server_config(&certificate, &time)?,
        Audience::Agents => agent_server_config(&certificate, &authority.client_ca_roots(), &time)?,
    })
}

/// The names a certificate is issued for: those configured, else this machine's and the loopback ones.
fn certificate_names(config: &ListenerConfig) -> Vec<String> {
    let mut names = config.names.clone();
    if let Some(host) = config.base_url.as_deref().and_then(host_of_url) {
        names.insert(0, host);
    }
    if names.is_empty() {
        names.push(host_name());
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        if !config.address.ip().is_unspecified() {
            names.push(config.address.ip().to_string());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn host_of_url(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}

/// The machine's name, or `localhost` when it has none that can stand in a certificate.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    if name.parse::<fleet_model::ResourceName>().is_ok() { name } else { "localhost".to_owned() }
}

/// The URL that clients use.
pub(crate) fn base_url(config: &ListenerConfig, bound: SocketAddr) -> String {
    if let Some(url) = &config.base_url {
        return url.trim_end_matches('/').to_owned();
    }
    let host = match config.names.first() {
        Some(name) => name.clone(),
        None if bound.ip().is_unspecified() => host_name(),
        None => bound.ip().to_string(),
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => format!("https://[{v6}]:{}", bound.port()),
        Ok(IpAddr::V4(_)) | Err(_) => format!("https://{host}:{}", bound.port()),
    }
}

/// Binds an address.
pub(crate) async fn bind(what: &str, address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for the {what}; is another process using it?"))?;
    let bound = listener.local_addr()?;
    info!(address = %bound, "Listening for the {what}");
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(base_url: Option<&str>, names: &[&str]) -> ListenerConfig {
        ListenerConfig {
            address: SocketAddr::from(([0, 0, 0, 0], 7443)),
            base_url: base_url.map(str::to_owned),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            certificate: None,
        }
    }

    #[test]
    fn the_url_comes_from_the_configuration_the_first_name_or_the_address() {
        let bound = SocketAddr::from(([127, 0, 0, 1], 7443));
        assert_eq!(base_url(&config(Some("https://fleet.test:443/"), &["x"]), bound), "https://fleet.test:443");
        assert_eq!(base_url(&config(None, &["fleet.test"]), bound), "https://fleet.test:7443");
        assert_eq!(base_url(&config(None, &["::1"]), bound), "https://[::1]:7443");
        assert_eq!(base_url(&config(None, &[]), bound), "https://127.0.0.1:7443");
    }

    #[test]
    fn a_certificate_names_the_host_of_the_url_once() {
        let names = certificate_names(&config(Some("https://fleet.test:443"), &["fleet.test", "10.0.0.1"]));
        assert_eq!(names, ["fleet.test", "10.0.0.1"]);
        assert!(certificate_names(&config(None, &[])).contains(&"localhost".to_owned()));
        assert_eq!(host_of_url("https://[::1]:7443/x").as_deref(), Some("::1"));
    }
}
