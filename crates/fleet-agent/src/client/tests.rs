//! Answers that come late, slowly, in part or not at all.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use fleet_pki::DeviceKey;

use super::*;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n";

/// A server for one request: it writes the pieces, each after a pause, and then keeps the connection or ends it.
/// Returns its URL, and the request's head through the channel.
fn serve(pieces: &'static [&'static str], pause: Duration, keep: bool) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap() == 0 {
                return;
            }
            head.push(byte[0]);
        }
        let _ = sender.send(String::from_utf8(head).unwrap());
        for piece in pieces {
            thread::sleep(pause);
            stream.write_all(piece.as_bytes()).unwrap();
        }
        // Ends when the client does.
        while keep && stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    });
    (server, receiver)
}

fn client(server: &str, stall_timeout: Duration) -> Client {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let mut client = Arc::try_unwrap(Client::new(server, tls).unwrap()).unwrap();
    client.stall_timeout = stall_timeout;
    client
}

fn known(hash: Option<Digest>) -> Option<KnownSpec> {
    Some(KnownSpec { version: RenderedVersion::try_from(7).unwrap(), hash })
}

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

async fn poll(
    server: &str,
    known: Option<KnownSpec>,
    timeout: Duration,
    stall: Duration,
) -> Result<Polled, ClientError> {
    let name = DeviceKey::generate().unwrap().device_name().clone();
    client(server, stall).poll(&name, known, timeout).await
}

#[tokio::test]
async fn silence_is_nothing_new_only_where_a_version_was_known() {
    let (server, _head) = serve(&[], ms(0), true);
    assert_eq!(poll(&server, known(None), ms(200), ms(5000)).await.unwrap(), Polled::Nothing);
    let (server, _head) = serve(&[], ms(0), true);
    let error = poll(&server, None, ms(200), ms(5000)).await.unwrap_err();
    assert!(matches!(error, ClientError::Silent { .. }) && !error.may_be_identity(), "{error}");
}

#[tokio::test]
async fn an_answer_that_stalls_or_is_cut_is_an_error() {
    let (server, _head) = serve(&[HEAD, "abc"], ms(0), true);
    let error = poll(&server, known(None), ms(5000), ms(200)).await.unwrap_err();
    assert!(matches!(error, ClientError::Stalled { .. }) && !error.may_be_identity(), "{error}");
    let (server, _head) = serve(&[HEAD, "abc"], ms(0), false);
    let error = poll(&server, known(None), ms(5000), ms(5000)).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }), "{error}");
}

#[tokio::test]
async fn a_slow_answer_may_take_longer_than_the_poll() {
    let (server, _head) = serve(&[HEAD, "ab", "cd", "ef"], ms(1_000), true);
    let polled = poll(&server, known(None), ms(3_500), ms(20_000)).await.unwrap();
    assert_eq!(polled, Polled::Document(b"abcdef".to_vec()));
}

#[tokio::test]
async fn the_digest_of_what_is_known_goes_with_the_poll() {
    let hash = Digest::of(b"x");
    for (hash, line) in [(Some(hash), format!("shorebase-spec-hash: {}\r\n", hash.hex())), (None, String::new())] {
        let (server, head) = serve(&[HEAD, "abcdef"], ms(0), true);
        poll(&server, known(hash), ms(5000), ms(5000)).await.unwrap();
        let head = head.recv().unwrap();
        assert!(head.contains("/rendered?knownRenderedVersion=7 ") && head.contains(&line), "{head}");
        assert_eq!(head.contains("spec-hash"), hash.is_some(), "{head}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_says_nothing_about_the_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = poll(&server, known(None), ms(5000), ms(5000)).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }) && !error.may_be_identity(), "{error}");
    // Nor does one that ends the connection before it said who it is.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
    });
    let error = poll(&server, known(None), ms(5000), ms(5000)).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }) && !error.may_be_identity(), "{error}");
}
