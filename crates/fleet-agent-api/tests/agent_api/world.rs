//! The whole agent interface on a port, behind its own certificate authority and database, and devices that use it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fleet_agent_api::{AgentApi, AgentApiConfig, AgentMetrics};
use fleet_http::{HttpLimits, serve};
use fleet_model::{DeviceName, Digest, Labels, OrgId, RenderedVersion};
use fleet_pki::tls::{ClientIdentity, TlsTime, agent_server_config, client_config};
use fleet_pki::{CertificateAuthority, DeviceCsr, DeviceKey, DeviceSigner, Issued, Lifetime, ServerCertificate};
use fleet_runtime::{CancellationToken, Clock as _, ManualClock, SystemClock};
use fleet_store::{
    Channel, ConnectOptions, DeviceUpdate, IssuedCertificate, Store, insert_rendered, lock_device_changes,
    put_enrolled_device, record_certificate, update_devices,
};
use fleet_test::TestDatabase;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub(crate) const ORG: OrgId = OrgId::DEFAULT;

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) api: AgentApi,
    pub(crate) addr: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    tasks: JoinSet<()>,
    _dir: TempDir,
}

/// Settings under which tests are quick.
pub(crate) fn quick() -> AgentApiConfig {
    AgentApiConfig {
        poll_hold: Duration::from_secs(40),
        recheck: Duration::from_millis(500),
        heartbeat_interval: Duration::from_millis(100),
        ..AgentApiConfig::default()
    }
}

impl World {
    pub(crate) async fn start(config: AgentApiConfig) -> Self {
        let database = tokio::task::spawn_blocking(TestDatabase::create).await.unwrap();
        let store = Store::connect(&ConnectOptions { url: database.url(), max_connections: 4 }).await.unwrap();
        store.migrate().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let clock = Arc::new(ManualClock::new(now));
        let authority = Arc::new(CertificateAuthority::load_or_create(&dir.path().join("ca"), now).unwrap());
        let server =
            ServerCertificate::load_or_issue(&dir.path().join("tls"), &authority, &["localhost".to_owned()], now)
                .unwrap();
        let tls = agent_server_config(&server, &authority.client_ca_roots(), &TlsTime::system()).unwrap();
        let mut registry = Registry::default();
        let (api, index, reports) =
            AgentApi::new(store.clone(), Arc::clone(&authority), clock.clone(), config, &mut registry);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let limits = HttpLimits::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::new(ArcSwap::new(tls)), api.router(), shutdown.clone(), limits));
        tasks.spawn(index.run(shutdown.clone()));
        tasks.spawn(reports.run(shutdown.clone()));
        let world = Self { database, store, authority, clock, api, addr, shutdown, tasks, _dir: dir };
        fleet_test::wait_for("the index is loaded", Duration::from_secs(30), || async {
            world.api.is_ready().then_some(())
        })
        .await;
        world
    }

    /// Ends everything and checks that every task ends.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.unwrap()
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.expect("all tasks end");
    }

    pub(crate) fn metrics(&self) -> &AgentMetrics {
        self.api.metrics()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/api/v1{path}", self.addr.port())
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.database.psql(sql).unwrap()
    }

    pub(crate) fn tls(&self, identity: &ClientIdentity, http2: bool) -> rustls::ClientConfig {
        let mut config = client_config(self.authority.root_pem(), Some(identity), &TlsTime::system()).unwrap();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        config
    }

    pub(crate) fn client(&self, identity: &ClientIdentity, http2: bool) -> reqwest::Client {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls(identity, http2))
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap()
    }

    /// A client with an enrolment certificate, and that certificate.
    pub(crate) fn enrolling_client(&self) -> (reqwest::Client, Issued) {
        let key = DeviceKey::generate().unwrap();
        let csr = DeviceCsr::parse(&key.csr_pem("client-enrollment").unwrap()).unwrap();
        let issued = self.authority.sign_enrollment(&csr, ORG, self.clock.now(), Lifetime::days(30)).unwrap();
        (self.client(&key.client_identity(&issued.chain_pem), true), issued)
    }

    /// Signs a management certificate and notes it, as the reconciler of enrolments does.
    pub(crate) async fn certify(&self, key: &DeviceKey, lifetime: Lifetime) -> Issued {
        let csr = DeviceCsr::parse(&key.csr_pem(key.device_name().as_str()).unwrap()).unwrap();
        let signer = DeviceSigner::DeviceEnrollment;
        let issued = self.authority.sign_device(&csr, signer, ORG, self.clock.now(), lifetime).unwrap();
        let certificate = IssuedCertificate {
            serial: issued.serial_hex.clone(),
            device: Some(key.device_name().as_str().to_owned()),
            signer: signer.name().to_owned(),
            fingerprint: issued.sha256,
            not_before: issued.not_before.into(),
            not_after: issued.not_after.into(),
        };
        let mut transaction = self.store.begin().await.unwrap();
        record_certificate(&mut transaction, ORG, &certificate).await.unwrap();
        transaction.commit().await.unwrap();
        issued
    }

    /// A managed device at version 1 of `spec`.
    pub(crate) async fn device(&self, spec: Value) -> Managed {
        let device = self.lost_device().await;
        self.put_device(&device.name, 1, &spec, true).await;
        device
    }

    /// A device with a good certificate that the database has no row of.
    pub(crate) async fn lost_device(&self) -> Managed {
        let key = DeviceKey::generate().unwrap();
        let issued = self.certify(&key, Lifetime::days(10)).await;
        let identity = key.client_identity(&issued.chain_pem);
        Managed { client: self.client(&identity, true), name: key.device_name().clone(), key, issued }
    }

    /// Gives a device a version, as the syncer does; tells nobody unless `notify`.
    pub(crate) async fn put_device(&self, name: &DeviceName, version: i64, spec: &Value, notify: bool) {
        let body = serde_json::to_vec(spec).unwrap();
        let digest = Digest::of(&body);
        let labels: Labels = [("site".to_owned(), "berlin".to_owned())].into();
        let mut transaction = self.store.begin().await.unwrap();
        lock_device_changes(&mut transaction).await.unwrap();
        if self.sql(&format!("select count(*) from devices where name = '{name}'")) == "0" {
            put_enrolled_device(&mut transaction, ORG, name.as_str(), &labels, RenderedVersion::ZERO).await.unwrap();
        }
        insert_rendered(&mut transaction, &[(digest, body)]).await.unwrap();
        let update = DeviceUpdate {
            name: name.as_str().to_owned(),
            labels,
            owner_fleet: Some("kiosks".to_owned()),
            conflicting_fleets: Vec::new(),
            fleet_revision: Some("rev1".to_owned()),
            render_error: None,
            rendered_digest: (version > 0).then_some(digest),
            rendered_version: RenderedVersion::try_from(version).unwrap(),
            provenance: Some(("main".to_owned(), "c0ffee".to_owned())),
            visible: true,
        };
        update_devices(&mut transaction, ORG, Timestamp::UNIX_EPOCH.into(), &[update]).await.unwrap();
        if notify {
            Channel::Devices.notify(&mut transaction, "").await.unwrap();
        }
        transaction.commit().await.unwrap();
    }

    /// Waits until the index has so many devices.
    pub(crate) async fn wait_indexed(&self, devices: i64) {
        fleet_test::wait_for("devices are indexed", Duration::from_secs(30), || async {
            (self.metrics().indexed_devices.get() == devices).then_some(())
        })
        .await;
    }

    pub(crate) async fn wait_parked(&self, polls: i64) {
        fleet_test::wait_for("polls are parked", Duration::from_secs(30), || async {
            (self.metrics().parked_polls.get() == polls).then_some(())
        })
        .await;
    }
}

