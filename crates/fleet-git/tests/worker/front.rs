//! An HTTP server in front of the real one that spoils its answers. One request for each connection.

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    Nothing,
    /// These bytes of the answer, head and body, and no more.
    CutAt(usize),
    /// These per mille of the body, in a whole answer.
    Shorten(usize),
    /// Never answers.
    Stall,
    /// One byte a second.
    Drip,
    WrongType,
    /// A status without a body.
    Status(u16),
    TooMany(u32),
    RedirectLoop,
    /// One bit of the pack is another.
    FlipInPack,
}

/// Which answers are spoiled; all others pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// What comes before a pack.
    Listing,
    /// The question where references point that comes without a greeting before it.
    Quick,
    Pack,
}

/// The server; its threads end with the test's process.
pub(crate) struct Front {
    port: u16,
    spoil: Arc<Mutex<(Stage, Spoil)>>,
}

impl Front {
    /// In front of the server at this port on 127.0.0.1.
    pub(crate) fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let spoil = Arc::new(Mutex::new((Stage::Listing, Spoil::Nothing)));
        let seen = Arc::clone(&spoil);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let seen = Arc::clone(&seen);
                // A client that goes away ends its thread, nothing else.
                std::thread::spawn(move || serve(client.unwrap(), upstream, &seen).ok());
            }
        });
        Self { port, spoil }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(crate) fn set(&self, stage: Stage, spoil: Spoil) {
        *self.spoil.lock().unwrap() = (stage, spoil);
    }
}

fn serve(mut client: TcpStream, upstream: u16, spoil: &Mutex<(Stage, Spoil)>) -> std::io::Result<()> {
    let (head, body) = read_request(&mut client)?;
    let says = |text: &[u8]| body.windows(text.len()).any(|window| window == text);
    let (stage, spoil) = *spoil.lock().unwrap();
    let is_meant = match stage {
        Stage::Pack => says(b"command=fetch"),
        Stage::Listing => !says(b"command=fetch"),
        Stage::Quick => says(b"command=ls-refs") && !says(b"agent="),
    };
    let spoil = if is_meant { spoil } else { Spoil::Nothing };
    let plain = |status: &str, header: &str| {
        format!("HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
    };
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = match spoil {
        Spoil::Stall => {
            std::thread::sleep(Duration::from_secs(60));
            return Ok(());
        }
        Spoil::Status(status) => plain(&format!("{status} Spoiled"), "WWW-Authenticate: Basic realm=\"x\"\r\n"),
        Spoil::TooMany(seconds) => plain("429 Too Many Requests", &format!("Retry-After: {seconds}\r\n")),
        Spoil::RedirectLoop => plain("302 Found", &format!("Location: {path}\r\n")),
        Spoil::Nothing | Spoil::CutAt(_) | Spoil::Shorten(_) | Spoil::Drip | Spoil::WrongType | Spoil::FlipInPack => {
            let (status, kind, mut body) = ask(upstream, &head, &body)?;
            let kind = if spoil == Spoil::WrongType { "text/html".to_owned() } else { kind };
            if let Spoil::Shorten(per_mille) = spoil {
                body.truncate(body.len() * per_mille / 1000);
            }
            if spoil == Spoil::FlipInPack
                && let Some(start) = body.windows(4).position(|window| window == b"PACK")
            {
                let middle = start + (body.len() - start) / 2;
                body[middle] ^= 0x10;
            }
            let head = format!(
                "{status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), &body].concat()
        }
    };
    match spoil {
        Spoil::CutAt(end) => client.write_all(&answer[..end.min(answer.len())]),
        Spoil::Drip => {
            for byte in answer {
                client.write_all(&[byte])?;
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok(())
        }
        Spoil::Nothing
        | Spoil::Shorten(_)
        | Spoil::Stall
        | Spoil::WrongType
        | Spoil::Status(_)
        | Spoil::TooMany(_)
        | Spoil::RedirectLoop
        | Spoil::FlipInPack => client.write_all(&answer),
    }
}

/// Head and body of a request, the body without its transfer encoding.
fn read_request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let (mut seen, mut portion) = (Vec::new(), vec![0; 16 << 10]);
    let mut more = |seen: &mut Vec<u8>| -> std::io::Result<()> {
        let count = client.read(&mut portion)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(&portion[..count]);
        Ok(())
    };
    let end = loop {
        if let Some(at) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        more(&mut seen)?;
    };
    let head = String::from_utf8_lossy(&seen[..end]).into_owned();
    let lower = head.to_ascii_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        let (mut body, mut at) = (Vec::new(), end);
        loop {
            let Some(line) = seen[at..].windows(2).position(|window| window == b"\r\n") else {
                more(&mut seen)?;
                continue;
            };
            let size = usize::from_str_radix(String::from_utf8_lossy(&seen[at..at + line]).trim(), 16).unwrap();
            while seen.len() < at + line + 2 + size + 2 {
                more(&mut seen)?;
            }
            body.extend_from_slice(&seen[at + line + 2..at + line + 2 + size]);
            at += line + 2 + size + 2;
            if size == 0 {
                return Ok((head, body));
            }
        }
    }
    let length =
        lower.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok()).unwrap_or(0);
    while seen.len() < end + length {
        more(&mut seen)?;
    }
    Ok((head, seen[end..end + length].to_vec()))
}

/// The answer of the real server: status line, content type, body.
fn ask(port: u16, head: &str, body: &[u8]) -> std::io::Result<(String, String, Vec<u8>)> {
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let mut request = lines.next().unwrap_or_default().replace("HTTP/1.1", "HTTP/1.0");
    for line in lines {
        let lower = line.to_ascii_lowercase();
        if !["connection:", "transfer-encoding:", "content-length:", "accept-encoding:"]
            .iter()
            .any(|name| lower.starts_with(name))
        {
            request.push_str(&format!("\r\n{line}"));
        }
    }
    request.push_str(&format!("\r\nContent-Length: {}\r\n\r\n", body.len()));
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.write_all(request.as_bytes())?;
    server.write_all(body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len() - 4) + 4;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split("\r\n").next().unwrap_or_default().to_owned();
    let kind = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or("text/plain").to_owned();
    Ok((status, kind, answer[end..].to_vec()))
}
