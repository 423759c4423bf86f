//! A real Git host for tests: `git http-backend` behind nginx, over HTTPS with a private CA and over plain HTTP, with basic
//! authentication if wanted. Listens on the loopback only and is gone when dropped.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::ReservedPort;
use crate::file_server::Authority;

pub(crate) const NGINX: [&str; 3] = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A running Git host. Serves every repository below its root, read-only.
#[derive(Debug)]
pub struct GitServer {
    ports: Ports,
    certificates: Certificates,
    // Killed before their directory goes.
    _nginx: KilledOnDrop,
    _fcgiwrap: KilledOnDrop,
    directory: tempfile::TempDir,
}

/// The private CA, and client certificates with their keys, all PEM.
#[derive(Debug)]
struct Certificates {
    ca: String,
    client: (String, String),
    stranger: (String, String),
}

/// Where nginx listens: HTTPS, HTTP, and HTTPS that wants a client certificate.
#[derive(Debug)]
struct Ports {
    https: ReservedPort,
    http: ReservedPort,
    certificate: ReservedPort,
}

/// A process that leads a group of its own, since fcgiwrap works in children that outlive it.
#[derive(Debug)]
pub(crate) struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // Some or all of the group may have ended by themselves.
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The programs that the server is made of.
struct Programs {
    nginx: PathBuf,
    fcgiwrap: PathBuf,
    backend: PathBuf,
}

impl GitServer {
    /// Serves the repositories below `root`; with `credentials` (user name and password) only to who knows them.
    ///
    /// # Errors
    /// When a program is missing (the error lists all Debian packages to install), or the server does not start in a minute.
    pub fn start(root: &Path, credentials: Option<(&str, &str)>) -> Result<Self> {
        let programs = Programs::find()?;
        let directory =
            tempfile::Builder::new().prefix("git-server-").tempdir().context("create the server's directory")?;
        let certificates = write_certificates(directory.path())?;
        if let Some((user, password)) = credentials {
            fs::write(directory.path().join("htpasswd"), format!("{user}:{{PLAIN}}{password}\n"))?;
        }
        let fcgiwrap = start_fcgiwrap(&programs, directory.path())?;
        let ports =
            Ports { https: ReservedPort::take()?, http: ReservedPort::take()?, certificate: ReservedPort::take()? };
        let config = nginx_config(directory.path(), root, &programs.backend, &ports, credentials.is_some());
        let nginx = start_nginx(&programs.nginx, directory.path(), &config, &ports.https)?;
        Ok(Self { ports, certificates, _nginx: nginx, _fcgiwrap: fcgiwrap, directory })
    }

    /// Lets in who knows these from the next request on, where [`start`](Self::start) was given credentials.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_password(&self, user: &str, password: &str) -> Result<()> {
        let (fresh, file) = (self.directory.path().join("htpasswd.new"), self.directory.path().join("htpasswd"));
        fs::write(&fresh, format!("{user}:{{PLAIN}}{password}\n"))?;
        fs::rename(fresh, file).context("replace the passwords")
    }

    /// The `https://` URL of the repository at `path` below the root.
    pub fn https_url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.ports.https.port())
    }

    /// An `https://` URL that redirects to the same repository on `other`, which is another host to any client.
    pub fn redirecting_url(&self, other: &Self, path: &str) -> String {
        self.https_url(&format!("to-port/{}/{path}", other.ports.https.port()))
    }

    /// An `https://` URL of the repository at `path` where the host speaks the old protocol only, not version 2.
    pub fn old_protocol_url(&self, path: &str) -> String {
        self.https_url(&format!("without-v2/{path}"))
    }

    /// The `http://` URL of the repository at `path` below the root.
    pub fn http_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.ports.http.port())
    }

    /// The port of HTTPS on 127.0.0.1, for proxies; the certificate is good for `localhost` and any port.
    pub fn https_port(&self) -> u16 {
        self.ports.https.port()
    }

    /// The port of plain HTTP on 127.0.0.1, for proxies.
    pub fn http_port(&self) -> u16 {
        self.ports.http.port()
    }

    /// All requests that were answered so far, one line each: method, path, status.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        finished(self.ports.http.address(), self.directory.path())
    }

    /// The certificate of the CA that signed the server's certificate, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.certificates.ca
    }

    /// The `https://` URL of the repository at `path` for those who show the certificate of [`client_pem`](Self::client_pem).
    pub fn client_url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.ports.certificate.port())
    }

    /// An `https://` URL that redirects to the same repository at the port that wants a client certificate, which is
    /// another host to any client.
    pub fn redirecting_to_client_url(&self, path: &str) -> String {
        self.https_url(&format!("to-port/{}/{path}", self.ports.certificate.port()))
    }

    /// A client certificate that the server accepts and its key, as PEM.
    pub fn client_pem(&self) -> (&str, &str) {
        (&self.certificates.client.0, &self.certificates.client.1)
    }

    /// A client certificate of another CA and its key, as PEM.
    pub fn stranger_pem(&self) -> (&str, &str) {
        (&self.certificates.stranger.0, &self.certificates.stranger.1)
    }
}

