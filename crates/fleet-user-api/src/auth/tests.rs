//! Tokens that must and must not be accepted, with the real issuer and a real key server.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleet_http::HttpLimits;
use fleet_pki::{CertificateAuthority, DeviceKey, ServerCertificate, tls};
use fleet_runtime::{CancellationToken, ManualClock, Supervisor, SystemClock};
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

const NOW: i64 = 1_800_000_000;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()))
}

fn header(token: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).unwrap()
}

async fn ask(auth: &Authenticator, token: &str) -> Result<Actor, AuthError> {
    auth.authenticate(Some(&header(token))).await
}

fn local(dir: &Path) -> (Arc<ManualClock>, LocalIssuer, Authenticator) {
    let clock = clock();
    let issuer = LocalIssuer::load_or_create(dir, clock.clone()).unwrap();
    let auth = Authenticator::new(clock.clone(), Some(&issuer), &[]).unwrap();
    (clock, issuer, auth)
}

/// A token with any header and claims, signed by any key.
fn forge(header: &Value, claims: &Value, key: Option<(&EncodingKey, Algorithm)>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = key
        .map(|(key, algorithm)| jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap())
        .unwrap_or_default();
    format!("{message}.{signature}")
}

fn claims() -> Value {
    json!({"iss": local_token::ISSUER, "aud": local_token::AUDIENCE, "sub": "ann", "exp": NOW + 60, "roles": ["admin"]})
}

/// The local issuer's key, and the id it goes by.
fn local_key(dir: &Path, issuer: &LocalIssuer) -> (EncodingKey, String) {
    let file = DeviceKey::load(&dir.join(local_token::KEY_FILE)).unwrap();
    let key = EncodingKey::from_ec_pem(file.pem().as_bytes()).unwrap();
    (key, issuer.verification_key().id().to_owned())
}

#[tokio::test]
async fn a_minted_token_is_accepted_until_it_expires_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, issuer, auth) = local(dir.path());
    let token = issuer.mint("ann", Role::Operator, Duration::from_secs(600)).unwrap();
    let actor = ask(&auth, &token).await.unwrap();
    assert_eq!((actor.name.as_str(), actor.roles), ("ann", BTreeSet::from([Role::Operator])));
    let (_, _, restarted) = local(dir.path());
    assert!(ask(&restarted, &token).await.is_ok());
    clock.set(Timestamp::from_second(NOW + 600 + LEEWAY).unwrap());
    assert_eq!(ask(&auth, &token).await, Err(AuthError::Expired));
    assert!(issuer.mint(" ", Role::Admin, Duration::from_secs(1)).is_err());
}

#[tokio::test]
async fn claims_that_are_wrong_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_, issuer, auth) = local(dir.path());
    let (key, kid) = local_key(dir.path(), &issuer);
    let with = |change: fn(&mut Value)| {
        let mut claims = claims();
        change(&mut claims);
        forge(&json!({"alg": "ES256", "kid": kid}), &claims, Some((&key, Algorithm::ES256)))
    };
    assert!(ask(&auth, &with(|_| ())).await.is_ok());
    assert_eq!(ask(&auth, &with(|c| c["aud"] = "other".into())).await, Err(AuthError::Audience));
    assert_eq!(ask(&auth, &with(|c| c["aud"] = json!(["x", 3]))).await, Err(AuthError::Audience));
    assert!(ask(&auth, &with(|c| c["aud"] = json!(["x", local_token::AUDIENCE]))).await.is_ok());
    assert_eq!(ask(&auth, &with(|c| c["iss"] = "https://evil".into())).await, Err(AuthError::UnknownIssuer));
    assert_eq!(ask(&auth, &with(|c| c["exp"] = (NOW - 3600).into())).await, Err(AuthError::Expired));
    assert_eq!(ask(&auth, &with(|c| c["nbf"] = (NOW + 3600).into())).await, Err(AuthError::NotYetValid));
    for change in [
        (|c| drop(c.as_object_mut().unwrap().remove("exp"))) as fn(&mut Value),
        |c| c["exp"] = "tomorrow".into(),
        |c| c["exp"] = json!(1e300),
        |c| c["sub"] = "".into(),
    ] {
        assert!(matches!(ask(&auth, &with(change)).await, Err(AuthError::Malformed(_))));
    }
}

