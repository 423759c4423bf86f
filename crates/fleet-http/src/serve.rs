//! The accept loop: TLS handshakes, HTTP/1 and HTTP/2, limits, and an end that joins every task.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use fleet_runtime::CancellationToken;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::io::WriteDeadline;
use crate::{HttpLimits, PeerConnection};

/// What a client may send on one HTTP/2 stream, and on one connection, before a handler reads it.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What may lie unsent on one HTTP/2 stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Headers of one request, above what [`crate::with_api_conventions`] allows, so that it can answer.
const HEADER_BYTES: u32 = 48 * 1024;

/// Serves `router` behind TLS until `shutdown`, then answers what is under way and returns. Each connection takes
/// the TLS configuration that is current when it comes in. HTTP/2 is spoken with clients that negotiate it (ALPN).
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    router: Router,
    shutdown: CancellationToken,
    limits: HttpLimits,
) {
    accept_loop(listener, Some(tls), router, shutdown, limits).await;
}

/// Serves `router` without TLS, HTTP/1 only: for metrics and health on an interface that is not public.
pub async fn serve_plain(listener: TcpListener, router: Router, shutdown: CancellationToken, limits: HttpLimits) {
    accept_loop(listener, None, router, shutdown, limits).await;
}

/// What all connections of a listener share.
struct Shared {
    router: Router,
    limits: HttpLimits,
    shutdown: CancellationToken,
    /// Tasks of HTTP/2 requests. They end when their connection does.
    streams: TaskTracker,
}

async fn accept_loop(
    listener: TcpListener,
    tls: Option<Arc<ArcSwap<rustls::ServerConfig>>>,
    router: Router,
    shutdown: CancellationToken,
    limits: HttpLimits,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let shared = Arc::new(Shared {
        router: router.with_state(()),
        limits,
        shutdown: shutdown.clone(),
        streams: TaskTracker::new(),
    });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                tell_panic(ended);
                continue;
            }
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, addr, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly "too many open files": others must end first.
                warn!(%error, "Could not accept a connection");
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(Duration::from_millis(100)) => continue,
                }
            }
        };
        let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.load_full()));
        connections.spawn(connection(Arc::clone(&shared), acceptor, stream, addr, slot));
    }
    drop(listener);
    drain(&shared, connections).await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, addr) = listener.accept().await?;
    Ok((stream, addr, slot))
}

fn tell_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "A connection's task panicked");
    }
}

async fn drain(shared: &Shared, mut connections: JoinSet<()>) {
    let under_way = connections.len();
    let all = async {
        while let Some(ended) = connections.join_next().await {
            tell_panic(ended);
        }
    };
    if tokio::time::timeout(shared.limits.drain_timeout, all).await.is_err() {
        warn!(connections = connections.len(), "Cutting connections that did not end in time");
        connections.shutdown().await;
    }
    shared.streams.close();
    if tokio::time::timeout(Duration::from_secs(2), shared.streams.wait()).await.is_err() {
        warn!(requests = shared.streams.len(), "Requests of cut connections have not ended");
    }
    info!(connections = under_way, "Listener closed");
}

async fn connection(
    shared: Arc<Shared>,
    acceptor: Option<TlsAcceptor>,
    stream: TcpStream,
    addr: SocketAddr,
    _slot: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(peer = %addr, %error, "Connection is gone already");
        return;
    }
    let stream = WriteDeadline::new(stream, shared.limits.write_timeout);
    let Some(acceptor) = acceptor else {
        let peer = PeerConnection::new(addr, None, false, shared.shutdown.clone());
        return Box::pin(serve_http1(&shared, stream, peer)).await;
    };
    // A handshake's state is large and so is that of each protocol: a connection carries one at a time.
    let Some((stream, peer)) = Box::pin(shake_hands(&shared, acceptor, stream, addr)).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(serve_http2(&shared, *stream, peer)).await;
    } else {
        Box::pin(serve_http1(&shared, *stream, peer)).await;
    }
}

/// Whether a client was refused for the certificate it showed, or for showing none; anything else is noise of the network.
fn is_about_certificates(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// The TLS handshake; `None` when there is no connection to serve.
async fn shake_hands(
    shared: &Shared,
    acceptor: TlsAcceptor,
    stream: WriteDeadline,
    addr: SocketAddr,
) -> Option<(Box<TlsStream<WriteDeadline>>, PeerConnection)> {
    let handshake = tokio::time::timeout(shared.limits.handshake_timeout, acceptor.accept(stream));
    let stream = tokio::select! {
        () = shared.shutdown.cancelled() => return None,
        done = handshake => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                if is_about_certificates(&error) {
                    info!(peer = %addr, %error, "Refused a connection");
                } else {
                    debug!(peer = %addr, %error, "TLS handshake failed");
                }
                return None;
            }
            Err(_) => {
                debug!(peer = %addr, "TLS handshake took too long");
                return None;
            }
        }
    };
    let (_, tls) = stream.get_ref();
    let certificate = tls.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned());
    let resumed = tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let peer = PeerConnection::new(addr, certificate, resumed, shared.shutdown.clone());
    Some((Box::new(stream), peer))
}

async fn answer(
    mut router: Router,
    peer: PeerConnection,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(peer);
    tower::Service::call(&mut router, request).await
}

async fn serve_http1<S>(shared: &Shared, stream: S, peer: PeerConnection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let addr = peer.addr();
    let service = service_fn(|request| answer(shared.router.clone(), peer.clone(), request));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_timeout)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut asked = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(peer = %addr, %error, "Connection ended badly");
                }
                return;
            }
            () = shared.shutdown.cancelled(), if !asked => {
                asked = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn serve_http2<S>(shared: &Shared, stream: S, peer: PeerConnection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let addr = peer.addr();
    let router = shared.router.clone();
    let service = service_fn(move |request| answer(router.clone(), peer.clone(), request));
    let connection = hyper::server::conn::http2::Builder::new(Tracked(shared.streams.clone()))
        .timer(TokioTimer::new())
        .keep_alive_interval(shared.limits.ping_interval)
        .keep_alive_timeout(shared.limits.ping_timeout)
        .max_concurrent_streams(shared.limits.max_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut asked = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(peer = %addr, %error, "Connection ended badly");
                }
                return;
            }
            () = shared.shutdown.cancelled(), if !asked => {
                asked = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Runs the tasks of HTTP/2 requests where they can be waited for.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
