//! Starts all parts in order, joins them, and stops them in the opposite order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fleet_agent_api::{AgentApi, AgentApiConfig};
use fleet_fetch::{FilesSecrets, KubernetesSecrets, SecretProvider};
use fleet_git::{Limits, WorkerCommand, WorkerPool};
use fleet_http::{HttpLimits, serve as serve_tls, serve_plain};
use fleet_model::OrgId;
use fleet_pki::{CertificateAuthority, Lifetime};
use fleet_runtime::{CancellationToken, Clock, Supervisor, SystemClock, shutdown_signal};
use fleet_store::{ConnectOptions, Store};
use fleet_syncer::{GitCredentials, Syncer, SyncerConfig, SyncerMetrics};
use fleet_user_api::{Authenticator, LocalIssuer, UserApi, UserApiConfig, UserApiMetrics};
use prometheus_client::registry::Registry;
use tracing::{error, info, warn};

use crate::config::{Config, SecretStore, SecretsConfig};
use crate::credentials::keep_credentials;
use crate::data_dir::DataDir;
use crate::health;
use crate::listeners::{Audience, ListenerTls, base_url, bind};
use crate::postgres::EmbeddedPostgres;

/// How long tasks may take to end after shutdown was asked for.
const GRACE: Duration = Duration::from_secs(15);

/// The database, and the server when it is ours.
struct Database {
    store: Store,
    server: Option<EmbeddedPostgres>,
}

impl Database {
    async fn open(config: &Config, data_dir: &DataDir) -> anyhow::Result<Self> {
        let (url, server) = match &config.database.url {
            Some(url) => (url.to_string(), None),
            None => {
                let server = EmbeddedPostgres::start(data_dir.path())
                    .await
                    .context("cannot start the embedded PostgreSQL; or set database.url to use one of your own")?;
                (server.url(), Some(server))
            }
        };
        let options = ConnectOptions { url, max_connections: config.database.max_connections };
        let store = Store::connect(&options).await.context("cannot connect to the database")?;
        store.migrate().await.context("cannot bring the database schema up to date")?;
        Ok(Self { store, server })
    }
}

/// Brings the database schema up to date and returns.
///
/// # Errors
/// When the database cannot be started, reached or migrated.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let data_dir = DataDir::open(&config.data_dir)?;
    let database = Database::open(config, &data_dir).await?;
    database.store.close().await;
    match database.server {
        Some(server) => server.stop().await.context("the embedded PostgreSQL did not stop well"),
        None => Ok(()),
    }
}

/// Runs the service until it is told to end (SIGINT, SIGTERM, or `shutdown`).
///
/// # Errors
/// What could not be started, or the part that ended unasked.
pub async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let data_dir = DataDir::open(&config.data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let authority = CertificateAuthority::load_or_create(data_dir.path(), clock.now())
        .context("cannot load the certificate authority")?;
    for warning in authority.warnings() {
        warn!("{warning}");
    }
    let authority = Arc::new(authority);
    let Database { store, server } = Database::open(&config, &data_dir).await?;
    let mut supervisor = Supervisor::new(shutdown.clone());
    let parts = Parts { config, data_dir: &data_dir, authority, clock, store: store.clone() };
    let started = parts.start(&mut supervisor).await;
    let result = match started {
        Ok(()) => {
            info!("Ready");
            run(supervisor, server, &shutdown).await
        }
        Err(error) => {
            shutdown.cancel();
            let ended = run(supervisor, server, &shutdown).await;
            if let Err(also) = ended {
                error!(error = format!("{also:#}"), "Stopping after a failed start");
            }
            Err(error)
        }
    };
    drop(store);
    result
}