#[tokio::test]
async fn a_token_without_a_known_role_is_somebody_who_may_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_, issuer, auth) = local(dir.path());
    let (key, kid) = local_key(dir.path(), &issuer);
    for roles in [json!(null), json!(["root"]), json!({"admin": true}), json!(["Admin"])] {
        let mut claims = claims();
        claims["roles"] = roles;
        let token = forge(&json!({"alg": "ES256", "kid": kid}), &claims, Some((&key, Algorithm::ES256)));
        let actor = ask(&auth, &token).await.unwrap();
        assert!(actor.roles.is_empty());
        let refusal = crate::Action::ReadService.require(&actor).unwrap_err();
        assert_eq!(refusal.code(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn tricks_with_algorithms_and_keys_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_, issuer, auth) = local(dir.path());
    let (key, kid) = local_key(dir.path(), &issuer);
    let es256 = Some((&key, Algorithm::ES256));
    // No signature at all.
    for none in ["none", "None", "nOnE", ""] {
        let token = forge(&json!({"alg": none, "kid": kid}), &claims(), None);
        assert_eq!(ask(&auth, &token).await, Err(AuthError::Algorithm), "{none}");
    }
    // The public key taken for a shared secret.
    let public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    let secret = EncodingKey::from_secret(serde_json::to_string(&public).unwrap().as_bytes());
    let token = forge(&json!({"alg": "HS256", "kid": kid}), &claims(), Some((&secret, Algorithm::HS256)));
    assert_eq!(ask(&auth, &token).await, Err(AuthError::Algorithm));
    // An allowed algorithm that the key is not for.
    for alg in ["RS256", "ES384", "EdDSA"] {
        let token = forge(&json!({"alg": alg, "kid": kid}), &claims(), es256);
        assert_eq!(ask(&auth, &token).await, Err(AuthError::Algorithm), "{alg}");
    }
    // Somebody else's key under our id, and an id nobody has.
    let other = DeviceKey::generate().unwrap();
    let other = EncodingKey::from_ec_pem(other.pem().as_bytes()).unwrap();
    let token = forge(&json!({"alg": "ES256", "kid": kid}), &claims(), Some((&other, Algorithm::ES256)));
    assert_eq!(ask(&auth, &token).await, Err(AuthError::Signature));
    let token = forge(&json!({"alg": "ES256", "kid": "x"}), &claims(), es256);
    assert_eq!(ask(&auth, &token).await, Err(AuthError::UnknownKey));
    let token = forge(&json!({"alg": "ES256"}), &claims(), es256);
    assert!(matches!(ask(&auth, &token).await, Err(AuthError::Malformed(_))));
    // A key that the token brings along, and extensions.
    let token = forge(&json!({"alg": "ES256", "kid": kid, "jwk": public}), &claims(), Some((&other, Algorithm::ES256)));
    assert_eq!(ask(&auth, &token).await, Err(AuthError::Signature));
    let token = forge(&json!({"alg": "ES256", "kid": kid, "crit": ["b64"], "b64": false}), &claims(), es256);
    assert!(matches!(ask(&auth, &token).await, Err(AuthError::Malformed(_))));
    // Claims changed after signing.
    let good = forge(&json!({"alg": "ES256", "kid": kid}), &claims(), es256);
    let mut parts: Vec<&str> = good.split('.').collect();
    let mut changed = claims();
    changed["sub"] = "root".into();
    let changed = URL_SAFE_NO_PAD.encode(changed.to_string());
    parts[1] = &changed;
    assert_eq!(ask(&auth, &parts.join(".")).await, Err(AuthError::Signature));
}

#[tokio::test]
async fn only_the_bearer_scheme_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (_, issuer, auth) = local(dir.path());
    let token = issuer.mint("ann", Role::Viewer, Duration::from_secs(60)).unwrap();
    assert_eq!(auth.authenticate(None).await, Err(AuthError::Missing));
    for (text, good) in [(format!("bearer {token}"), true), (format!("Basic {token}"), false), (token.clone(), false)] {
        assert_eq!(auth.authenticate(Some(&HeaderValue::try_from(text).unwrap())).await.is_ok(), good);
    }
    let answer = AuthError::Expired.answer().into_response();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let challenge = answer.headers()[WWW_AUTHENTICATE].to_str().unwrap();
    assert_eq!(
        challenge,
        "Bearer realm=\"shorebase\", error=\"invalid_token\", error_description=\"the token has expired\""
    );
}

