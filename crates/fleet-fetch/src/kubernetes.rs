//! Secrets of a Kubernetes cluster, read from its API with the service account of the pod.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::{FetchError, FetchErrorKind, quoted};
use crate::http::{Answer, FetchLimits, HttpFetcher, kind_of_status};
use crate::names::{check_secret_key, check_secret_name, check_secret_namespace};
use crate::place::{HttpAuth, HttpOptions, HttpPlace, Validators};
use crate::secret::SecretBytes;
use crate::secrets::MAX_SECRET_BYTES;

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A token or a bundle of certificates.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// 1 MiB in base64, annotations (256 KiB) and managed fields.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// How to reach the API server of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiServer {
    /// `https://host:port`, without a path.
    pub url: String,
    /// The file of the service account's token. Read at every use, since clusters replace it.
    pub token_file: PathBuf,
    /// The file of the cluster's CA. Read at every use.
    pub ca_file: PathBuf,
}

/// Secrets of a Kubernetes cluster.
#[derive(Debug)]
pub struct KubernetesSecrets {
    server: ApiServer,
    fetcher: HttpFetcher,
}

/// The parts of a `Secret` (core/v1) that count here.
#[derive(Deserialize)]
struct Wire {
    kind: String,
    metadata: WireMetadata,
    #[serde(default)]
    data: Option<BTreeMap<String, Encoded>>,
}

/// A value in base64.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Encoded(Zeroizing<String>);

impl From<String> for Encoded {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

#[derive(Deserialize)]
struct WireMetadata {
    name: String,
    namespace: String,
}

/// The parts of a `Status` (meta/v1) that count here.
#[derive(Deserialize)]
struct WireStatus {
    message: String,
}

impl KubernetesSecrets {
    /// The cluster that this process runs in: `KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT` and the service account
    /// that is mounted into every pod.
    ///
    /// # Errors
    /// `Invalid` outside of a cluster.
    pub fn in_cluster() -> Result<Self, FetchError> {
        ApiServer::of_environment(&|name| std::env::var(name).ok()).map(Self::new)
    }

    /// The cluster behind `server`.
    pub fn new(server: ApiServer) -> Self {
        let limits = FetchLimits { max_bytes: MAX_ANSWER_BYTES, redirects: 0, ..FetchLimits::default() };
        Self { server, fetcher: HttpFetcher::with_limits(limits) }
    }

    /// All keys of one secret.
    ///
    /// # Errors
    /// `NotFound`, `Denied` (naming the right that is missing), `Unreachable`, `TooLarge`, `Invalid` for names and answers.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, SecretBytes>, FetchError> {
        check_secret_namespace(namespace)?;
        check_secret_name(name)?;
        let place = HttpPlace {
            // Names that passed need no escapes.
            url: format!("{}/api/v1/namespaces/{namespace}/secrets/{name}", self.server.url),
            options: self.server.options().await?,
        };
        let answer = self.fetcher.ask(&place, &Validators::default()).await?;
        if answer.status.as_u16() != 200 {
            return Err(refused(&place, &answer, namespace, name));
        }
        secret_of(&answer.body, namespace, name)
    }
}

impl ApiServer {
    fn of_environment(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, FetchError> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
        else {
            return Err(FetchError::invalid(
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is no pod of a Kubernetes cluster",
            ));
        };
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        let url = format!("https://{host}:{port}");
        HttpPlace::anonymous(&url).check()?;
        Ok(Self { url, token_file: Path::new(ACCOUNT).join("token"), ca_file: Path::new(ACCOUNT).join("ca.crt") })
    }

    async fn options(&self) -> Result<HttpOptions, FetchError> {
        let (token_file, ca_file) = (self.token_file.clone(), self.ca_file.clone());
        let read = move || Ok::<_, FetchError>((read_file(&token_file, "token")?, read_file(&ca_file, "CA")?));
        let read = tokio::task::spawn_blocking(read).await;
        let (token, ca) =
            read.map_err(|_| FetchError::new(FetchErrorKind::Other, "the reader of the service account ended early"))??;
        let ca = String::from_utf8(ca.to_vec())
            .map_err(|_| FetchError::invalid(format!("{} is not a PEM file", self.ca_file.display())))?;
        let auth = HttpAuth::Bearer { token: SecretBytes::from(token) };
        Ok(HttpOptions { auth, ca_pem: Some(ca), ..HttpOptions::default() })
    }
}

