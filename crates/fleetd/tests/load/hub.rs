//! A Git host's webhooks, as GitHub sends them.

use std::time::{Duration, Instant};

use fleet_pki::tls::{TlsTime, client_config};

/// The secret that host and service share.
pub(crate) const SECRET: &str = "a webhook secret of some length";

/// Sends webhooks to a service.
pub(crate) struct Hub {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    url: String,
}

impl Hub {
    /// For the service at `user_url` whose certificate `ca_pem` signed.
    pub(crate) fn new(user_url: &str, ca_pem: &str) -> Self {
        let tls = client_config(ca_pem, None, &TlsTime::system()).expect("the service's authority");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
            builder.timeout(Duration::from_secs(10)).build().expect("a client")
        });
        Self { runtime, client, url: format!("{user_url}/api/v1/webhooks/hub") }
    }

    /// Says that `main` of a repository moved. Returns the status, and how long the answer took.
    pub(crate) fn announce(&self, repository: &str) -> (u16, Duration) {
        let body = format!(r#"{{"ref": "refs/heads/main", "repository": {{"clone_url": "{repository}"}}}}"#);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, body.as_bytes());
        let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let started = Instant::now();
        self.runtime.block_on(async {
            let request = self
                .client
                .post(&self.url)
                .header("x-github-event", "push")
                .header("x-hub-signature-256", format!("sha256={digits}"))
                .header("content-type", "application/json");
            let answer = request.body(body).send().await.expect("the service answers");
            (answer.status().as_u16(), started.elapsed())
        })
    }
}

/// A fleet of a site of its own.
pub(crate) fn fleet(number: usize, word: &str) -> String {
    format!(
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata: {{name: fleet-{number}}}\nspec:\n  selector:\n    \
         matchLabels: {{site: s{number}}}\n  template:\n    spec:\n      os: {{image: \"quay.io/acme/os:1.2.3\"}}\n      \
         config:\n        - name: motd\n          inline:\n            - {{path: /etc/motd, content: \"{word}\\n\"}}\n"
    )
}
