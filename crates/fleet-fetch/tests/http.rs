//! Documents from a real server (nginx), over TLS with a private CA.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::time::{Duration, Instant};

use fleet_fetch::{
    ClientIdentity, FetchError, FetchErrorKind, FetchLimits, Fetched, HttpAuth, HttpFetcher, HttpOptions, HttpPlace,
    SecretBytes, Validators,
};
use fleet_test::file_server::FileServer;
use fleet_test::{Fault, TcpFaultProxy, wait_for};

const LOCATIONS: &str = r#"
    location /weak/ { root {root}; gzip on; gzip_min_length 1; gzip_types *; }
    location /dates/ { alias {root}/; etag off; }
    location /bare/ { alias {root}/; etag off; if_modified_since off; add_header Last-Modified ""; }
    location /chunked/ { alias {root}/; sub_filter_types *; sub_filter never never; sub_filter_last_modified on; }
    location /unframed/ { alias {root}/; sub_filter_types *; sub_filter never never; chunked_transfer_encoding off; }
    location /packed/ { alias {root}/packed/; gzip_static always; }
    location /slow/ { alias {root}/; limit_rate 2k; }
    location = /private { if ($http_authorization = "") { return 401; } if ($http_authorization != "Bearer hunter2") { return 403; } return 200 'for you'; }
    location = /basic { if ($http_authorization != "Basic dTpodW50ZXIy") { return 401; } return 200 'for u'; }
    location /loop { return 302 /loop; }
    location /moved { return 301 /a.txt; }
    location /lost { return 302 ""; }
    location /to-file { return 302 file:///etc/passwd; }
    location /to-user { return 302 https://u:hunter2@localhost/; }
    location ~ ^/to-http/([0-9]+)/(.*)$ { return 302 http://127.0.0.1:$1/$2; }
    location ~ ^/to-port/([0-9]+)/(.*)$ { return 307 https://localhost:$1/$2$is_args$args; }
    location /busy { add_header Retry-After 7 always; return 429; }
    location /down { return 502; }
    location /nothing { return 204; }
    location /liar { return 304; }
"#;

fn server() -> FileServer {
    let server = FileServer::start(LOCATIONS).unwrap();
    server.write("a.txt", "one").unwrap();
    server
}

fn place(server: &FileServer, url: String) -> HttpPlace {
    let options = HttpOptions { ca_pem: Some(server.ca_pem().to_owned()), ..HttpOptions::default() };
    HttpPlace { url, options }
}

fn bearer(server: &FileServer, url: String) -> HttpPlace {
    let mut place = place(server, url);
    place.options.auth = HttpAuth::Bearer { token: SecretBytes::from("hunter2\n") };
    place
}

async fn get(place: &HttpPlace) -> Result<Fetched, FetchError> {
    HttpFetcher::new().get(place, &Validators::default()).await
}

fn content(fetched: Result<Fetched, FetchError>) -> (String, Validators) {
    match fetched.unwrap() {
        Fetched::Content { bytes, validators } => (String::from_utf8(bytes.to_vec()).unwrap(), validators),
        Fetched::Unchanged => panic!("unchanged"),
    }
}

fn kind(fetched: Result<Fetched, FetchError>) -> FetchErrorKind {
    let error = fetched.unwrap_err();
    assert!(!error.message.contains("hunter2"), "{error}");
    error.kind
}

/// The requests so far, once there are `count`: nginx writes a line behind its answer.
async fn requests(server: &FileServer, count: usize) -> Vec<String> {
    let what = format!("request {count}");
    wait_for(&what, Duration::from_secs(10), async || Some(server.requests()).filter(|seen| seen.len() >= count)).await
}

/// Asks twice and then again after a change; true when the second answer was "unchanged".
async fn is_recognised(server: &FileServer, path: &str, file: &str) -> bool {
    let fetcher = HttpFetcher::new();
    let place = place(server, server.https_url(path));
    server.write(file, "first").unwrap();
    let (first, validators) = content(fetcher.get(&place, &Validators::default()).await);
    assert_eq!(first, "first");
    let second = fetcher.get(&place, &validators).await.unwrap();
    server.write(file, "third").unwrap();
    assert_eq!(content(fetcher.get(&place, &validators).await).0, "third");
    second == Fetched::Unchanged
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again() {
    let server = server();
    assert!(is_recognised(&server, "b.txt", "b.txt").await, "by ETag");
    assert!(is_recognised(&server, "dates/b.txt", "b.txt").await, "by date");
    assert!(!is_recognised(&server, "bare/b.txt", "b.txt").await, "there is nothing to recognise it by");
    assert!(is_recognised(&server, "chunked/c.txt", "c.txt").await, "by a date, in pieces");
    let (_, strong) = content(get(&place(&server, server.https_url("a.txt"))).await);
    let weak = Validators { etag: strong.etag.map(|tag| format!("W/{tag}")), last_modified: None };
    let fetched = HttpFetcher::new().get(&place(&server, server.https_url("a.txt")), &weak).await;
    assert_eq!(fetched, Ok(Fetched::Unchanged), "by a weak ETag");
}

#[tokio::test]
async fn an_answer_that_is_no_document_is_an_error_of_its_kind() {
    let server = server();
    let at = |path: &str| place(&server, server.https_url(path));
    assert_eq!(kind(get(&at("none.txt")).await), FetchErrorKind::NotFound);
    assert_eq!(kind(get(&at("private")).await), FetchErrorKind::Denied);
    assert_eq!(kind(get(&at("down")).await), FetchErrorKind::Unreachable);
    assert_eq!(kind(get(&at("nothing")).await), FetchErrorKind::Invalid);
    assert_eq!(kind(get(&at("liar")).await), FetchErrorKind::Invalid);
    let wait = Some(Duration::from_secs(7));
    assert_eq!(kind(get(&at("busy")).await), FetchErrorKind::RateLimited { retry_after: wait });
    let mut wrong = at("private");
    wrong.options.auth = HttpAuth::Bearer { token: SecretBytes::from("hunter2x") };
    assert_eq!(kind(get(&wrong).await), FetchErrorKind::Denied);
}

#[tokio::test]
async fn credentials_let_in_and_cannot_smuggle() {
    let server = server();
    assert_eq!(content(get(&bearer(&server, server.https_url("private"))).await).0, "for you");
    let mut place = place(&server, server.https_url("basic"));
    place.options.auth = HttpAuth::Basic { username: "u".to_owned(), password: SecretBytes::from("hunter2\r\n") };
    assert_eq!(content(get(&place).await).0, "for u");
    for (username, password) in
        [("u:x", "hunter2"), ("", "hunter2"), ("u\r\nX: y", "hunter2"), ("u", "hunter2\r\nX: y")]
    {
        place.options.auth = HttpAuth::Basic { username: username.to_owned(), password: SecretBytes::from(password) };
        assert_eq!(kind(get(&place).await), FetchErrorKind::Invalid, "{username:?}");
    }
    for token in ["", "hunter2 x", "hunter2\r\nX: y", "hunter2\0", "ä-hunter2"] {
        place.options.auth = HttpAuth::Bearer { token: SecretBytes::from(token) };
        assert_eq!(kind(get(&place).await), FetchErrorKind::Invalid, "{token:?}");
    }
    assert_eq!(kind(get(&bearer(&server, server.http_url("private"))).await), FetchErrorKind::Invalid, "in the clear");
}

#[tokio::test]
async fn redirects_are_followed_within_reason() {
    let server = server();
    let at = |path: &str| place(&server, server.https_url(path));
    assert_eq!(content(get(&at("moved")).await).0, "one");
    assert_eq!(kind(get(&at("loop")).await), FetchErrorKind::Invalid);
    assert_eq!(requests(&server, 8).await.len(), 8, "two before, the first request and five redirects");
    assert_eq!(kind(get(&at("lost")).await), FetchErrorKind::Invalid);
    assert_eq!(kind(get(&at("to-file")).await), FetchErrorKind::Invalid);
    assert_eq!(kind(get(&at("to-user")).await), FetchErrorKind::Invalid);
    let port = server.http_url("").trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    assert_eq!(kind(get(&at(&format!("to-http/{port}/a.txt"))).await), FetchErrorKind::Invalid);
}

#[tokio::test]
async fn another_origin_gets_no_credentials_even_on_the_way_back() {
    let (server, other) = (server(), server());
    other.write("private.txt", "open").unwrap();
    let mut place = bearer(&server, server.https_url(&format!("to-port/{}/private.txt", other.https_port())));
    place.options.ca_pem = Some(format!("{}{}", server.ca_pem(), other.ca_pem()));
    assert_eq!(content(get(&place).await).0, "open");
    assert_eq!(requests(&other, 1).await, ["200 /private.txt - -"]);
    assert!(requests(&server, 1).await[0].contains("Bearer hunter2"));
    let back = format!("to-port/{}/to-port/{}/private", other.https_port(), server.https_port());
    place.url = server.https_url(&back);
    assert_eq!(kind(get(&place).await), FetchErrorKind::Denied);
    assert_eq!(requests(&server, 3).await[2], "401 /private - -");
}

#[tokio::test]
async fn another_origin_is_verified_and_shown_no_client_certificate() {
    let (server, other) = (server(), server());
    other.write("a.txt", "other").unwrap();
    let mut place = place(&server, server.https_url(&format!("to-port/{}/a.txt", other.https_port())));
    place.options = HttpOptions { skip_verify: true, ..HttpOptions::default() };
    let error = get(&place).await.unwrap_err();
    assert!(error.message.contains("certificate is not trusted"), "{error}");
    assert!(other.requests().is_empty());
    let (certificate, key) = server.client_pem();
    let identity = ClientIdentity { certificate_pem: certificate.to_owned(), key_pem: SecretBytes::from(key) };
    place.options = HttpOptions {
        ca_pem: Some(server.ca_pem().to_owned()),
        client_identity: Some(identity),
        ..HttpOptions::default()
    };
    let guarded = server.client_url("a.txt").split('/').nth(2).unwrap().rsplit(':').next().unwrap().to_owned();
    place.url = server.https_url(&format!("to-port/{guarded}/a.txt"));
    assert_eq!(kind(get(&place).await), FetchErrorKind::Denied, "a redirect to another port is another origin");
}

#[tokio::test]
async fn a_private_ca_is_trusted_where_it_is_given() {
    let (server, other) = (server(), server());
    let url = server.https_url("a.txt");
    let error = get(&HttpPlace::anonymous(&url)).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Unreachable);
    assert!(error.message.contains("give the certificate of the CA"), "{error}");
    assert!(get(&place(&other, url.clone())).await.is_err(), "the CA of another server");
    let mut skipping = HttpPlace::anonymous(&url);
    skipping.options.skip_verify = true;
    assert_eq!(content(get(&skipping).await).0, "one");
    for bad in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let options = HttpOptions { ca_pem: Some(bad.to_owned()), ..HttpOptions::default() };
        assert_eq!(kind(get(&HttpPlace { url: url.clone(), options }).await), FetchErrorKind::Invalid, "{bad:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_lets_in_where_one_is_wanted() {
    let server = server();
    let mut place = place(&server, server.client_url("a.txt"));
    let error = get(&place).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Denied);
    assert!(error.message.contains("wants a client certificate and none is given"), "{error}");
    let identity = |(certificate, key): (&str, &str)| {
        Some(ClientIdentity { certificate_pem: certificate.to_owned(), key_pem: SecretBytes::from(key) })
    };
    place.options.client_identity = identity(server.client_pem());
    assert_eq!(content(get(&place).await).0, "one");
    assert_eq!(requests(&server, 2).await[1], "200 /a.txt - CN=device");
    place.options.client_identity = identity(server.stranger_pem());
    assert_eq!(kind(get(&place).await), FetchErrorKind::Denied);
    let (certificate, _) = server.client_pem();
    for bad in
        [(certificate, server.stranger_pem().1), (certificate, ""), ("", server.client_pem().1), ("x", "hunter2")]
    {
        place.options.client_identity = identity(bad);
        assert_eq!(kind(get(&place).await), FetchErrorKind::Invalid, "{bad:?}");
    }
}

#[tokio::test]
async fn a_document_above_the_limit_is_never_read_whole() {
    let server = server();
    let limits = FetchLimits { max_bytes: 1000, ..FetchLimits::default() };
    let fetcher = HttpFetcher::with_limits(limits);
    server.write("big.txt", vec![b'x'; 1001]).unwrap();
    server.write("fits.txt", vec![b'x'; 1000]).unwrap();
    for way in ["", "chunked/"] {
        let at = |file: &str| place(&server, server.https_url(&format!("{way}{file}")));
        assert_eq!(kind(fetcher.get(&at("big.txt"), &Validators::default()).await), FetchErrorKind::TooLarge, "{way}");
        assert_eq!(content(fetcher.get(&at("fits.txt"), &Validators::default()).await).0.len(), 1000, "{way}");
    }
}

#[tokio::test]
async fn a_compressed_document_is_bounded_by_what_comes_out() {
    let server = server();
    for (name, size) in [("fits", 100_000), ("bomb", 20_000_000)] {
        server.write(&format!("packed/{name}"), vec![b'x'; size]).unwrap();
        let packed = std::process::Command::new("gzip").arg(server.root().join(format!("packed/{name}"))).status();
        assert!(packed.unwrap().success());
    }
    let at = |path: &str| place(&server, server.https_url(path));
    assert_eq!(content(get(&at("packed/fits")).await).0.len(), 100_000);
    assert_eq!(kind(get(&at("packed/bomb")).await), FetchErrorKind::TooLarge);
    let file = server.root().join("packed/fits.gz");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 9]).unwrap();
    assert_eq!(kind(get(&at("packed/fits")).await), FetchErrorKind::Invalid, "cut");
}

#[tokio::test]
async fn a_server_that_drips_or_stalls_does_not_hold_us() {
    let server = server();
    server.write("big.txt", vec![b'x'; 200_000]).unwrap();
    let limits = FetchLimits {
        connect: Duration::from_secs(5),
        no_progress: Duration::from_secs(2),
        total: Duration::from_secs(4),
        ..FetchLimits::default()
    };
    let fetcher = HttpFetcher::with_limits(limits);
    let started = Instant::now();
    let dripping = place(&server, server.https_url("slow/big.txt"));
    assert_eq!(kind(fetcher.get(&dripping, &Validators::default()).await), FetchErrorKind::DeadlineExceeded);
    assert!(started.elapsed() >= Duration::from_secs(1) && started.elapsed() < Duration::from_secs(20));
    let proxy = TcpFaultProxy::start(([127, 0, 0, 1], server.https_port()).into()).await.unwrap();
    let through = place(&server, format!("https://localhost:{}/big.txt", proxy.address().port()));
    assert_eq!(content(get(&through).await).0.len(), 200_000);
    proxy.set(Fault::Stall);
    assert_eq!(kind(fetcher.get(&through, &Validators::default()).await), FetchErrorKind::DeadlineExceeded);
    proxy.set(Fault::Reset);
    assert_eq!(kind(get(&through).await), FetchErrorKind::Unreachable);
}

#[tokio::test]
async fn a_document_that_is_cut_at_any_place_is_an_error() {
    let server = server();
    server.write("big.txt", vec![b'x'; 50_000]).unwrap();
    for path in ["big.txt", "chunked/big.txt", "unframed/big.txt"] {
        let proxy = TcpFaultProxy::start(([127, 0, 0, 1], server.https_port()).into()).await.unwrap();
        let through = place(&server, format!("https://localhost:{}/{path}", proxy.address().port()));
        for bytes in [0, 700, 3_000, 10_000, 40_000, 50_000] {
            proxy.set(Fault::CutAfter(bytes));
            let kind = kind(HttpFetcher::new().get(&through, &Validators::default()).await);
            assert_eq!(kind, FetchErrorKind::Unreachable, "{path} cut after {bytes}");
        }
        proxy.set(Fault::None);
        assert_eq!(content(get(&through).await).0.len(), 50_000);
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable_and_no_secret_is_told() {
    let server = server();
    let url = "https://localhost:1/a?token=hunter2".to_owned();
    assert_eq!(kind(get(&bearer(&server, url)).await), FetchErrorKind::Unreachable);
    let mut proxied = bearer(&server, server.https_url("private?token=hunter2"));
    for proxy in ["http://u:hunter2@127.0.0.1:1", "socks5://u:hunter2@127.0.0.1:1", "hunter2", "http://"] {
        proxied.options.proxy = Some(proxy.to_owned());
        kind(get(&proxied).await);
    }
    assert!(server.requests().is_empty(), "nothing went around the proxy");
}

#[tokio::test]
async fn plain_http_works_without_credentials() {
    let server = server();
    assert_eq!(content(get(&HttpPlace::anonymous(server.http_url("a.txt"))).await).0, "one");
    assert_eq!(content(get(&HttpPlace::anonymous(server.http_url("chunked/a.txt"))).await).0, "one");
    let unframed = get(&HttpPlace::anonymous(server.http_url("unframed/a.txt"))).await.unwrap_err();
    assert!(unframed.message.contains("does not say where the answer ends"), "{unframed}");
}
