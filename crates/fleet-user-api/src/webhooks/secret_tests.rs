//! Signatures that the hosts' documentation gives as examples, and everything that is close to them.

use axum::http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

/// GitHub's and Atlassian's documentation use it for their examples.
const EXAMPLE: &str = "It's a Secret to Everybody";

fn proof(provider: WebhookProvider, secret: &str, header: Option<&str>) -> Proof {
    Proof::of(&Webhook {
        name: "h".to_owned(),
        provider,
        secret: WebhookSecret::new(secret.to_owned()).unwrap(),
        url_prefix: None,
        header: header.map(str::to_owned),
    })
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn examples_of_the_documentation_hold() {
    for (provider, header, body, digits) in [
        // docs.github.com, "Validating webhook deliveries": values to test with.
        (
            WebhookProvider::GitHub,
            "X-Hub-Signature-256",
            "Hello, World!",
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
        // support.atlassian.com, "Manage webhooks" of Bitbucket Cloud: values to test with.
        (
            WebhookProvider::Bitbucket,
            "X-Hub-Signature",
            "Hello World!",
            "a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
        ),
    ] {
        let proof = proof(provider, EXAMPLE, None);
        let signed = headers(&[(header, &format!("sha256={digits}"))]);
        assert!(proof.holds(&signed, body.as_bytes()), "{provider:?}");
        assert!(!proof.holds(&signed, format!("{body} ").as_bytes()), "another body");
        assert!(!proof.holds(&headers(&[(header, digits)]), body.as_bytes()), "without the name of the hash");
        assert!(!proof.holds(&headers(&[(header, &format!("sha1={digits}"))]), body.as_bytes()));
        assert!(!proof.holds(&HeaderMap::new(), body.as_bytes()));
    }
    // The libraries of standardwebhooks.com have it in their tests; GitLab signs that way when a hook has a signing token
    // (gitlab.com/gitlab-org/gitlab/-/merge_requests/230944).
    let gitlab = proof(WebhookProvider::GitLab, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None);
    let body = br#"{"test": 2432232314}"#;
    let with = |id: &str, at: &str, signature: &str| {
        headers(&[("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signature)])
    };
    let (id, at, signature) =
        ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert!(gitlab.holds(&with(id, at, signature), body));
    assert!(gitlab.holds(&with(id, at, &format!("v1,AAAA v2,x {signature}")), body), "one of several");
    assert!(!gitlab.holds(&with(id, "1614265331", signature), body), "another time");
    assert!(!gitlab.holds(&with("msg_other", at, signature), body));
    assert!(!gitlab.holds(&with(id, at, signature), b"{}"));
    assert!(!gitlab.holds(&with(id, at, ""), body));
    let token = headers(&[("x-gitlab-token", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]);
    assert!(!gitlab.holds(&token, body), "a signing token is never sent, so whoever sends it is somebody else");
}

#[test]
fn gitea_and_forgejo_sign_with_plain_digits() {
    let body = br#"{"ref":"refs/heads/main"}"#;
    let (secret, wrong) = ("0123456789abcdef-gitea", "0123456789abcdef-gite@");
    let good = signature(secret, body);
    let proof = proof(WebhookProvider::Gitea, secret, None);
    for header in ["X-Gitea-Signature", "X-Forgejo-Signature"] {
        assert!(proof.holds(&headers(&[(header, &good)]), body));
        assert!(proof.holds(&headers(&[(header, &good.to_uppercase())]), body));
        assert!(!proof.holds(&headers(&[(header, &signature(wrong, body))]), body));
    }
    let both = headers(&[("x-forgejo-signature", &signature(wrong, body)), ("x-gitea-signature", &good)]);
    assert!(!proof.holds(&both, body), "a good one does not make up for a bad one");
}

#[test]
fn tokens_and_passwords_are_compared_whole() {
    let secret = "a-token-of-some-length";
    let token = proof(WebhookProvider::GitLab, secret, None);
    let azure = proof(WebhookProvider::Azure, secret, Some("X-Fleet-Token"));
    let password = proof(WebhookProvider::Azure, secret, None);
    let basic = |pair: &str| headers(&[("authorization", &format!("Basic {}", STANDARD.encode(pair)))]);
    assert!(token.holds(&headers(&[("x-gitlab-token", secret)]), b"x"));
    assert!(azure.holds(&headers(&[("x-fleet-token", secret)]), b"x"));
    assert!(password.holds(&basic(&format!("anybody:{secret}")), b"x"));
    assert!(password.holds(&basic(&format!(":{secret}")), b"x"));
    for wrong in ["", "a-token-of-some-lengt", "a-token-of-some-lengthh", "A-token-of-some-length"] {
        assert!(!token.holds(&headers(&[("x-gitlab-token", wrong)]), b"x"), "{wrong}");
        assert!(!azure.holds(&headers(&[("x-fleet-token", wrong)]), b"x"), "{wrong}");
        assert!(!password.holds(&basic(&format!("anybody:{wrong}")), b"x"), "{wrong}");
    }
    for broken in ["Basic", "Basic ", "Basic !", &format!("Bearer {}", STANDARD.encode(format!("a:{secret}")))] {
        assert!(!password.holds(&headers(&[("authorization", broken)]), b"x"), "{broken}");
    }
    assert!(!password.holds(&basic(secret), b"x"), "a user name is no password");
}

#[test]
fn the_generic_kind_takes_any_header() {
    let secret = "0123456789abcdef0123456789abcdef";
    let good = signature(secret, b"{}");
    let named = proof(WebhookProvider::Generic, secret, Some("X-My-Signature"));
    assert!(named.holds(&headers(&[("x-my-signature", &good)]), b"{}"));
    assert!(named.holds(&headers(&[("x-my-signature", &format!("sha256={good}"))]), b"{}"));
    assert!(!named.holds(&headers(&[("x-shorebase-signature-256", &good)]), b"{}"));
    let plain = proof(WebhookProvider::Generic, secret, None);
    assert!(plain.holds(&headers(&[("x-shorebase-signature-256", &good)]), b"{}"));
}

#[test]
fn a_secret_that_can_be_guessed_is_refused_and_none_prints() {
    assert_eq!(WebhookSecret::new("secret".to_owned()).unwrap_err(), WebhookSecretError::Short);
    assert_eq!(WebhookSecret::new("whsec_not base64 at all".to_owned()).unwrap_err(), WebhookSecretError::SigningToken);
    assert_eq!(WebhookSecret::new("whsec_AAAAAAAAAAAA".to_owned()).unwrap_err(), WebhookSecretError::SigningToken);
    let hook = Webhook {
        name: "h".to_owned(),
        provider: WebhookProvider::GitHub,
        secret: WebhookSecret::new("geheim-geheim-geheim".to_owned()).unwrap(),
        url_prefix: None,
        header: None,
    };
    let shown = format!("{hook:?} {:?}", Proof::of(&hook));
    assert!(!shown.contains("geheim"), "{shown}");
}

proptest! {
    #[test]
    fn only_the_signature_of_the_body_holds(body in any::<Vec<u8>>(), given in "[ -~]{0,80}", flip in 0_usize..64) {
        let secret = "0123456789abcdef0123456789abcdef";
        let good = signature(secret, &body);
        let mut tampered = good.clone().into_bytes();
        tampered[flip] = if tampered[flip] == b'0' { b'1' } else { b'0' };
        let tampered = String::from_utf8(tampered).unwrap();
        for (provider, header) in [
            (WebhookProvider::GitHub, "x-hub-signature-256"),
            (WebhookProvider::Gitea, "x-gitea-signature"),
            (WebhookProvider::GitLab, "x-gitlab-token"),
            (WebhookProvider::Bitbucket, "x-hub-signature"),
            (WebhookProvider::Azure, "authorization"),
            (WebhookProvider::Generic, "x-shorebase-signature-256"),
        ] {
            let proof = proof(provider, secret, None);
            prop_assert!(!proof.holds(&headers(&[(header, &given)]), &body) || given.contains(secret));
            let changed = headers(&[(header, &format!("sha256={tampered}"))]);
            prop_assert!(!proof.holds(&changed, &body));
        }
        let proof = proof(WebhookProvider::GitHub, secret, None);
        let signed = headers(&[("x-hub-signature-256", &format!("sha256={good}"))]);
        prop_assert!(proof.holds(&signed, &body));
    }
}