impl Programs {
    fn find() -> Result<Self> {
        let nginx = first_of(&NGINX);
        let fcgiwrap = first_of(&["/usr/sbin/fcgiwrap", "/usr/bin/fcgiwrap", "/usr/local/sbin/fcgiwrap"]);
        let backend = first_of(&["/usr/lib/git-core/git-http-backend", "/usr/libexec/git-core/git-http-backend"]);
        match (nginx, fcgiwrap, backend) {
            (Some(nginx), Some(fcgiwrap), Some(backend)) => Ok(Self { nginx, fcgiwrap, backend }),
            (nginx, fcgiwrap, backend) => {
                let missing: Vec<&str> = [
                    nginx.is_none().then_some("nginx-light (nginx)"),
                    fcgiwrap.is_none().then_some("fcgiwrap"),
                    backend.is_none().then_some("git (git-http-backend)"),
                ]
                .into_iter()
                .flatten()
                .collect();
                bail!(
                    "the test Git server needs programs that are not installed; install the packages: {}",
                    missing.join(", ")
                )
            }
        }
    }
}

pub(crate) fn first_of(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// The line of nginx' configuration that answers [`finished`].
pub(crate) const FINISHED: &str = "    location = /.finished { access_log off; return 204; }\n";

/// The lines of nginx' log. It notes a request after its answer: what came before this call is in, since nginx works in one
/// process and answered another request meanwhile.
pub(crate) fn finished(http: SocketAddr, directory: &Path) -> Vec<String> {
    let ask = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(http)?;
        stream.set_read_timeout(Some(START_DEADLINE))?;
        stream.write_all(b"GET /.finished HTTP/1.0\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    };
    // A server that has ended has noted all it ever will.
    let _ = ask();
    let log = fs::read_to_string(directory.join("access.log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// Writes `server.pem` and `server.key` for `localhost`, and `ca.pem` of the CA that signed them and client certificates.
fn write_certificates(directory: &Path) -> Result<Certificates> {
    let authority = Authority::new("Test CA of a Git server")?;
    let (certificate, key) = authority.issue("localhost", false)?;
    let client = authority.issue("syncer", true)?;
    let stranger = Authority::new("Test CA of nobody")?.issue("stranger", true)?;
    fs::write(directory.join("server.pem"), certificate)?;
    fs::write(directory.join("server.key"), key)?;
    fs::write(directory.join("ca.pem"), &authority.pem)?;
    Ok(Certificates { ca: authority.pem, client, stranger })
}

fn start_fcgiwrap(programs: &Programs, directory: &Path) -> Result<KilledOnDrop> {
    let socket = directory.join("fcgi.sock");
    let child = Command::new(&programs.fcgiwrap)
        .arg("-c4")
        .arg("-s")
        .arg(format!("unix:{}", socket.display()))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("start fcgiwrap")?;
    let mut child = KilledOnDrop(child);
    until_ready(&mut child, "fcgiwrap", || UnixStream::connect(&socket).is_ok())?;
    Ok(child)
}

pub(crate) fn start_nginx(nginx: &Path, directory: &Path, config: &str, port: &ReservedPort) -> Result<KilledOnDrop> {
    let file = directory.join("nginx.conf");
    fs::write(&file, config)?;
    let log = directory.join("error.log");
    let child = Command::new(nginx)
        .arg("-c")
        .arg(&file)
        .arg("-p")
        .arg(directory)
        .arg("-e")
        .arg(&log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("start nginx")?;
    let mut child = KilledOnDrop(child);
    until_ready(&mut child, "nginx", || TcpStream::connect(port.address()).is_ok())
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    Ok(child)
}

fn until_ready(child: &mut KilledOnDrop, name: &str, ready: impl Fn() -> bool) -> Result<()> {
    let started = Instant::now();
    while !ready() {
        if let Some(status) = child.0.try_wait()? {
            bail!("{name} ended before it was ready: {status}");
        }
        if started.elapsed() > START_DEADLINE {
            bail!("{name} was not ready after {START_DEADLINE:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn nginx_config(directory: &Path, root: &Path, backend: &Path, ports: &Ports, authenticate: bool) -> String {
    let (directory, root, backend) = (directory.display(), root.display(), backend.display());
    let [https, http, certificate] = [&ports.https, &ports.http, &ports.certificate].map(ReservedPort::port);
    let auth = if authenticate {
        format!("auth_basic \"git\"; auth_basic_user_file {directory}/htpasswd;")
    } else {
        String::new()
    };
    let backend = format!(
        r"      {auth}
      fastcgi_pass unix:{directory}/fcgi.sock;
      fastcgi_param SCRIPT_FILENAME {backend};
      fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param GIT_PROJECT_ROOT {root};
      fastcgi_param GIT_CONFIG_NOSYSTEM 1;
      fastcgi_param GIT_CONFIG_GLOBAL /dev/null;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
      fastcgi_param REMOTE_ADDR $remote_addr;
      fastcgi_param REMOTE_USER $remote_user;"
    );
    let locations = format!(
        r"    location ~ ^/to-port/([0-9]+)/(.*)$ {{
      return 302 https://localhost:$1/$2$is_args$args;
    }}
    location ~ ^/without-v2(/.*)$ {{
{backend}
      fastcgi_param PATH_INFO $1;
    }}
    location / {{
{backend}
      fastcgi_param PATH_INFO $uri;
      fastcgi_param GIT_PROTOCOL $http_git_protocol;
    }}"
    );
    format!(
        r#"daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 128; }}
http {{
  log_format short "$request_method $uri $status";
  access_log {directory}/access.log short;
  client_max_body_size 0;
  client_body_temp_path {directory}/tmp-body;
  proxy_temp_path {directory}/tmp-proxy;
  fastcgi_temp_path {directory}/tmp-fastcgi;
  uwsgi_temp_path {directory}/tmp-uwsgi;
  scgi_temp_path {directory}/tmp-scgi;
  server {{
    listen 127.0.0.1:{https} ssl;
    listen 127.0.0.1:{http};
    ssl_certificate {directory}/server.pem;
    ssl_certificate_key {directory}/server.key;
{FINISHED}{locations}
  }}
  server {{
    listen 127.0.0.1:{certificate} ssl;
    ssl_certificate {directory}/server.pem;
    ssl_certificate_key {directory}/server.key;
    ssl_client_certificate {directory}/ca.pem;
    ssl_verify_client on;
{locations}
  }}
}}
"#
    )
}
