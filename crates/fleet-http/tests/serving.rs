//! The listener and the conventions through real TLS, with HTTP/1 and HTTP/2 clients.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use fleet_http::{
    ApiError, ApiJson, Conventions, HttpLimits, PeerConnection, serve, serve_plain, with_api_conventions,
};
use fleet_model::StatusBody;
use fleet_runtime::CancellationToken;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn leaf(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        (params.signed_by(&key, &self.ca).unwrap(), key)
    }

    fn server(&self) -> Arc<ArcSwap<rustls::ServerConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .unwrap();
        let (certificate, key) = self.leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(ArcSwap::from_pointee(config))
    }

    fn client(&self, http2: bool, with_certificate: bool) -> reqwest::Client {
        let root = reqwest::Certificate::from_der(self.ca.der()).unwrap();
        let mut builder = reqwest::Client::builder().tls_certs_only([root]).timeout(Duration::from_secs(20));
        if !http2 {
            builder = builder.http1_only();
        }
        if with_certificate {
            let (certificate, key) = self.leaf("device", ExtendedKeyUsagePurpose::ClientAuth);
            let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        builder.build().unwrap()
    }
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

async fn who(peer: PeerConnection) -> String {
    let length = peer.identity(|certificate| certificate.map_or(0, |der| der.len()));
    format!("{} {}", peer.certificate().is_some(), *length > 0)
}

/// Requests that are parked.
static PARKED: AtomicUsize = AtomicUsize::new(0);

async fn park(peer: PeerConnection) -> &'static str {
    PARKED.fetch_add(1, Ordering::SeqCst);
    peer.closing().await;
    "closing"
}

async fn echo(ApiJson(body): ApiJson<Named, 1024>) -> String {
    body.name
}

async fn fails() -> Result<(), ApiError> {
    Err(ApiError::unavailable("the database is away", 7).with_source(std::io::Error::other("secret detail")))
}

async fn panics() -> &'static str {
    panic!("on purpose")
}

async fn large() -> Vec<u8> {
    vec![7; 64 * 1024 * 1024]
}

fn router() -> Router {
    let routes = Router::new()
        .route("/who", get(who))
        .route("/park", get(park))
        .route("/echo", post(echo))
        .route("/fails", get(fails))
        .route("/panics", get(panics))
        .route("/large", get(large));
    with_api_conventions(routes, Conventions::default())
}

struct Server {
    pki: Pki,
    addr: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: HttpLimits) -> Self {
        let pki = Pki::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = serve(listener, pki.server(), router(), shutdown.clone(), limits);
        #[expect(clippy::disallowed_methods, reason = "the test joins it in stop()")]
        let task = tokio::spawn(serving);
        Self { pki, addr, shutdown, task }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.addr.port())
    }

    async fn stop(self) -> Duration {
        let started = Instant::now();
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap();
        started.elapsed()
    }
}

async fn status_of(response: reqwest::Response) -> (u16, StatusBody) {
    let code = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["flightctl-api-version"], "v1beta1");
    let body: StatusBody = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!((body.kind.as_str(), body.status.as_str(), body.code), ("Status", "Failure", code));
    (code, body)
}