/// An identity provider: discovery and keys over TLS, with a switch to be broken and a count of requests for keys.
struct Provider {
    issuer: String,
    keys: Arc<ArcSwap<Value>>,
    broken: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    dir: tempfile::TempDir,
    key: EncodingKey,
    /// Ends the server when dropped.
    _server: Supervisor,
}

impl Provider {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // TLS is checked by the machine's clock, tokens by the test's.
        let now = SystemClock.now();
        let ca = CertificateAuthority::load_or_create(dir.path(), now).unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.root_pem()).unwrap();
        let names = ["localhost".to_owned()];
        let certificate = ServerCertificate::load_or_issue(dir.path(), &ca, &names, now).unwrap();
        let config = tls::user_server_config(&certificate, &tls::TlsTime::system()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("https://localhost:{}/realm", listener.local_addr().unwrap().port());
        let (key, jwk) = ec_key("k1");
        let keys =
            Arc::new(ArcSwap::from_pointee(json!({"keys": [jwk, {"kty": "oct", "kid": "k0", "k": "c2VjcmV0"}]})));
        let (broken, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let router = routes(&issuer, &keys, &broken, &asked);
        let mut server = Supervisor::new(CancellationToken::new());
        let shutdown = server.shutdown();
        let config = Arc::new(ArcSwap::new(config));
        server.spawn("provider", fleet_http::serve(listener, config, router, shutdown, HttpLimits::default()));
        Self { issuer, keys, broken, asked, dir, key, _server: server }
    }

    fn config(&self) -> OidcConfig {
        let mut config = OidcConfig::new(&self.issuer, "fleet");
        config.ca_file = Some(self.dir.path().join("ca.pem"));
        config.role_claim = vec!["realm_access".to_owned(), "roles".to_owned()];
        config.roles = [("fleet-ops".to_owned(), Role::Operator)].into();
        config
    }

    fn token(&self, kid: &str, key: &EncodingKey) -> String {
        let claims = json!({
            "iss": self.issuer, "aud": ["fleet", "account"], "sub": "7", "preferred_username": "bob", "exp": NOW + 36_000_000,
            "realm_access": {"roles": ["offline", "fleet-ops"]},
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid.to_owned());
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    }
}

fn ec_key(kid: &str) -> (EncodingKey, Value) {
    let key = EncodingKey::from_ec_pem(DeviceKey::generate().unwrap().pem().as_bytes()).unwrap();
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    jwk["use"] = "sig".into();
    (key, jwk)
}

fn routes(issuer: &str, keys: &Arc<ArcSwap<Value>>, broken: &Arc<AtomicBool>, asked: &Arc<AtomicUsize>) -> Router {
    let document = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "scopes_supported": ["openid"]});
    let (keys, broken, asked) = (Arc::clone(keys), Arc::clone(broken), Arc::clone(asked));
    Router::new()
        .route("/realm/.well-known/openid-configuration", get(move || async move { axum::Json(document) }))
        .route(
            "/realm/keys",
            get(move || async move {
                asked.fetch_add(1, Ordering::SeqCst);
                if broken.load(Ordering::SeqCst) {
                    return StatusCode::BAD_GATEWAY.into_response();
                }
                let answer: Response = axum::Json(keys.load().as_ref().clone()).into_response();
                answer
            }),
        )
}

