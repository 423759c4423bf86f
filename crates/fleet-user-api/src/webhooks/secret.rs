//! Hooks as they are configured, and whether a request comes from who knows the secret. Every comparison takes the same
//! time wherever the difference is.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The fewest bytes a secret may have.
const MIN_SECRET: usize = 16;
/// How signing tokens of the Standard Webhooks kind begin; GitLab makes such.
const SIGNING_TOKEN: &str = "whsec_";
/// Where the generic kind has its signature when the configuration names no header.
const GENERIC_HEADER: &str = "x-shorebase-signature-256";

/// The kind of a Git host, which decides how its requests prove where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookProvider {
    /// GitHub: `X-Hub-Signature-256`.
    GitHub,
    /// Gitea and Forgejo: `X-Forgejo-Signature` or `X-Gitea-Signature`.
    Gitea,
    /// GitLab: `X-Gitlab-Token`, or `webhook-signature` when the secret is a signing token.
    GitLab,
    /// Bitbucket, Cloud and Data Center: `X-Hub-Signature`.
    Bitbucket,
    /// Azure DevOps: the password of HTTP basic authentication, or the secret in a header of one's choice.
    Azure,
    /// Anything else: an HMAC-SHA256 in hexadecimal digits in a header of one's choice.
    Generic,
}

/// There is no such kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of github, gitea, gitlab, bitbucket, azure, generic")]
pub struct UnknownWebhookProvider;

impl FromStr for WebhookProvider {
    type Err = UnknownWebhookProvider;

    fn from_str(text: &str) -> Result<Self, UnknownWebhookProvider> {
        match text {
            "github" => Ok(Self::GitHub),
            "gitea" => Ok(Self::Gitea),
            "gitlab" => Ok(Self::GitLab),
            "bitbucket" => Ok(Self::Bitbucket),
            "azure" => Ok(Self::Azure),
            "generic" => Ok(Self::Generic),
            _ => Err(UnknownWebhookProvider),
        }
    }
}

/// A hook's secret. It does not print.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<String>);

/// A secret that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookSecretError {
    /// It can be guessed.
    #[error("the secret is shorter than {MIN_SECRET} bytes; make one with: openssl rand -hex 32")]
    Short,
    /// It begins as a signing token and goes on as none.
    #[error("the secret begins with {SIGNING_TOKEN}, but what follows is no base64 of at least {MIN_SECRET} bytes")]
    SigningToken,
}

impl WebhookSecret {
    /// Takes a secret of 16 bytes or more.
    ///
    /// # Errors
    /// When it is shorter, or a broken signing token.
    pub fn new(text: String) -> Result<Self, WebhookSecretError> {
        let secret = Self(Zeroizing::new(text));
        if secret.0.len() < MIN_SECRET {
            return Err(WebhookSecretError::Short);
        }
        match secret.0.strip_prefix(SIGNING_TOKEN).map(|encoded| STANDARD.decode(encoded)) {
            None => Ok(secret),
            Some(Ok(key)) if key.len() >= MIN_SECRET => Ok(secret),
            Some(Ok(_) | Err(_)) => Err(WebhookSecretError::SigningToken),
        }
    }

    /// The key of Standard Webhooks, when it is such a token.
    fn signing_key(&self) -> Option<hmac::Key> {
        let encoded = self.0.strip_prefix(SIGNING_TOKEN)?;
        let key = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        Some(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// A hook: who may say that repositories changed, and which sources that may concern.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The last part of its URL.
    pub name: String,
    /// Who sends.
    pub provider: WebhookProvider,
    /// What only the sender knows.
    pub secret: WebhookSecret,
    /// Only sources whose URL begins with this are woken; all when absent.
    pub url_prefix: Option<String>,
    /// For [`WebhookProvider::Azure`] and [`WebhookProvider::Generic`]: the header to look at.
    pub header: Option<String>,
}

/// How a hook's requests prove where they come from, ready to be used.
#[derive(Debug)]
pub(crate) enum Proof {
    /// An HMAC-SHA256 of the body in hexadecimal digits, in the first of these headers that is there.
    Hmac { key: hmac::Key, headers: Vec<String>, prefix_required: bool },
    /// Standard Webhooks: an HMAC-SHA256 of id, time and body, in base64.
    Standard { key: hmac::Key },
    /// The secret itself in a header.
    Token { secret: Blinded, header: String },
    /// The secret as the password of HTTP basic authentication; the user name may be any.
    Password { secret: Blinded },
}

impl Proof {
    /// What a request to a hook that there is not is held against; nobody looks at what comes out.
    pub(crate) fn of_nobody() -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"nobody");
        Self::Hmac { key, headers: vec!["x-hub-signature-256".to_owned()], prefix_required: true }
    }