/// A managed device and its client.
pub(crate) struct Managed {
    pub(crate) client: reqwest::Client,
    pub(crate) name: DeviceName,
    pub(crate) key: DeviceKey,
    pub(crate) issued: Issued,
}

impl Managed {
    pub(crate) fn poll(&self, world: &World, known: Option<&str>) -> reqwest::RequestBuilder {
        let query = known.map(|known| format!("?knownRenderedVersion={known}")).unwrap_or_default();
        self.client.get(world.url(&format!("/devices/{}/rendered{query}", self.name)))
    }

    pub(crate) fn put_status(&self, world: &World, body: &Value) -> reqwest::RequestBuilder {
        self.client.put(world.url(&format!("/devices/{}/status", self.name))).body(body.to_string())
    }
}

/// A device's status as an agent sends it.
pub(crate) fn status_body(name: &DeviceName, version: &str) -> Value {
    json!({"apiVersion": "v1beta1", "kind": "Device", "metadata": {"name": name.as_str()}, "status": {
        "conditions": [{"type": "Updating", "status": "False", "reason": "Updated", "message": "at it",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "systemInfo": {"architecture": "amd64", "bootID": "b", "operatingSystem": "linux", "agentVersion": "v1",
                       "hostname": "kiosk", "customInfo": {}},
        "applications": [], "applicationsSummary": {"status": "Healthy"},
        "resources": {"cpu": "Healthy", "memory": "Healthy", "disk": "Healthy"},
        "integrity": {"status": "Unknown"}, "config": {"renderedVersion": version},
        "os": {"image": "quay.io/os:1", "imageDigest": "sha256:1"},
        "updated": {"status": "UpToDate"}, "summary": {"status": "Online"}, "lifecycle": {"status": "Enrolled"},
        "somethingNewer": {"a": 1}}})
}

pub(crate) async fn body_of(response: reqwest::Response) -> Value {
    let bytes = response.bytes().await.unwrap();
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
}
