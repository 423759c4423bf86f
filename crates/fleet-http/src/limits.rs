//! How much one client may ask of the server.

use std::time::Duration;

/// Limits of a listener. The defaults suit both interfaces.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections at one time, those in their handshake included. Further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// From the accepted connection to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// HTTP/1: from the end of one answer, or the start, to the end of the next request's headers.
    pub header_timeout: Duration,
    /// How long a client may leave an answer unread in the network before it is cut off.
    pub write_timeout: Duration,
    /// HTTP/2: how often a silent connection is asked whether it is alive.
    pub ping_interval: Duration,
    /// HTTP/2: how long the answer to that may take.
    pub ping_timeout: Duration,
    /// HTTP/2: requests at one time on one connection.
    pub max_streams: u32,
    /// How long requests that are under way may take to end after shutdown was asked for.
    pub drain_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 200_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(90),
            write_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(20),
            max_streams: 64,
            drain_timeout: Duration::from_secs(8),
        }
    }
}
