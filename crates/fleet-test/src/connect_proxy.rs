//! An HTTP proxy for tests that opens tunnels (`CONNECT`, RFC 9110 section 9.3.6), with basic authentication if wanted. It
//! remembers whom it was asked for.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The head of a request is smaller than this.
const MAX_HEAD: usize = 16 << 10;

/// The proxy; it and its tunnels end when it is dropped.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    opened: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

impl ConnectProxy {
    /// Listens on a free loopback port. With `authorization`, the whole value of `Proxy-Authorization`, others get 407.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(authorization: Option<&str>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, authorization.map(str::to_owned), Arc::clone(&seen)));
        Ok(Self { address, seen, _tasks: tasks })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port` of every tunnel that was opened.
    #[must_use]
    pub fn opened(&self) -> Vec<String> {
        self.seen.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first line of every request that was refused.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.seen.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, authorization: Option<String>, seen: Arc<Seen>) {
    let mut tunnels = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let (authorization, seen) = (authorization.clone(), Arc::clone(&seen));
                // A connection that breaks is the business of its client.
                tunnels.spawn(async move { drop(serve(client, authorization.as_deref(), &seen).await) });
            }
            Some(_) = tunnels.join_next() => {}
        }
    }
}

async fn serve(mut client: TcpStream, authorization: Option<&str>, seen: &Seen) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let given = lines
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
    let is_allowed = authorization.is_none_or(|wanted| given.is_some_and(|(_, value)| value == wanted));
    let target = first.strip_prefix("CONNECT ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let refusal = match target {
        _ if !is_allowed => "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"test\"",
        Some(target) => match TcpStream::connect(target).await {
            Ok(mut server) => {
                seen.opened.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_owned());
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                return tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop);
            }
            Err(_) => "502 Bad Gateway",
        },
        None => "405 Method Not Allowed",
    };
    seen.refused.lock().unwrap_or_else(PoisonError::into_inner).push(first.to_owned());
    client.write_all(format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await
}