#[tokio::test]
async fn tokens_of_a_provider_are_accepted_with_mapped_roles() {
    let provider = Provider::start().await;
    let auth = Authenticator::new(clock(), None, &[provider.config()]).unwrap();
    let actor = ask(&auth, &provider.token("k1", &provider.key)).await.unwrap();
    assert_eq!((actor.name.as_str(), actor.issuer.as_str()), ("bob", provider.issuer.as_str()));
    assert_eq!(actor.roles, BTreeSet::from([Role::Operator]));
    // Many tokens, one look at the keys.
    for _ in 0..20 {
        ask(&auth, &provider.token("k1", &provider.key)).await.unwrap();
    }
    assert_eq!(provider.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_new_key_is_fetched_once_it_is_used_but_not_more_often_than_allowed() {
    let provider = Provider::start().await;
    let clock = clock();
    let auth = Authenticator::new(clock.clone(), None, &[provider.config()]).unwrap();
    ask(&auth, &provider.token("k1", &provider.key)).await.unwrap();
    let (key, jwk) = ec_key("k2");
    // Unknown keys within the least interval cost no request.
    for _ in 0..10 {
        assert_eq!(ask(&auth, &provider.token("k2", &key)).await, Err(AuthError::UnknownKey));
    }
    assert_eq!(provider.asked.load(Ordering::SeqCst), 1);
    provider.keys.store(Arc::new(json!({"keys": [jwk]})));
    clock.set(Timestamp::from_second(NOW + 31).unwrap());
    assert!(ask(&auth, &provider.token("k2", &key)).await.is_ok());
    // The old key is gone with the new set.
    assert_eq!(ask(&auth, &provider.token("k1", &provider.key)).await, Err(AuthError::UnknownKey));
    assert_eq!(provider.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn keys_stay_in_use_while_the_provider_is_away_but_not_for_ever() {
    let provider = Provider::start().await;
    let clock = clock();
    let auth = Authenticator::new(clock.clone(), None, &[provider.config()]).unwrap();
    let token = provider.token("k1", &provider.key);
    ask(&auth, &token).await.unwrap();
    provider.broken.store(true, Ordering::SeqCst);
    clock.set(Timestamp::from_second(NOW + 3600).unwrap());
    assert!(ask(&auth, &token).await.is_ok());
    assert_eq!(provider.asked.load(Ordering::SeqCst), 2);
    clock.set(Timestamp::from_second(NOW + 25 * 3600).unwrap());
    let error = ask(&auth, &token).await.unwrap_err();
    assert_eq!((&error, error.answer().code()), (&AuthError::KeysUnavailable, StatusCode::SERVICE_UNAVAILABLE));
    provider.broken.store(false, Ordering::SeqCst);
    clock.set(Timestamp::from_second(NOW + 25 * 3600 + 3).unwrap());
    assert!(ask(&auth, &token).await.is_ok());
}

#[tokio::test]
async fn a_provider_with_an_untrusted_certificate_or_another_name_is_not_believed() {
    let provider = Provider::start().await;
    let token = provider.token("k1", &provider.key);
    let untrusted = OidcConfig { ca_file: None, ..provider.config() };
    let auth = Authenticator::new(clock(), None, &[untrusted]).unwrap();
    assert_eq!(ask(&auth, &token).await, Err(AuthError::KeysUnavailable));
    assert_eq!(provider.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn keys_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let (key, jwk) = ec_key("k1");
    std::fs::write(&path, json!({"keys": [jwk]}).to_string()).unwrap();
    let mut config = OidcConfig::new("https://issuer.example", "fleet");
    config.keys = KeyLocation::File(path);
    config.role_claim = vec!["scope".to_owned()];
    let auth = Authenticator::new(clock(), None, &[config]).unwrap();
    let claims =
        json!({"iss": "https://issuer.example", "aud": "fleet", "sub": "ci", "exp": NOW + 5, "scope": "openid viewer"});
    let token = forge(&json!({"alg": "ES256", "kid": "k1"}), &claims, Some((&key, Algorithm::ES256)));
    assert_eq!(ask(&auth, &token).await.unwrap().roles, BTreeSet::from([Role::Viewer]));
}

#[test]
fn bad_settings_are_refused_by_name() {
    let refuse = |change: fn(&mut OidcConfig)| {
        let mut config = OidcConfig::new("https://issuer.example", "fleet");
        change(&mut config);
        Authenticator::new(clock(), None, &[config]).unwrap_err().to_string()
    };
    assert!(refuse(|c| c.issuer = "http://issuer.example".to_owned()).contains("https://"));
    assert!(refuse(|c| c.audiences.clear()).contains("audiences"));
    assert!(refuse(|c| c.ca_file = Some("/nonexistent/ca.pem".into())).contains("/nonexistent/ca.pem"));
    let twice = OidcConfig::new("https://issuer.example", "fleet");
    assert!(Authenticator::new(clock(), None, &[twice.clone(), twice]).unwrap_err().to_string().contains("twice"));
}

#[test]
fn the_key_is_private_and_never_printed() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (_, issuer, auth) = local(dir.path());
    let path = dir.path().join(local_token::KEY_FILE);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!format!("{issuer:?}{auth:?}").contains("PRIVATE"));
}