    pub(crate) fn of(hook: &Webhook) -> Self {
        let hmac = |headers: &[&str], prefix_required| Self::Hmac {
            key: hmac::Key::new(hmac::HMAC_SHA256, hook.secret.0.as_bytes()),
            headers: headers.iter().map(|name| (*name).to_owned()).collect(),
            prefix_required,
        };
        let secret = || Blinded::new(hook.secret.0.as_bytes());
        match hook.provider {
            WebhookProvider::GitHub => hmac(&["x-hub-signature-256"], true),
            WebhookProvider::Gitea => hmac(&["x-forgejo-signature", "x-gitea-signature"], false),
            WebhookProvider::Bitbucket => hmac(&["x-hub-signature"], true),
            WebhookProvider::Generic => hmac(&[hook.header.as_deref().unwrap_or(GENERIC_HEADER)], false),
            WebhookProvider::GitLab => match hook.secret.signing_key() {
                Some(key) => Self::Standard { key },
                None => Self::Token { secret: secret(), header: "x-gitlab-token".to_owned() },
            },
            WebhookProvider::Azure => match &hook.header {
                Some(header) => Self::Token { secret: secret(), header: header.clone() },
                None => Self::Password { secret: secret() },
            },
        }
    }

    /// Whether the request proves it. A request that was sent before proves it again: what it says is only a hint.
    pub(crate) fn holds(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match self {
            Self::Hmac { key, headers: names, prefix_required } => {
                let given = names.iter().find_map(|name| header(name)).unwrap_or_default();
                let digits = match given.strip_prefix("sha256=") {
                    None if *prefix_required => "",
                    None => given,
                    Some(digits) => digits,
                };
                // Hashed also without a signature, so that the time tells nothing.
                hmac::verify(key, body, &hex(digits)).is_ok()
            }
            Self::Standard { key } => {
                let mut signed = hmac::Context::with_key(key);
                for part in ["webhook-id", "webhook-timestamp"] {
                    signed.update(header(part).unwrap_or_default().as_bytes());
                    signed.update(b".");
                }
                signed.update(body);
                let tag = signed.sign();
                let given = header("webhook-signature").unwrap_or_default();
                let signatures = given.split(' ').take(16).filter_map(|one| one.strip_prefix("v1,"));
                signatures
                    .filter_map(|one| STANDARD.decode(one).ok())
                    .any(|one| aws_lc_rs::constant_time::verify_slices_are_equal(tag.as_ref(), &one).is_ok())
            }
            Self::Token { secret, header: name } => secret.is(header(name).unwrap_or_default().as_bytes(), body),
            Self::Password { secret } => {
                let given = header(AUTHORIZATION.as_str()).unwrap_or_default();
                let encoded = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
                let pair = encoded.and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok()).unwrap_or_default();
                let password = pair.iter().position(|byte| *byte == b':').map_or(&[][..], |at| &pair[at + 1..]);
                secret.is(password, body)
            }
        }
    }
}

/// A secret that others are compared with, without a way to tell its length or bytes from the time that takes.
#[derive(Debug)]
pub(crate) struct Blinded {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Blinded {
    fn new(secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, secret);
        Self { key, tag }
    }

    fn is(&self, given: &[u8], body: &[u8]) -> bool {
        // Takes as long as it does where bodies are signed: whether there is such a hook cannot be told from that.
        std::hint::black_box(hmac::sign(&self.key, body));
        hmac::verify(&self.key, given, self.tag.as_ref()).is_ok()
    }
}

/// The bytes of hexadecimal digits; none when they are not.
fn hex(digits: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    bytes.filter(|_| rest.is_empty()).unwrap_or_default()
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
