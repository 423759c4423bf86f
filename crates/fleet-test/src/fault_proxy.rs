//! A TCP proxy on a loopback port whose behaviour can be switched while connections are open.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the proxy does to its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Passes bytes on.
    None,
    /// Holds every piece of data back for this long, in each direction.
    Latency(Duration),
    /// Ends a connection after this many bytes more, both directions together; the bytes before arrive. Every new
    /// connection has the same allowance.
    CutAfter(u64),
    /// Passes one byte on, then waits for this long, and so on.
    Drip(Duration),
    /// Accepts, stays connected, passes nothing on until the fault is switched.
    Stall,
    /// Resets open connections and every new one.
    Reset,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    to_upstream: AtomicU64,
    to_client: AtomicU64,
}

/// The proxy; it and its connections end when it is dropped.
#[derive(Debug)]
pub struct TcpFaultProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    counters: Arc<Counters>,
    _tasks: JoinSet<()>,
}

impl TcpFaultProxy {
    /// Listens on a free loopback port and passes connections on to `upstream`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (fault, seen) = watch::channel(Fault::None);
        let counters = Arc::new(Counters::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, seen, Arc::clone(&counters)));
        Ok(Self { address, fault, counters, _tasks: tasks })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Switches the behaviour, for open connections too.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Connections accepted since the start.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::SeqCst)
    }

    /// Bytes passed on from clients to the upstream.
    #[must_use]
    pub fn bytes_to_upstream(&self) -> u64 {
        self.counters.to_upstream.load(Ordering::SeqCst)
    }

    /// Bytes passed on from the upstream to clients.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.counters.to_client.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, fault: watch::Receiver<Fault>, counters: Arc<Counters>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                counters.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(client, upstream, fault.clone(), Arc::clone(&counters)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    mut fault: watch::Receiver<Fault>,
    counters: Arc<Counters>,
) {
    if *fault.borrow_and_update() == Fault::Reset {
        reset(&client);
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        reset(&client);
        return;
    };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    // Borrowed halves: an owned half that is dropped ends its direction in order, which would hide a reset.
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let allowance = Arc::new(AtomicU64::new(0));
    let up = Pipe { fault: fault.clone(), allowance: Arc::clone(&allowance), counters: &counters.to_upstream };
    let down = Pipe { fault: fault.clone(), allowance: Arc::clone(&allowance), counters: &counters.to_client };
    let mut up_done = false;
    let mut down_done = false;
    let (up, down) = (up.run(client_read, server_write), down.run(server_read, client_write));
    tokio::pin!(up, down);
    while !(up_done && down_done) {
        // The first pipe that says "cut" ends both: their halves are dropped with this function.
        let end = tokio::select! {
            end = &mut up, if !up_done => { up_done = true; end }
            end = &mut down, if !down_done => { down_done = true; end }
        };
        if end == End::Cut {
            return;
        }
    }
}

/// The next close of this socket sends a reset instead of an orderly end.
fn reset(socket: &TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        panic!("a loopback socket refused SO_LINGER: {error}");
    }
}

#[derive(PartialEq, Eq)]
enum End {
    /// The sender closed its half; so did we.
    Orderly,
    /// The connection is to be dropped.
    Cut,
}

struct Pipe<'a> {
    fault: watch::Receiver<Fault>,
    /// Bytes that `CutAfter` has used up on this connection, both directions.
    allowance: Arc<AtomicU64>,
    counters: &'a AtomicU64,
}