/// Waits for the tasks, then stops the embedded server.
async fn run(
    mut supervisor: Supervisor,
    server: Option<EmbeddedPostgres>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let token = shutdown.clone();
    supervisor.spawn("signals", async move {
        if let Err(error) = shutdown_signal(token).await {
            error!(%error, "Cannot listen for signals");
        }
    });
    let tasks = supervisor.run(GRACE);
    let Some(mut server) = server else {
        return tasks.await.context("a part of the service ended unasked");
    };
    tokio::pin!(tasks);
    let outcome = tokio::select! {
        outcome = &mut tasks => outcome.context("a part of the service ended unasked"),
        ended = server.ended() => {
            error!(error = %ended, "The embedded PostgreSQL ended; shutting down");
            shutdown.cancel();
            let _ = tasks.await;
            return Err(anyhow::Error::new(ended).context("the embedded PostgreSQL ended unasked"));
        }
    };
    let stopped = server.stop().await.context("the embedded PostgreSQL did not stop well");
    outcome.and(stopped)
}

/// What every part is made of.
struct Parts<'a> {
    config: Config,
    data_dir: &'a DataDir,
    authority: Arc<CertificateAuthority>,
    clock: Arc<dyn Clock>,
    store: Store,
}

impl Parts<'_> {
    async fn start(self, supervisor: &mut Supervisor) -> anyhow::Result<()> {
        let mut registry = Registry::with_prefix("shorebase");
        let user = bind("user interface", self.config.user_api.address).await?;
        let agent = bind("agent interface", self.config.agent_api.address).await?;
        let metrics = bind("metrics", self.config.metrics_address).await?;
        let agent_api = self.start_agent_api(supervisor, agent, &mut registry)?;
        self.start_user_api(supervisor, user, agent_api.1, &mut registry)?;
        self.start_syncer(supervisor, &mut registry)?;
        let router = health::router(self.store.clone(), agent_api.0, registry);
        let token = supervisor.shutdown();
        supervisor.spawn("metrics", serve_plain(metrics.0, router, token, HttpLimits::default()));
        Ok(())
    }

    fn tls(&self, audience: Audience) -> anyhow::Result<ListenerTls> {
        let (config, name) = match audience {
            Audience::Users => (&self.config.user_api, "user-api"),
            Audience::Agents => (&self.config.agent_api, "agent-api"),
        };
        let dir = self.data_dir.join("tls").join(name);
        ListenerTls::new(audience, config, dir, Arc::clone(&self.authority), Arc::clone(&self.clock))
            .with_context(|| format!("cannot set up TLS for the {name}"))
    }

    fn start_agent_api(
        &self,
        supervisor: &mut Supervisor,
        (listener, bound): (tokio::net::TcpListener, std::net::SocketAddr),
        registry: &mut Registry,
    ) -> anyhow::Result<(AgentApi, String)> {
        let config = AgentApiConfig {
            poll_hold: self.config.poll_hold,
            certificate_lifetime: Lifetime::at_most(self.config.certificates.device),
            ..AgentApiConfig::default()
        };
        let (api, index, reports) = AgentApi::new(
            self.store.clone(),
            Arc::clone(&self.authority),
            Arc::clone(&self.clock),
            config,
            registry.sub_registry_with_prefix("agent_api"),
        );
        let tls = self.tls(Audience::Agents)?;
        let token = supervisor.shutdown();
        supervisor.spawn("device index", index.run(token.clone()));
        supervisor.spawn("device reports", reports.run(token.clone()));
        let limits = HttpLimits::default();
        supervisor.spawn("agent interface", serve_tls(listener, tls.current(), api.router(), token.clone(), limits));
        supervisor.spawn("agent interface certificate", tls.keep_fresh(token));
        Ok((api, base_url(&self.config.agent_api, bound)))
    }

    fn start_user_api(
        &self,
        supervisor: &mut Supervisor,
        (listener, bound): (tokio::net::TcpListener, std::net::SocketAddr),
        agent_url: String,
        registry: &mut Registry,
    ) -> anyhow::Result<()> {
        let local = match self.config.auth.local {
            true => Some(LocalIssuer::load_or_create(self.data_dir.path(), Arc::clone(&self.clock))?),
            false => None,
        };
        let providers: Vec<_> = self.config.auth.oidc.iter().cloned().collect();
        let auth = Authenticator::new(Arc::clone(&self.clock), local.as_ref(), &providers)?;
        let agent_ca_pem = match &self.config.agent_api.certificate {
            Some((chain, _)) => {
                Some(std::fs::read_to_string(chain).with_context(|| format!("cannot read {}", chain.display()))?)
            }
            None => None,
        };
        let config = UserApiConfig {
            agent_ca_pem,
            enrollment_ui_url: base_url(&self.config.user_api, bound),
            enrollment_certificate_life: self.config.certificates.enrollment,
            webhooks: self.config.webhooks.clone(),
            ..UserApiConfig::new(agent_url)
        };
        let metrics = UserApiMetrics::new(registry.sub_registry_with_prefix("user_api"));
        let api = UserApi::new(
            self.store.clone(),
            auth,
            Arc::clone(&self.authority),
            Arc::clone(&self.clock),
            config,
            metrics,
        );
        let tls = self.tls(Audience::Users)?;
        let token = supervisor.shutdown();
        if let Some(hints) = api.hint_sender() {
            supervisor.spawn("webhook hints", hints.run(token.clone()));
        }
        let limits = HttpLimits::default();
        supervisor.spawn("user interface", serve_tls(listener, tls.current(), api.router(), token.clone(), limits));
        supervisor.spawn("user interface certificate", tls.keep_fresh(token));
        Ok(())
    }

    fn secrets(&self) -> anyhow::Result<Option<fleet_syncer::SecretsConfig>> {
        let Some(SecretsConfig { store, namespaces, poll_interval }) = self.config.secrets.clone() else {
            return Ok(None);
        };
        let provider = match store {
            SecretStore::Directory(directory) => SecretProvider::Files(FilesSecrets::new(directory)),
            SecretStore::Kubernetes => {
                let cluster = KubernetesSecrets::in_cluster();
                SecretProvider::Kubernetes(cluster.context("the configuration says secrets.kubernetes")?)
            }
        };
        Ok(Some(fleet_syncer::SecretsConfig { provider: Arc::new(provider), namespaces, poll_interval }))
    }

    fn start_syncer(&self, supervisor: &mut Supervisor, registry: &mut Registry) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("cannot find the program itself, to start Git workers")?;
        let settings = &self.config.git;
        let limits = Limits {
            max_workers: settings.max_workers,
            memory: settings.worker_memory,
            pack: settings.max_pack_bytes,
            total: settings.request_timeout,
            ..Limits::default()
        };
        let git = WorkerPool::new(WorkerCommand::new(program, ["git-worker"]), limits);
        let credentials = GitCredentials::from(self.config.git.credentials.clone());
        let config = SyncerConfig {
            holder: self.data_dir.instance_id()?,
            org: OrgId::DEFAULT,
            mirrors: self.data_dir.join("mirrors"),
            sources: self.config.sources.clone(),
            credentials: credentials.clone(),
            allow_local_repositories: self.config.git.allow_local_repositories,
            max_mirror_bytes: self.config.git.max_mirror_bytes,
            poll_interval: self.config.git.poll_interval,
            polls_per_second_per_host: self.config.git.polls_per_second_per_host,
            deletion_grace: self.config.git.deletion_grace,
            event_retention: self.config.event_retention,
            git_request_timeout: settings.request_timeout,
            http_poll_interval: self.config.http_poll_interval,
            secrets: self.secrets()?,
            device_certificate_lifetime: self.config.certificates.device,
            forges: self.config.forges.clone(),
        };
        let metrics = SyncerMetrics::register(registry.sub_registry_with_prefix("syncer"));
        let syncer =
            Syncer::new(config, self.store.clone(), git, Arc::clone(&self.authority), Arc::clone(&self.clock), metrics);
        let files = self.config.git.credential_files.clone();
        let store = self.store.clone();
        supervisor.spawn("Git credentials", keep_credentials(files, credentials, store, supervisor.shutdown()));
        supervisor.spawn("syncer", syncer.run(supervisor.shutdown()));
        Ok(())
    }
}
