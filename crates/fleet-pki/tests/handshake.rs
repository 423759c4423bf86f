//! Real TLS handshakes over loopback: who gets in, and who does not.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use fleet_model::OrgId;
use fleet_pki::tls::{self, ClientIdentity, TlsTime};
use fleet_pki::{CertificateAuthority, DeviceCsr, DeviceKey, DeviceSigner, Lifetime, PeerIdentity, ServerCertificate};
use jiff::Timestamp;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const DEADLINE: Duration = Duration::from_secs(20);

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn at(time: Timestamp) -> TlsTime {
    TlsTime::from_fn(move || time)
}

/// A certificate authority with a server below it.
struct Site {
    dir: tempfile::TempDir,
    ca: CertificateAuthority,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::load_or_create(dir.path(), now()).unwrap();
        Self { dir, ca }
    }

    fn server(&self) -> ServerCertificate {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        ServerCertificate::load_or_issue(self.dir.path(), &self.ca, &names, now()).unwrap()
    }

    fn agent_config(&self, time: Timestamp) -> Arc<ServerConfig> {
        tls::agent_server_config(&self.server(), &self.ca.client_ca_roots(), &at(time)).unwrap()
    }

    fn device(&self) -> (DeviceKey, ClientIdentity) {
        let key = DeviceKey::generate().unwrap();
        let csr = DeviceCsr::parse(&key.csr_pem(key.device_name().as_str()).unwrap()).unwrap();
        let life = Lifetime::days(7);
        let issued = self.ca.sign_device(&csr, DeviceSigner::DeviceRenewal, OrgId::DEFAULT, now(), life).unwrap();
        let identity = key.client_identity(&issued.chain_pem);
        (key, identity)
    }

    fn enrollment(&self) -> ClientIdentity {
        let key = DeviceKey::generate().unwrap();
        let csr = DeviceCsr::parse(&key.csr_pem("client-enrollment").unwrap()).unwrap();
        let issued = self.ca.sign_enrollment(&csr, OrgId::DEFAULT, now(), Lifetime::days(7)).unwrap();
        key.client_identity(&issued.chain_pem)
    }

    fn client(&self, identity: Option<&ClientIdentity>) -> Arc<ClientConfig> {
        Arc::new(tls::client_config(self.ca.root_pem(), identity, &at(now())).unwrap())
    }
}

/// What the server saw of a connection that worked for both sides.
struct Seen {
    identity: Option<PeerIdentity>,
    version: ProtocolVersion,
    kind: HandshakeKind,
    alpn: Option<Vec<u8>>,
}

/// Connects and carries one byte each way; the error is the client's, then the server's.
async fn connect(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Result<Seen, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (tcp, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(Arc::clone(server)).accept(tcp).await?;
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
        stream.shutdown().await?;
        let (_, connection) = stream.get_ref();
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        Ok::<_, std::io::Error>(Seen {
            identity: certificate.map(|der| PeerIdentity::from_certificate(der).unwrap()),
            version: connection.protocol_version().unwrap(),
            kind: connection.handshake_kind().unwrap(),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        })
    };
    let call = async {
        let tcp = TcpStream::connect(address).await?;
        let name = "localhost".try_into().unwrap();
        let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, tcp).await?;
        stream.write_all(b"x").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let (served, called) =
        tokio::time::timeout(DEADLINE, async { tokio::join!(serve, call) }).await.expect("the handshake hangs");
    match (served, called) {
        (Ok(seen), Ok(answer)) if answer == b"x" => Ok(seen),
        (served, called) => Err(format!("client: {:?}; server: {:?}", called.err(), served.err())),
    }
}

