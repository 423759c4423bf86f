//! A small service with real mutual TLS that speaks the agent protocol, for the tests of the agent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_model::{CertificateSigningRequest, Digest, EnrollmentRequest, OrgId, StatusBody};
use fleet_pki::tls::{TlsTime, agent_server_config};
use fleet_pki::{
    CertificateAuthority, CertificateFacts, DeviceCsr, DeviceKey, DeviceSigner, Lifetime, ServerCertificate,
};
use fleet_runtime::{CancellationToken, Clock, Supervisor};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::{EnrollmentIdentity, Service};
use crate::document::tests::body as document_body;

/// What the service knows and what it saw.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) approve: bool,
    pub(super) deny: bool,
    pub(super) enrollments: BTreeMap<String, (EnrollmentRequest, Option<String>)>,
    pub(super) devices: Vec<String>,
    pub(super) document: Option<(String, Value)>,
    pub(super) statuses: Vec<Value>,
    pub(super) submissions: usize,
    pub(super) renewals: usize,
    pub(super) answer_next_poll: Option<(u16, &'static str)>,
    pub(super) polls: Vec<String>,
    /// The digests that came with polls.
    pub(super) hashes: Vec<Option<String>>,
}

#[derive(Debug)]
pub(super) struct TestService {
    pub(super) known: Mutex<Known>,
    pub(super) server: Service,
    pub(super) identity: EnrollmentIdentity,
    ca: CertificateAuthority,
    clock: Arc<dyn Clock>,
    changed: tokio::sync::Notify,
    _dir: tempfile::TempDir,
}

impl TestService {
    /// Starts the service on a port of its own; it runs until the supervisor's shutdown.
    pub(super) async fn start(supervisor: &mut Supervisor, clock: Arc<dyn Clock>) -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let now = clock.now();
        let ca = CertificateAuthority::load_or_create(&dir.path().join("ca"), now).unwrap();
        let names = ["127.0.0.1".to_owned()];
        let certificate = ServerCertificate::load_or_issue(dir.path(), &ca, &names, now).unwrap();
        let time = {
            let clock = clock.clone();
            TlsTime::from_fn(move || clock.now())
        };
        let tls = agent_server_config(&certificate, &ca.client_ca_roots(), &time).unwrap();
        let key = DeviceKey::generate().unwrap();
        let csr = DeviceCsr::parse(&key.csr_pem("client-enrollment").unwrap()).unwrap();
        let issued = ca.sign_enrollment(&csr, OrgId::DEFAULT, now, Lifetime::days(365)).unwrap();
        let identity = EnrollmentIdentity { certificate_pem: issued.chain_pem, key_pem: key.pem().to_owned().into() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server =
            Service { server: format!("https://{}", listener.local_addr().unwrap()), ca_pem: ca.ca_bundle_pem() };
        let changed = tokio::sync::Notify::new();
        let service = Arc::new(Self { known: Mutex::default(), server, identity, ca, clock, changed, _dir: dir });
        let shutdown = supervisor.shutdown();
        supervisor
            .spawn("test service", service.clone().accept(listener, tokio_rustls::TlsAcceptor::from(tls), shutdown));
        service
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        let result = work(&mut self.known.lock().unwrap());
        self.changed.notify_waiters();
        result
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: tokio_rustls::TlsAcceptor,
        shutdown: CancellationToken,
    ) {
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted.unwrap().0,
            };
            let (service, tls) = (self.clone(), tls.clone());
            connections.spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let peer = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
                let peer = CertificateFacts::from_der(&peer).unwrap().common_name.unwrap();
                let answer = hyper::service::service_fn(move |request| {
                    let (service, peer) = (service.clone(), peer.clone());
                    async move { Ok::<_, Infallible>(service.answer(&peer, request).await) }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
        connections.shutdown().await;
    }

    async fn answer(&self, peer: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        assert!(parts.headers.contains_key("x-request-id"));
        assert_eq!(parts.headers["flightctl-api-version"], "v1beta1");
        assert_eq!(parts.version, hyper::Version::HTTP_2);
        let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return reply(400, &failure(400, "the agent thought better of it"));
        };
        let path = parts.uri.path().strip_prefix("/api/v1/").unwrap().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let segments: Vec<&str> = path.split('/').collect();
        let enrolling = segments[0] == "enrollmentrequests";
        if enrolling != (peer == "client-enrollment") {
            return reply(401, &failure(401, "not with this certificate"));
        }
        match (parts.method.as_str(), segments.as_slice()) {
            ("POST", ["enrollmentrequests"]) => self.submit(&body),
            ("GET", ["enrollmentrequests", name]) => self.enrollment(name),
            ("GET", ["devices", name, "rendered"]) => {
                let hash = parts.headers.get("shorebase-spec-hash").map(|hash| hash.to_str().unwrap().to_owned());
                self.with(|known| known.hashes.push(hash));
                self.rendered(name, &query).await
            }
            ("PUT", ["devices", name, "status"]) => self.status(name, &body),
            ("POST", ["certificatesigningrequests"]) => self.csr(&body),
            _ => reply(404, &failure(404, "no such path")),
        }
    }