fn read_file(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(FetchError::new(
            FetchErrorKind::Other,
            format!(
                "cannot read the service account's {what} {}: {error}; the pod needs automountServiceAccountToken",
                path.display()
            ),
        )),
    }
}

fn refused(place: &HttpPlace, answer: &Answer, namespace: &str, name: &str) -> FetchError {
    let said =
        serde_json::from_slice::<WireStatus>(&answer.body).map(|status| quoted(&status.message)).unwrap_or_default();
    let said = if said.is_empty() { String::new() } else { format!(" (the API server says: {said})") };
    let message = match answer.status.as_u16() {
        401 => {
            "the Kubernetes API does not accept the service account's token; it may be expired or of another cluster"
                .to_owned()
        }
        403 => format!(
            "the service account may not read the secret {namespace}/{name}: a Role in the namespace {namespace} must allow \
             the verb get on the resource secrets, and a RoleBinding must give it to the service account"
        ),
        404 => format!("there is no secret {namespace}/{name} in the cluster"),
        status => {
            format!("cannot read the secret {namespace}/{name} from {}: it answers {status}", place.display_url())
        }
    };
    FetchError::new(kind_of_status(answer), message + &said)
}

/// The keys in the JSON of a `Secret`.
fn secret_of(body: &[u8], namespace: &str, name: &str) -> Result<BTreeMap<String, SecretBytes>, FetchError> {
    let odd = |why: &str| {
        FetchError::invalid(format!("cannot read the secret {namespace}/{name}: the Kubernetes API answers with {why}"))
    };
    // The parser's words could quote values.
    let wire: Wire = serde_json::from_slice(body).map_err(|_| odd("what is no Secret of core/v1"))?;
    if wire.kind != "Secret" || wire.metadata.name != name || wire.metadata.namespace != namespace {
        return Err(odd("another object"));
    }
    let mut keys = BTreeMap::new();
    let mut total = 0_usize;
    for (key, value) in wire.data.unwrap_or_default() {
        check_secret_key(&key)?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(value.0.as_bytes()).map(Zeroizing::new);
        let decoded = decoded.map_err(|_| odd(&format!("a value of {key} that is not base64")))?;
        total = total.saturating_add(decoded.len());
        if total > MAX_SECRET_BYTES {
            let message = format!("the secret {namespace}/{name} is larger than {MAX_SECRET_BYTES} bytes");
            return Err(FetchError::new(FetchErrorKind::TooLarge, message));
        }
        keys.insert(key, SecretBytes::from(decoded));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db","namespace":"shop","uid":"u"},
        "data":{"password":"aHVudGVyMg==","empty":""},"type":"Opaque"}"#;

    #[test]
    fn the_api_server_is_where_the_pod_says() {
        let server = |host: &str| {
            ApiServer::of_environment(&|name| match name {
                "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
                "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
                _ => None,
            })
        };
        assert_eq!(server("10.0.0.1").unwrap().url, "https://10.0.0.1:443");
        assert_eq!(server("fd00::1").unwrap().url, "https://[fd00::1]:443");
        assert!(server("").is_err() && server("a b").is_err() && server("u:p@h/x").is_err());
        assert!(ApiServer::of_environment(&|_| None).unwrap_err().message.contains("no pod"));
    }

    #[test]
    fn only_the_secret_that_was_asked_for_is_taken() {
        let keys = secret_of(GOOD.as_bytes(), "shop", "db").unwrap();
        assert_eq!(keys["password"].expose(), b"hunter2");
        assert!(keys["empty"].is_empty() && keys.len() == 2);
        assert!(secret_of(GOOD.as_bytes(), "shop", "other").is_err());
        assert!(secret_of(GOOD.as_bytes(), "other", "db").is_err());
        let without = GOOD.replace("\"data\"", "\"stringData\"");
        assert!(secret_of(without.as_bytes(), "shop", "db").unwrap().is_empty());
        for bad in ["", "{}", "[]", &GOOD.replace("aHVu", "!!!!"), &GOOD.replace("password", "../x")] {
            let error = secret_of(bad.as_bytes(), "shop", "db").unwrap_err();
            assert_eq!(error.kind, FetchErrorKind::Invalid);
            assert!(!error.message.contains("aHVu") && !error.message.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic_or_shows_values(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = GOOD.as_bytes().to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            if let Err(error) = secret_of(&body, "shop", "db") {
                prop_assert!(!error.message.contains("aHVudGVyMg"));
            }
            let _ = secret_of(&body[..at], "shop", "db");
        }
    }
}