async fn refusal(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> String {
    match connect(server, client).await {
        Ok(seen) => panic!("was let in as {:?}", seen.identity),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_device_and_an_enrolling_agent_are_let_in_as_what_they_are() {
    let site = Site::new();
    let server = site.agent_config(now());
    let (key, device) = site.device();
    let seen = connect(&server, &site.client(Some(&device))).await.unwrap();
    assert_eq!(seen.identity.unwrap().device(), Some(key.device_name()));
    assert_eq!(seen.version, ProtocolVersion::TLSv1_3);
    assert_eq!(seen.alpn.as_deref(), Some(b"h2".as_slice()));

    let seen = connect(&server, &site.client(Some(&site.enrollment()))).await.unwrap();
    assert!(matches!(seen.identity, Some(PeerIdentity::Enrollment { .. })));
}

#[tokio::test]
async fn agents_may_trust_the_whole_bundle_and_send_their_certificate_alone() {
    let site = Site::new();
    let (_, device) = site.device();
    let bundle = Arc::new(tls::client_config(&site.ca.ca_bundle_pem(), Some(&device), &at(now())).unwrap());
    connect(&site.agent_config(now()), &bundle).await.unwrap();

    let key = DeviceKey::generate().unwrap();
    let csr = DeviceCsr::parse(&key.csr_pem(key.device_name().as_str()).unwrap()).unwrap();
    let life = Lifetime::days(7);
    let issued = site.ca.sign_device(&csr, DeviceSigner::DeviceEnrollment, OrgId::DEFAULT, now(), life).unwrap();
    let end = "-----END CERTIFICATE-----\n";
    let alone = &issued.chain_pem[..issued.chain_pem.find(end).unwrap() + end.len()];
    let alone = key.client_identity(alone);
    connect(&site.agent_config(now()), &site.client(Some(&alone))).await.unwrap();
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let site = Site::new();
    let error = refusal(&site.agent_config(now()), &site.client(None)).await;
    assert!(error.contains("NoCertificatesPresented"), "{error}");
}

#[tokio::test]
async fn certificates_of_another_authority_and_of_servers_are_refused() {
    let (site, other) = (Site::new(), Site::new());
    let server = site.agent_config(now());
    let (_, foreign) = other.device();
    let error = refusal(&server, &site.client(Some(&foreign))).await;
    assert!(error.contains("BadSignature") || error.contains("UnknownIssuer"), "{error}");

    let as_server = site.ca.issue_server(&["localhost".to_owned()], now(), Lifetime::days(7)).unwrap();
    let as_server = ClientIdentity::new(as_server.chain_pem, as_server.key_pem);
    let error = refusal(&server, &site.client(Some(&as_server))).await;
    assert!(error.contains("InvalidPurpose") || error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_the_clock_that_was_handed_in() {
    let site = Site::new();
    let (_, device) = site.device();
    let late = site.agent_config(now() + Duration::from_secs(8 * 86_400));
    let error = refusal(&late, &site.client(Some(&device))).await;
    assert!(error.contains("Expired"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_refused_by_the_client() {
    let (site, other) = (Site::new(), Site::new());
    let (_, device) = site.device();
    let error = refusal(&other.agent_config(now()), &site.client(Some(&device))).await;
    assert!(error.contains("UnknownIssuer"), "{error}");

    let names = ["fleet.example.com".to_owned()];
    let wrong = ServerCertificate::load_or_issue(&site.dir.path().join("x"), &site.ca, &names, now()).unwrap();
    let wrong = tls::agent_server_config(&wrong, &site.ca.client_ca_roots(), &at(now())).unwrap();
    let error = refusal(&wrong, &site.client(Some(&device))).await;
    assert!(error.contains("NotValidForName"), "{error}");
}

#[tokio::test]
async fn tls_1_2_is_refused_for_agents_and_accepted_for_users() {
    let site = Site::new();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(site.ca.root_der().clone()).unwrap();
    let old = ClientConfig::builder_with_details(
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        Arc::new(FixedTime),
    )
    .with_protocol_versions(&[&rustls::version::TLS12])
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let old = Arc::new(old);
    let error = refusal(&site.agent_config(now()), &old).await;
    assert!(error.contains("ProtocolVersion"), "{error}");

    let user = tls::user_server_config(&site.server(), &at(now())).unwrap();
    assert_eq!(connect(&user, &old).await.unwrap().version, ProtocolVersion::TLSv1_2);
    let seen = connect(&user, &site.client(None)).await.unwrap();
    assert_eq!(seen.version, ProtocolVersion::TLSv1_3);
    assert_eq!(seen.identity, None);
}

#[derive(Debug)]
struct FixedTime;

impl rustls::time_provider::TimeProvider for FixedTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let seconds = u64::try_from(now().as_second()).unwrap();
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

#[tokio::test]
async fn a_resumed_session_keeps_its_identity_and_a_new_configuration_ends_resumption() {
    let site = Site::new();
    let (key, device) = site.device();
    let client = site.client(Some(&device));
    let server = site.agent_config(now());
    assert_eq!(connect(&server, &client).await.unwrap().kind, HandshakeKind::Full);
    let resumed = connect(&server, &client).await.unwrap();
    assert_eq!(resumed.kind, HandshakeKind::Resumed);
    assert_eq!(resumed.identity.unwrap().device(), Some(key.device_name()));

    let fresh = site.agent_config(now());
    assert_eq!(connect(&fresh, &client).await.unwrap().kind, HandshakeKind::Full);
}

#[test]
fn unusable_client_material_is_told_apart() {
    let site = Site::new();
    let (key, device) = site.device();
    let other = DeviceKey::generate().unwrap();
    let config = |ca: &str, identity: &ClientIdentity| {
        tls::client_config(ca, Some(identity), &TlsTime::system()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert!(config("nothing", &device).unwrap_err().contains("authority"));
    assert!(config(site.ca.root_pem(), &key.client_identity("none")).unwrap_err().contains("client certificate"));
    let chain = site.ca.root_pem();
    assert!(config(site.ca.root_pem(), &other.client_identity(chain)).is_err());
    assert!(tls::agent_server_config(&site.server(), &[], &TlsTime::system()).is_err());
}
