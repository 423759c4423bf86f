//! Unchanged polls through the whole stack (TLS 1.3 with client certificates, HTTP, routing, identity, index), and the
//! memory of parked ones.
//!
//! The server runs on one thread of its own, whose CPU time is read from the kernel: polls per second of that time are
//! polls per second and core. The clients run in the same process on other threads; for the memory they run in a
//! process of their own, so that only the server's memory is counted.
#![expect(clippy::unwrap_used, reason = "a bench fails where it stands")]

#[path = "../tests/agent_api/world.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod world;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleet_agent_api::AgentApiConfig;
use fleet_model::{Digest, Labels, RenderedVersion};
use fleet_pki::tls::{ClientIdentity, TlsTime, client_config};
use fleet_pki::{DeviceCsr, DeviceKey, DeviceSigner, Lifetime};
use fleet_runtime::Clock as _;
use fleet_store::{Channel, DeviceUpdate, insert_rendered, lock_device_changes, put_enrolled_device, update_devices};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use world::{ORG, World};

const CONNECTIONS: usize = 64;
const PARKED: usize = 2000;
const MEASURE: Duration = Duration::from_secs(4);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--park") {
        park_clients(Path::new(&arguments[at + 1]), arguments[at + 2].parse().unwrap(), arguments[at + 3] == "h2");
        return;
    }
    say("unchanged polls, one server thread, kept-alive mTLS connections, clients in the same process");
    for http2 in [false, true] {
        throughput(http2);
    }
    say("memory of parked polls, clients in another process");
    for http2 in [false, true] {
        memory(http2);
    }
}

fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

fn protocol(http2: bool) -> &'static str {
    if http2 { "h2" } else { "http/1.1" }
}

/// A world on a thread of its own, until the value is dropped.
struct Server {
    world: Arc<World>,
    task: std::path::PathBuf,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Server {
    fn start(config: AgentApiConfig) -> Self {
        let (ready, started) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let world = Arc::new(World::start(config).await);
                let task = std::fs::read_link("/proc/thread-self").unwrap();
                ready.send((Arc::clone(&world), Path::new("/proc").join(task))).unwrap();
                // An error means that the value was dropped: the same.
                let _ = stopped.await;
            });
        });
        let (world, task) = started.recv().unwrap();
        Self { world, task, stop, thread }
    }

    /// CPU time of the server's thread.
    fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(self.task.join("schedstat")).unwrap();
        Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
    }

    fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}

/// Certificates for `count` new devices, all at version 1.
async fn devices(world: &World, count: usize) -> Vec<(String, String, String)> {
    let body = br#"{"os":{"image":"quay.io/os:1"}}"#.to_vec();
    let digest = Digest::of(&body);
    let mut transaction = world.store.begin().await.unwrap();
    lock_device_changes(&mut transaction).await.unwrap();
    insert_rendered(&mut transaction, &[(digest, body)]).await.unwrap();
    let labels: Labels = [("site".to_owned(), "berlin".to_owned())].into();
    let (mut updates, mut made) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let key = DeviceKey::generate().unwrap();
        let name = key.device_name().as_str().to_owned();
        let csr = DeviceCsr::parse(&key.csr_pem(&name).unwrap()).unwrap();
        let (now, life) = (world.clock.now(), Lifetime::days(10));
        let issued = world.authority.sign_device(&csr, DeviceSigner::DeviceEnrollment, ORG, now, life).unwrap();
        put_enrolled_device(&mut transaction, ORG, &name, &labels, RenderedVersion::ZERO).await.unwrap();
        updates.push(DeviceUpdate {
            name: name.clone(),
            labels: labels.clone(),
            owner_fleet: Some("kiosks".to_owned()),
            conflicting_fleets: Vec::new(),
            fleet_revision: Some("rev1".to_owned()),
            render_error: None,
            rendered_digest: Some(digest),
            rendered_version: RenderedVersion::try_from(1).unwrap(),
            provenance: Some(("main".to_owned(), "c0ffee".to_owned())),
            visible: true,
        });
        made.push((name, issued.chain_pem, key.pem().to_owned()));
    }
    update_devices(&mut transaction, ORG, Timestamp::UNIX_EPOCH.into(), &updates).await.unwrap();
    Channel::Devices.notify(&mut transaction, "").await.unwrap();
    transaction.commit().await.unwrap();
    fleet_test::wait_for("the index follows", Duration::from_secs(20), || async {
        (world.metrics().indexed_devices.get() >= i64::try_from(count).unwrap()).then_some(())
    })
    .await;
    made
}

enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Empty<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn connect(port: u16, tls: rustls::ClientConfig, drivers: &mut JoinSet<()>) -> Self {
        let http2 = tls.alpn_protocols.first().is_some_and(|first| first == b"h2");
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let host = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TokioIo::new(TlsConnector::from(Arc::new(tls)).connect(host, stream).await.unwrap());
        // A connection that the server ends at the end of a measurement is no failure of it.
        if http2 {
            let (sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            drivers.spawn(async { drop(driver.await) });
            Self::Http2(sender)
        } else {
            let (sender, driver) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            drivers.spawn(async { drop(driver.await) });
            Self::Http1(sender)
        }
    }

    async fn poll(&mut self, port: u16, name: &str) -> StatusCode {
        let path = format!("/api/v1/devices/{name}/rendered?knownRenderedVersion=1");
        let request = match self {
            Self::Http1(_) => Request::get(path).header("host", "localhost"),
            Self::Http2(_) => Request::get(format!("https://localhost:{port}{path}")),
        };
        let request = request.header("flightctl-api-version", "v1beta1").body(Empty::new()).unwrap();
        let answer = match self {
            Self::Http1(sender) => sender.send_request(request).await.unwrap(),
            Self::Http2(sender) => sender.send_request(request).await.unwrap(),
        };
        let status = answer.status();
        answer.into_body().collect().await.unwrap();
        status
    }
}

fn tls(world_root: &str, chain: &str, key: &str, http2: bool) -> rustls::ClientConfig {
    let identity = ClientIdentity::new(chain.to_owned(), zeroize::Zeroizing::new(key.to_owned()));
    let mut config = client_config(world_root, Some(&identity), &TlsTime::system()).unwrap();
    config.alpn_protocols = vec![protocol(http2).as_bytes().to_vec()];
    config
}

fn throughput(http2: bool) {
    let server = Server::start(AgentApiConfig { poll_hold: Duration::ZERO, ..AgentApiConfig::default() });
    let world = &server.world;
    let port = world.addr.port();
    let clients = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let counted = Arc::new(AtomicU64::new(0));
    let ended = Arc::new(AtomicBool::new(false));
    clients.block_on(async {
        let (mut drivers, mut loops) = (JoinSet::new(), JoinSet::new());
        for (name, chain, key) in devices(world, CONNECTIONS).await {
            let config = tls(world.authority.root_pem(), &chain, &key, http2);
            let mut sender = Sender::connect(port, config, &mut drivers).await;
            let (counted, ended) = (Arc::clone(&counted), Arc::clone(&ended));
            loops.spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    assert_eq!(sender.poll(port, &name).await, StatusCode::NO_CONTENT);
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let statements = world.metrics().poll_sql_statements.get();
        let (polls, cpu, started) = (counted.load(Ordering::Relaxed), server.cpu(), Instant::now());
        tokio::time::sleep(MEASURE).await;
        let (polls, cpu) = (counted.load(Ordering::Relaxed) - polls, server.cpu() - cpu);
        let statements = world.metrics().poll_sql_statements.get() - statements;
        let wall = started.elapsed();
        ended.store(true, Ordering::Relaxed);
        while let Some(done) = loops.join_next().await {
            done.unwrap();
        }
        let micros = cpu.as_secs_f64() * 1e6 / polls as f64;
        say(&format!(
            "  {:<9} {:>7.0} polls/s and core ({micros:.1} us of CPU each); {:>7.0} polls/s on this machine; {statements} SQL statements",
            protocol(http2),
            1e6 / micros,
            polls as f64 / wall.as_secs_f64(),
        ));
        assert_eq!(statements, 0);
    });
    server.stop();
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn memory(http2: bool) {
    let server = Server::start(AgentApiConfig::default());
    let world = &server.world;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let made = devices(world, PARKED).await;
        std::fs::write(dir.path().join("ca"), world.authority.root_pem()).unwrap();
        std::fs::write(dir.path().join("devices"), serde_json::to_vec(&made).unwrap()).unwrap();
        drop(made);
        let before = resident_kib();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--park".as_ref(), dir.path().as_os_str(), world.addr.port().to_string().as_ref()])
            .arg(protocol(http2))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let all = i64::try_from(PARKED).unwrap();
        fleet_test::wait_for("all polls are parked", Duration::from_secs(60), || async {
            (world.metrics().parked_polls.get() == all).then_some(())
        })
        .await;
        let grown = resident_kib().saturating_sub(before);
        say(&format!("  {:<9} {:.1} KiB each, {PARKED} parked", protocol(http2), grown as f64 / PARKED as f64));
        drop(child.stdin.take());
        child.wait().unwrap();
    });
    server.stop();
}

/// The other process: parks one poll for each device until its standard input ends.
fn park_clients(dir: &Path, port: u16, http2: bool) {
    let root = std::fs::read_to_string(dir.join("ca")).unwrap();
    let devices: Vec<(String, String, String)> =
        serde_json::from_slice(&std::fs::read(dir.join("devices")).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut drivers, mut polls) = (JoinSet::new(), JoinSet::new());
        for (name, chain, key) in devices {
            let mut sender = Sender::connect(port, tls(&root, &chain, &key, http2), &mut drivers).await;
            polls.spawn(async move { sender.poll(port, &name).await });
        }
        let ended = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        ended.await.unwrap().unwrap();
    });
}