impl Pipe<'_> {
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                changed = self.fault.changed() => {
                    if changed.is_err() {
                        return End::Cut;
                    }
                    self.allowance.store(0, Ordering::SeqCst);
                    if *self.fault.borrow() == Fault::Reset {
                        reset(from.as_ref());
                        reset(to.as_ref());
                        return End::Cut;
                    }
                    continue;
                }
            };
            let Ok(count) = read else { return End::Cut };
            let Some(passed) = self.admit(count, &from, &to).await else { return End::Cut };
            if count == 0 {
                return if to.shutdown().await.is_ok() { End::Orderly } else { End::Cut };
            }
            // Counted first, so that whoever has the bytes finds them counted.
            self.counters.fetch_add(passed as u64, Ordering::SeqCst);
            if !self.pass_on(&buffer[..passed], &mut to).await {
                return End::Cut;
            }
            if passed < count {
                return End::Cut;
            }
        }
    }

    /// Writes what may pass, byte by byte while it is to drip. Returns whether the connection is still good.
    async fn pass_on(&mut self, mut bytes: &[u8], to: &mut WriteHalf<'_>) -> bool {
        while !bytes.is_empty() {
            let fault = *self.fault.borrow();
            let portion = match fault {
                Fault::Drip(wait) => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        // The other end goes on as it now shall.
                        changed = self.fault.changed() => if changed.is_err() { return false },
                    }
                    1
                }
                Fault::None | Fault::Latency(_) | Fault::CutAfter(_) | Fault::Stall | Fault::Reset => bytes.len(),
            };
            if to.write_all(&bytes[..portion]).await.is_err() {
                return false;
            }
            bytes = &bytes[portion..];
        }
        true
    }

    /// How many of `count` bytes may pass, after any wait; `None` when the connection is to be dropped at once.
    async fn admit(&mut self, count: usize, from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> Option<usize> {
        loop {
            let fault = *self.fault.borrow_and_update();
            match fault {
                Fault::None | Fault::Drip(_) => return Some(count),
                Fault::Latency(wait) => {
                    tokio::time::sleep(wait).await;
                    return Some(count);
                }
                Fault::CutAfter(limit) => {
                    let used = self.allowance.fetch_add(count as u64, Ordering::SeqCst);
                    let left = usize::try_from(limit.saturating_sub(used)).unwrap_or(usize::MAX);
                    return Some(count.min(left));
                }
                Fault::Stall => self.fault.changed().await.ok()?,
                Fault::Reset => {
                    reset(from.as_ref());
                    reset(to.as_ref());
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upstream that sends back what it gets.
    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                open.spawn(async move {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        (address, tasks)
    }

    async fn round_trip(socket: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        socket.write_all(text).await?;
        let mut back = vec![0; text.len()];
        socket.read_exact(&mut back).await?;
        Ok(back)
    }

    #[tokio::test]
    async fn bytes_pass_and_are_counted_both_ways() {
        let (upstream, _tasks) = echo().await;
        let proxy = TcpFaultProxy::start(upstream).await.unwrap();
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(round_trip(&mut socket, b"hello").await.unwrap(), b"hello");
        assert_eq!((proxy.bytes_to_upstream(), proxy.bytes_to_client(), proxy.connections()), (5, 5, 1));
    }

    #[tokio::test]
    async fn bytes_drip_one_by_one() {
        let (upstream, _tasks) = echo().await;
        let proxy = TcpFaultProxy::start(upstream).await.unwrap();
        proxy.set(Fault::Drip(Duration::from_millis(20)));
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        let started = std::time::Instant::now();
        assert_eq!(round_trip(&mut socket, b"12345").await.unwrap(), b"12345");
        assert!(started.elapsed() >= Duration::from_millis(120), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn latency_holds_data_back() {
        let (upstream, _tasks) = echo().await;
        let proxy = TcpFaultProxy::start(upstream).await.unwrap();
        proxy.set(Fault::Latency(Duration::from_millis(60)));
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        let started = std::time::Instant::now();
        round_trip(&mut socket, b"x").await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(120), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_cut_connection_delivers_what_was_allowed() {
        let (upstream, _tasks) = echo().await;
        let proxy = TcpFaultProxy::start(upstream).await.unwrap();
        proxy.set(Fault::CutAfter(14));
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        socket.write_all(b"0123456789").await.unwrap();
        let mut back = Vec::new();
        let _ = socket.read_to_end(&mut back).await;
        assert_eq!(back, b"0123");
    }

    #[tokio::test]
    async fn a_stalled_connection_goes_on_when_the_fault_ends() {
        let (upstream, _tasks) = echo().await;
        let proxy = TcpFaultProxy::start(upstream).await.unwrap();
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut socket, b"a").await.unwrap();
        proxy.set(Fault::Stall);
        let stalled = tokio::time::timeout(Duration::from_millis(100), round_trip(&mut socket, b"b")).await;
        assert!(stalled.is_err());
        proxy.set(Fault::None);
        let mut back = [0];
        tokio::time::timeout(Duration::from_secs(5), socket.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(&back, b"b");
    }

    #[tokio::test]
    async fn a_reset_ends_open_and_new_connections() {
        let (upstream, _tasks) = echo().await;
        let proxy = TcpFaultProxy::start(upstream).await.unwrap();
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        round_trip(&mut socket, b"a").await.unwrap();
        proxy.set(Fault::Reset);
        let error = socket.read_exact(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut second = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(round_trip(&mut second, b"b").await.is_err());
    }
}
