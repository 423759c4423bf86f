//! The users' interface of the service, over HTTP: deadlines, bounded answers, errors in the service's own words.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use crate::cli::Connection;
use crate::config::Settings;

/// One request may take so long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A service that is busy is asked so many times.
const ATTEMPTS: u32 = 4;
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// No answer is larger.
const MAX_BODY: usize = 256 << 20;
/// The size of a page.
const PAGE: u32 = 1000;

/// The service.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    settings: Settings,
}

impl Client {
    pub(crate) fn new(connection: &Connection) -> anyhow::Result<Self> {
        Self::with_settings(Settings::require(connection)?)
    }

    pub(crate) fn with_settings(settings: Settings) -> anyhow::Result<Self> {
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("fleetctl/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &settings.ca_pem {
            let certificates =
                reqwest::Certificate::from_pem_bundle(pem).context("the certificate authority is not PEM")?;
            if certificates.is_empty() {
                bail!("the certificate authority holds no PEM certificates");
            }
            builder = builder.tls_certs_only(certificates);
        }
        Ok(Self { http: builder.build().context("cannot make an HTTP client")?, settings })
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Url> {
        let mut url = self.settings.server.clone();
        let mut segments = url.path_segments_mut().map_err(|()| anyhow!("the server's URL cannot have a path"))?;
        segments.clear().extend(["api", "v1"]).extend(path);
        drop(segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// Asks for one object.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.send(Method::GET, path, query, None).await
    }

    /// All items of a list, page by page, at most `limit`; and whether there are more.
    pub(crate) async fn list(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        limit: Option<u32>,
    ) -> anyhow::Result<(Vec<Value>, bool)> {
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let left = limit.map_or(PAGE, |limit| limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX)));
            let size = left.min(PAGE).to_string();
            let mut query = query.to_vec();
            query.push(("limit", &size));
            if let Some(token) = &next {
                query.push(("continue", token));
            }
            let mut page = self.get(path, &query).await?;
            let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) else {
                bail!("the service's answer has no items");
            };
            let stuck = more.is_empty();
            items.extend(more);
            next = page.pointer("/metadata/continue").and_then(Value::as_str).map(str::to_owned);
            let full = limit.is_some_and(|limit| items.len() >= usize::try_from(limit).unwrap_or(usize::MAX));
            if next.is_none() || full || stuck {
                return Ok((items, next.is_some()));
            }
        }
    }

    /// Sends a request. A service that answers 503 is asked again, after the time that it names.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let url = self.url(path, query)?;
        let mut attempt = 1;
        loop {
            let mut request = self.http.request(method.clone(), url.clone());
            if let Some(token) = &self.settings.token {
                request = request.bearer_auth(token.expose());
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request
                .send()
                .await
                .with_context(|| format!("cannot reach the service at {}", self.settings.server))?;
            if response.status() == StatusCode::SERVICE_UNAVAILABLE && attempt < ATTEMPTS {
                tokio::time::sleep(pause(&response)).await;
                attempt += 1;
                continue;
            }
            return answer(response).await;
        }
    }
}

fn pause(response: &reqwest::Response) -> Duration {
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    asked.map_or(Duration::from_secs(1), Duration::from_secs).min(MAX_PAUSE)
}

async fn answer(mut response: reqwest::Response) -> anyhow::Result<Value> {
    let status = response.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.context("the service's answer was cut off")? {
        if bytes.len() + chunk.len() > MAX_BODY {
            bail!("the service's answer is larger than {} MiB", MAX_BODY >> 20);
        }
        bytes.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        return Err(refusal(status, &bytes));
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).context("the service's answer is not JSON")
}

fn refusal(status: StatusCode, bytes: &[u8]) -> anyhow::Error {
    let body: Option<fleet_model::StatusBody> = serde_json::from_slice(bytes).ok();
    let said = body.map_or_else(|| "no explanation".to_owned(), |body| body.message);
    let error = anyhow!("the service answered {}: {said}", status.as_u16());
    if status == StatusCode::UNAUTHORIZED {
        return error.context(
            "not logged in: give a token with --token-file or FLEETCTL_TOKEN (`fleetctl token` makes one on the service's machine)",
        );
    }
    error
}