#[tokio::test]
async fn handlers_see_the_client_certificate_over_both_protocols() {
    let server = Server::start(HttpLimits::default()).await;
    for http2 in [false, true] {
        for with_certificate in [false, true] {
            let client = server.pki.client(http2, with_certificate);
            let response =
                client.get(server.url("/who")).header("x-request-id", "host/abc+/-000001").send().await.unwrap();
            let version = if http2 { reqwest::Version::HTTP_2 } else { reqwest::Version::HTTP_11 };
            assert_eq!(response.version(), version);
            let headers = response.headers().clone();
            assert_eq!(headers["x-request-id"], "host/abc+/-000001");
            assert_eq!(headers["flightctl-api-version"], "v1beta1");
            assert_eq!(headers["vary"], "Flightctl-API-Version");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["x-frame-options"], "DENY");
            assert!(
                headers.contains_key("strict-transport-security") && headers.contains_key("content-security-policy")
            );
            assert_eq!(response.text().await.unwrap(), format!("{with_certificate} {with_certificate}"));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn every_refusal_is_a_status_with_its_code() {
    let server = Server::start(HttpLimits::default()).await;
    for http2 in [false, true] {
        let client = server.pki.client(http2, false);
        let get = |path: &str| client.get(server.url(path));
        let post = |body: &str| client.post(server.url("/echo")).body(body.to_owned());
        let many = (0..70).fold(get("/who"), |request, n| request.header(format!("x-{n}"), "1"));
        let table = [
            (get("/nowhere"), 404, "/nowhere"),
            (client.delete(server.url("/who")), 405, "DELETE"),
            (get(&format!("/who?{}", "x".repeat(2000))), 414, "2000"),
            (many, 431, "64"),
            (get("/who").header("x-big", "x".repeat(33 * 1024)), 431, "32768"),
            (get("/who").header("flightctl-api-version", "v9"), 406, "v1beta1"),
            (get("/fails"), 503, "the database is away"),
            (get("/panics"), 500, "internal error"),
            (post("{"), 400, "line 1"),
            (post("{\"nom\":1}"), 400, "name"),
            (post(""), 400, "EOF"),
            (post(&"x".repeat(1025)), 413, "1024"),
            (post("{\"name\":\"a\"}").header("content-type", "text/plain"), 415, "application/json"),
        ];
        for (request, code, part) in table {
            let (got, body) = status_of(request.send().await.unwrap()).await;
            assert_eq!(got, code, "{body:?}");
            assert!(body.message.contains(part), "{part:?} is not in {body:?}");
            assert_eq!(Some(body.reason.as_str()), StatusCode::from_u16(code).unwrap().canonical_reason());
            assert!(!body.message.contains("secret"), "{body:?}");
        }
        let refused = get("/who").header("flightctl-api-version", "v9").send().await.unwrap();
        assert_eq!(refused.headers()["flightctl-api-versions-supported"], "v1beta1");
        let away = get("/fails").send().await.unwrap();
        assert_eq!(away.headers()["retry-after"], "7");
        let good = post("{\"name\":\"berlin\"}").send().await.unwrap();
        assert_eq!(good.text().await.unwrap(), "berlin");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_id_that_is_not_plain_is_replaced() {
    let server = Server::start(HttpLimits::default()).await;
    let client = server.pki.client(true, false);
    for bad in ["a b", "<script>", &"x".repeat(129)] {
        let response = client.get(server.url("/who")).header("x-request-id", bad).send().await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert!(id != bad && id.len() == 32, "{id}");
    }
    server.stop().await;
}

#[tokio::test]
async fn shutdown_ends_parked_requests_at_once_and_joins_everything() {
    let server = Server::start(HttpLimits::default()).await;
    let mut parked = tokio::task::JoinSet::new();
    for http2 in [false, true] {
        let request = server.pki.client(http2, true).get(server.url("/park"));
        parked.spawn(async move { request.send().await.unwrap().text().await.unwrap() });
    }
    // An idle connection and one in its handshake must not hold the end up either.
    let client = server.pki.client(false, false);
    client.get(server.url("/who")).send().await.unwrap();
    let _silent = TcpStream::connect(server.addr).await.unwrap();
    let started = Instant::now();
    while PARKED.load(Ordering::SeqCst) < 2 {
        assert!(started.elapsed() < Duration::from_secs(20), "the requests are parked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = server.stop().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(parked.join_all().await, ["closing", "closing"]);
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_frees_its_place() {
    let limits =
        HttpLimits { max_connections: 1, handshake_timeout: Duration::from_millis(300), ..HttpLimits::default() };
    let server = Server::start(limits).await;
    let started = Instant::now();
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    let client = server.pki.client(false, false);
    client.get(server.url("/who")).send().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(250), "the second connection had to wait");
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let limits = HttpLimits { write_timeout: Duration::from_millis(300), ..HttpLimits::default() };
    #[expect(clippy::disallowed_methods, reason = "joined below")]
    let task = tokio::spawn(serve_plain(listener, router(), shutdown.clone(), limits));
    // On a busy machine it may take longer until the server finds that nobody reads.
    let mut cut_off = false;
    for seconds in [2, 6, 20] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let mut got = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut got)).await.unwrap();
        cut_off = ended.is_err() || got.len() < 64 * 1024 * 1024;
        if cut_off {
            break;
        }
    }
    assert!(cut_off, "the answer came whole");
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}