    fn submit(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let request: EnrollmentRequest = serde_json::from_slice(body).unwrap();
        let name = request.metadata.name.clone().unwrap();
        self.with(|known| {
            known.submissions += 1;
            if known.enrollments.contains_key(&name) {
                return reply(409, &failure(409, "exists"));
            }
            known.enrollments.insert(name, (request.clone(), None));
            reply(201, &serde_json::to_value(&request).unwrap())
        })
    }

    fn enrollment(&self, name: &str) -> Response<Full<Bytes>> {
        self.with(|known| {
            let (approve, deny) = (known.approve, known.deny);
            let Some((request, certificate)) = known.enrollments.get_mut(name) else {
                return reply(404, &failure(404, "no such request"));
            };
            let expired = certificate
                .as_ref()
                .is_some_and(|chain| !CertificateFacts::from_pem(chain).unwrap().is_valid_at(self.clock.now()));
            if approve && (certificate.is_none() || expired) {
                let csr = DeviceCsr::parse(&request.spec.csr).unwrap();
                *certificate = Some(self.sign(&csr, DeviceSigner::DeviceEnrollment));
                known.devices.push(name.to_owned());
            }
            let mut answer = serde_json::to_value(&*request).unwrap();
            let denied = json!([{"type": "Denied", "status": "True", "message": "not one of ours"}]);
            answer["status"] = json!({"conditions": if deny { denied } else { json!([]) }, "certificate": certificate});
            reply(200, &answer)
        })
    }

    fn sign(&self, csr: &DeviceCsr, signer: DeviceSigner) -> String {
        self.ca.sign_device(csr, signer, OrgId::DEFAULT, self.clock.now(), Lifetime::days(30)).unwrap().chain_pem
    }

    fn gone(name: &str) -> Response<Full<Bytes>> {
        reply(404, &failure(404, &format!("Device of name {name:?} not found")))
    }

    async fn rendered(&self, name: &str, query: &str) -> Response<Full<Bytes>> {
        let asked = query.strip_prefix("knownRenderedVersion=").map(str::to_owned);
        let parked = tokio::time::Instant::now() + Duration::from_secs(2);
        loop {
            let wakes = self.changed.notified();
            let answer = {
                let mut known = self.known.lock().unwrap();
                known.polls.push(query.to_owned());
                if let Some((code, retry_after)) = known.answer_next_poll.take() {
                    let mut response = reply(code, &failure(code, "busy"));
                    response.headers_mut().insert("retry-after", retry_after.parse().unwrap());
                    return response;
                }
                if !known.devices.iter().any(|d| d == name) {
                    return Self::gone(name);
                }
                known.document.clone().filter(|(version, _)| asked.as_ref() != Some(version))
            };
            if let Some((version, spec)) = answer {
                let mut body: Value = serde_json::from_slice(&document_body(&version, &spec)).unwrap();
                body["metadata"]["annotations"]["device-controller/renderedSpecHash"] = hash_of(&spec).into();
                return reply(200, &body);
            }
            if asked.is_none() || tokio::time::timeout_at(parked, wakes).await.is_err() {
                return respond(204, Vec::new());
            }
        }
    }

    fn status(&self, name: &str, body: &[u8]) -> Response<Full<Bytes>> {
        let device: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(device["metadata"]["name"], name);
        self.with(|known| {
            if !known.devices.iter().any(|d| d == name) {
                return Self::gone(name);
            }
            known.statuses.push(device["status"].clone());
            reply(200, &device)
        })
    }

    fn csr(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let mut request: Value = serde_json::from_slice(body).unwrap();
        let typed: CertificateSigningRequest = serde_json::from_value(request.clone()).unwrap();
        assert_eq!(typed.spec.signer_name, "flightctl.io/device-management-renewal");
        let csr = DeviceCsr::parse_base64(&typed.spec.request).unwrap();
        let chain = self.sign(&csr, DeviceSigner::DeviceRenewal);
        request["status"] = json!({"conditions": [], "certificate": data_encoding::BASE64.encode(chain.as_bytes())});
        self.with(|known| known.renewals += 1);
        reply(201, &request)
    }
}

/// The service's digest of a specification; another one than the agent's, as its text is another one.
pub(super) fn hash_of(spec: &Value) -> String {
    Digest::of(format!("{spec:#}").as_bytes()).hex()
}

fn failure(code: u16, message: &str) -> Value {
    serde_json::to_value(StatusBody::failure(code, "Reason", message)).unwrap()
}

fn reply(code: u16, body: &Value) -> Response<Full<Bytes>> {
    respond(code, body.to_string().into_bytes())
}

fn respond(code: u16, body: Vec<u8>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(code).header("content-type", "application/json");
    response.body(Full::new(Bytes::from(body))).unwrap()
}
