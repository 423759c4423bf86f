//! A real HTTP server for tests: nginx with files, over HTTPS with a private CA (with and without client certificates) and
//! over plain HTTP. Listens on the loopback only and is gone when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::ReservedPort;
use crate::git_server::{FINISHED, KilledOnDrop, NGINX, finished, first_of, start_nginx};

/// A running server. Its root is empty; everything below it is served with `ETag` and `Last-Modified`.
#[derive(Debug)]
pub struct FileServer {
    ports: Ports,
    ca_pem: String,
    client: (String, String),
    stranger: (String, String),
    // Killed before its directory goes.
    _nginx: KilledOnDrop,
    directory: tempfile::TempDir,
}

#[derive(Debug)]
struct Ports {
    https: ReservedPort,
    with_client_certificate: ReservedPort,
    http: ReservedPort,
}

impl FileServer {
    /// Starts the server. `locations` are more `location` blocks in nginx' language; `{root}` in it is the directory of the
    /// files.
    ///
    /// # Errors
    /// When nginx is not installed, does not understand `locations`, or does not start in a minute.
    pub fn start(locations: &str) -> Result<Self> {
        let nginx = first_of(&NGINX).context("the test file server needs nginx; install the package nginx-light")?;
        let directory = tempfile::Builder::new().prefix("file-server-").tempdir().context("create its directory")?;
        fs::create_dir(directory.path().join("root"))?;
        let authority = Authority::new("Test CA of a file server")?;
        let client = authority.issue("device", true)?;
        let (certificate, key) = authority.issue("localhost", false)?;
        let stranger = Authority::new("Test CA of nobody")?.issue("stranger", true)?;
        fs::write(directory.path().join("ca.pem"), &authority.pem)?;
        fs::write(directory.path().join("server.pem"), certificate)?;
        fs::write(directory.path().join("server.key"), key)?;
        let ports = Ports {
            https: ReservedPort::take()?,
            with_client_certificate: ReservedPort::take()?,
            http: ReservedPort::take()?,
        };
        let running =
            start_nginx(&nginx, directory.path(), &config(directory.path(), &ports, locations), &ports.https)?;
        Ok(Self { ports, ca_pem: authority.pem, client, stranger, _nginx: running, directory })
    }

    /// Writes a file below the root, at once, with a time of change that no version before had.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let file = self.root().join(path);
        let before = fs::metadata(&file).and_then(|metadata| metadata.modified()).ok();
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        // Whoever asks meanwhile gets the one or the other, whole.
        let fresh = self.directory.path().join("fresh");
        fs::write(&fresh, content)?;
        // nginx tells versions apart by seconds and size.
        if let Some(before) = before {
            let later: SystemTime = before + std::time::Duration::from_secs(2);
            fs::File::options().write(true).open(&fresh)?.set_modified(later)?;
        }
        fs::rename(&fresh, &file)?;
        Ok(())
    }

    /// The directory of the files.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// The `https://` URL of `path`.
    pub fn https_url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.ports.https.port())
    }

    /// The `https://` URL of `path` for those who show the certificate [`client_pem`](Self::client_pem).
    pub fn client_url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.ports.with_client_certificate.port())
    }

    /// The `http://` URL of `path`.
    pub fn http_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.ports.http.port())
    }

    /// The port of HTTPS, for proxies.
    pub fn https_port(&self) -> u16 {
        self.ports.https.port()
    }

    /// The CA that signed the certificate of the server, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A client certificate that the server accepts and its key, as PEM.
    pub fn client_pem(&self) -> (&str, &str) {
        (&self.client.0, &self.client.1)
    }

    /// A client certificate of another CA and its key, as PEM.
    pub fn stranger_pem(&self) -> (&str, &str) {
        (&self.stranger.0, &self.stranger.1)
    }

    /// One line for each request that was answered so far: status, path, `Authorization`, subject of the client certificate, `-` for what was
    /// not there.
    pub fn requests(&self) -> Vec<String> {
        finished(self.ports.http.address(), self.directory.path())
    }
}

/// A CA for tests.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// A certificate and its key, as PEM: for a client named so, or for the loopback.
    pub(crate) fn issue(&self, name: &str, is_client: bool) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let names = if is_client { Vec::new() } else { vec!["localhost".to_owned(), "127.0.0.1".to_owned()] };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        let usage = if is_client { ExtendedKeyUsagePurpose::ClientAuth } else { ExtendedKeyUsagePurpose::ServerAuth };
        params.extended_key_usages.push(usage);
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

fn config(directory: &Path, ports: &Ports, locations: &str) -> String {
    let [https, with_client_certificate, http] =
        [&ports.https, &ports.with_client_certificate, &ports.http].map(ReservedPort::port);
    let root = directory.join("root");
    let locations = locations.replace("{root}", &root.display().to_string());
    let (directory, root) = (directory.display(), root.display());
    let tls = format!("ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.key;");
    format!(
        r#"daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 128; }}
http {{
  log_format seen '$status $uri $http_authorization $ssl_client_s_dn';
  access_log {directory}/access.log seen;
  client_body_temp_path {directory}/tmp-body;
  proxy_temp_path {directory}/tmp-proxy;
  fastcgi_temp_path {directory}/tmp-fastcgi;
  uwsgi_temp_path {directory}/tmp-uwsgi;
  scgi_temp_path {directory}/tmp-scgi;
  default_type application/octet-stream;
  root {root};
  server {{
    listen 127.0.0.1:{https} ssl;
    listen 127.0.0.1:{http};
    {tls}
{FINISHED}{locations}
  }}
  server {{
    listen 127.0.0.1:{with_client_certificate} ssl;
    {tls}
    ssl_client_certificate {directory}/ca.pem;
    ssl_verify_client on;
{locations}
  }}
}}
"#
    )
}
