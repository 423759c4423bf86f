//! Git hosts that nobody wants to share a service with: one that accepts and never answers, one that fails every request,
//! and one that sends a pack without end as fast as it is taken. On the loopback, over plain HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a bad host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Badness {
    /// Accepts connections and never says a word.
    Silent,
    /// Answers every request with an internal error.
    Failing,
    /// Has a new commit whenever it is asked, and sends a pack that says it has 5 GB, and does not end
    /// there, to whoever wants it.
    Endless,
}

/// A running bad host; its connections end when it is dropped.
#[derive(Debug)]
pub struct BadHost {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    badness: Badness,
    requests: AtomicU64,
    sent: AtomicU64,
    /// So much is sent and no more.
    allowed: AtomicU64,
    ends: AtomicBool,
}

impl BadHost {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(badness: Badness) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            badness,
            requests: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            allowed: AtomicU64::new(u64::MAX),
            ends: AtomicBool::new(false),
        });
        let for_all = Arc::clone(&shared);
        std::thread::Builder::new().name("bad host".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if for_all.ends.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let for_one = Arc::clone(&for_all);
                // Whatever ends a connection is the client's business.
                std::thread::spawn(move || drop(for_one.serve(&stream)));
            }
        })?;
        Ok(Self { port, shared })
    }

    /// The URL of its repository.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/repository.git", self.port)
    }

    /// Requests so far; connections, when it is silent.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Sends about so many bytes of packs in all, and then nothing until more is allowed.
    pub fn allow(&self, bytes: u64) {
        self.shared.allowed.store(bytes, Ordering::SeqCst);
    }

    /// Bytes of packs sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for BadHost {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        if self.badness == Badness::Silent {
            self.requests.fetch_add(1, Ordering::SeqCst);
            // Until the client gives up.
            stream.set_read_timeout(Some(Duration::from_millis(200)))?;
            let mut portion = [0; 4096];
            let mut reader = stream;
            while !self.ends.load(Ordering::SeqCst) {
                match reader.read(&mut portion) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
        let mut reader = BufReader::new(stream);
        let mut writer = stream;
        let (mut line, mut head) = (String::new(), String::new());
        reader.read_line(&mut head)?;
        let (mut length, mut chunked) = (0_u64, false);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
        }
        let mut body = Vec::new();
        while chunked {
            line.clear();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
            reader.by_ref().take(size + 2).read_to_end(&mut body)?;
            chunked = size > 0;
        }
        reader.take(length).read_to_end(&mut body)?;
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        if self.badness == Badness::Failing {
            return writer.write_all(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops",
            );
        }
        let kind = if head.starts_with("GET") { "advertisement" } else { "result" };
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\nConnection: close\r\n\r\n"
        )?;
        let body = String::from_utf8_lossy(&body);
        if kind == "advertisement" {
            let lines = ["# service=git-upload-pack\n", "", "version 2\n", "ls-refs=unborn\n", "fetch=shallow\n", ""];
            writer.write_all(lines.map(packet).concat().as_bytes())
        } else if body.contains("command=ls-refs") {
            let tip = format!("{:040x} refs/heads/main\n", u128::from(number) + 1);
            writer.write_all([packet(&tip), packet("")].concat().as_bytes())
        } else {
            writer.write_all(packet("packfile\n").as_bytes())?;
            self.send_without_end(writer)
        }
    }

    fn send_without_end(&self, mut writer: &TcpStream) -> std::io::Result<()> {
        // As many as 5 GB hold: git checks that there is memory for so many before it reads on.
        band(writer, &[b"PACK\0\0\0\x02".as_slice(), &80_000_u32.to_be_bytes()].concat())?;
        let blob = packed_blob();
        while !self.ends.load(Ordering::SeqCst) {
            for portion in blob.chunks(60_000) {
                while self.sent.load(Ordering::SeqCst) >= self.allowed.load(Ordering::SeqCst) {
                    if self.ends.load(Ordering::SeqCst) {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                band(writer, portion)?;
                self.sent.fetch_add(u64::try_from(portion.len()).unwrap_or(0), Ordering::SeqCst);
            }
        }
        writer.flush()
    }
}

/// A line of the protocol; the empty one is a flush.
fn packet(text: &str) -> String {
    if text.is_empty() { "0000".to_owned() } else { format!("{:04x}{text}", text.len() + 4) }
}

fn band(mut writer: &TcpStream, data: &[u8]) -> std::io::Result<()> {
    let mut packet = format!("{:04x}\x01", data.len() + 5).into_bytes();
    packet.extend_from_slice(data);
    writer.write_all(&packet)
}

/// A blob of 65,000 bytes as it stands in a pack, not compressed.
fn packed_blob() -> Vec<u8> {
    let content: Vec<u8> = (0..65_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let mut size = content.len();
    // Three bits of the type, four of the size, then seven at a time.
    let mut packed = vec![0x30 | low_bits(size, 0x0f)];
    size >>= 4;
    while size > 0 {
        if let Some(last) = packed.last_mut() {
            *last |= 0x80;
        }
        packed.push(low_bits(size, 0x7f));
        size >>= 7;
    }
    packed.extend_from_slice(&[0x78, 0x01, 0x01]);
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    packed.extend_from_slice(&length.to_le_bytes());
    packed.extend_from_slice(&(!length).to_le_bytes());
    packed.extend_from_slice(&content);
    let (a, b) = content.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    packed.extend_from_slice(&((b << 16) | a).to_be_bytes());
    packed
}

fn low_bits(value: usize, mask: u8) -> u8 {
    value.to_le_bytes()[0] & mask
}
