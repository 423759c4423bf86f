//! A port of the loopback that nobody else gets.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port on 127.0.0.1 that the system gives to nobody else as long as this lives. A server that sets `SO_REUSEADDR`, as
/// most do, can listen there, stop, and listen again; while none does, connections are refused.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    /// Bound, never listening.
    _socket: TcpSocket,
}

impl ReservedPort {
    /// Takes a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn take() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }

    /// Where a server may listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_server_may_come_and_go_and_nobody_answers_in_between() {
        let port = ReservedPort::take().unwrap();
        for _ in 0..3 {
            assert_eq!(TcpStream::connect(port.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            let server = TcpListener::bind(port.address()).unwrap();
            let client = TcpStream::connect(port.address()).unwrap();
            drop(server.accept().unwrap());
            drop(client);
        }
        let others: Vec<u16> = (0..50).map(|_| ReservedPort::take().unwrap().port()).collect();
        assert!(!others.contains(&port.port()));
    }
}
