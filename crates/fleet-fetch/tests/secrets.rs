//! Secrets from directories, as Kubernetes mounts them, and from an API server.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet_fetch::{
    ApiServer, FetchError, FetchErrorKind, FilesSecrets, KubernetesSecrets, MAX_SECRET_BYTES, SecretBytes,
    SecretProvider, read_secret_directory,
};
use fleet_test::file_server::FileServer;

fn text(secret: &SecretBytes) -> &str {
    std::str::from_utf8(secret.expose()).unwrap()
}

/// Brings a version of a mounted secret as the kubelet does: a new directory, and `..data` switched to it by a rename.
fn mount(secret: &Path, version: u32, keys: &[(&str, String)]) {
    fs::create_dir_all(secret).unwrap();
    let old = fs::read_link(secret.join("..data")).ok();
    let directory = format!("..v{version}");
    fs::create_dir(secret.join(&directory)).unwrap();
    for (key, value) in keys {
        fs::write(secret.join(&directory).join(key), value).unwrap();
        if !secret.join(key).is_symlink() {
            symlink(format!("..data/{key}"), secret.join(key)).unwrap();
        }
    }
    symlink(&directory, secret.join("..data_tmp")).unwrap();
    fs::rename(secret.join("..data_tmp"), secret.join("..data")).unwrap();
    if let Some(old) = old {
        fs::remove_dir_all(secret.join(old)).unwrap();
    }
}

async fn read(directory: &Path, namespace: &str, name: &str) -> Result<Vec<(String, String)>, FetchError> {
    let provider = SecretProvider::Files(FilesSecrets::new(directory));
    let secret = provider.read(namespace, name).await?;
    assert!(!format!("{secret:?}").contains("hunter"));
    Ok(secret.iter().map(|(key, value)| (key.clone(), text(value).to_owned())).collect())
}

async fn kind(directory: &Path, namespace: &str, name: &str) -> FetchErrorKind {
    let error = read(directory, namespace, name).await.unwrap_err();
    assert!(!error.message.contains("hunter"), "{error}");
    error.kind
}

#[tokio::test]
async fn plain_files_and_mounted_volumes_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("shop/db");
    fs::create_dir_all(&secret).unwrap();
    assert_eq!(read(directory.path(), "shop", "db").await.unwrap(), []);
    fs::write(secret.join("password"), "hunter2\n").unwrap();
    fs::write(secret.join(".hidden"), "hunter3").unwrap();
    let expected = [(".hidden", "hunter3"), ("password", "hunter2\n")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(read(directory.path(), "shop", "db").await.unwrap(), expected);
    let mounted = directory.path().join("shop/web.tls");
    mount(&mounted, 1, &[("tls.key", "hunter1".to_owned())]);
    assert_eq!(read(directory.path(), "shop", "web.tls").await.unwrap()[0].1, "hunter1");
    mount(&mounted, 2, &[("tls.key", "hunter2".to_owned())]);
    assert_eq!(read(directory.path(), "shop", "web.tls").await.unwrap()[0].1, "hunter2");
    assert_eq!(text(&read_secret_directory(&mounted).unwrap()["tls.key"]), "hunter2");
}

#[tokio::test]
async fn nothing_outside_of_the_directory_is_read() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(outside.path().join("db/..v1")).unwrap();
    fs::write(outside.path().join("db/password"), "hunter2").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["a", "b", "c", "d", "e"] {
        fs::create_dir_all(root.join("shop").join(name)).unwrap();
    }
    symlink(outside.path(), root.join("linked")).unwrap();
    symlink(outside.path().join("db"), root.join("shop/db")).unwrap();
    symlink(outside.path().join("db/password"), root.join("shop/a/password")).unwrap();
    symlink(outside.path().join("db"), root.join("shop/b/..data")).unwrap();
    symlink("..", root.join("shop/c/..data")).unwrap();
    symlink(outside.path(), root.join("shop/d/..v")).unwrap();
    symlink("..v", root.join("shop/d/..data")).unwrap();
    fs::create_dir(root.join("shop/e/..data")).unwrap();
    assert_eq!(kind(root, "linked", "db").await, FetchErrorKind::Invalid);
    for name in ["db", "a", "b", "c", "d", "e"] {
        assert_eq!(kind(root, "shop", name).await, FetchErrorKind::Invalid, "{name}");
    }
    for (namespace, name) in
        [("..", "shop"), ("shop", ".."), ("shop", "../shop"), ("", "a"), ("shop", "/etc"), ("shop", "a\0")]
    {
        assert_eq!(kind(root, namespace, name).await, FetchErrorKind::Invalid, "{namespace:?} {name:?}");
    }
    assert_eq!(kind(root, "shop", "none").await, FetchErrorKind::NotFound);
    assert_eq!(kind(&root.join("none"), "shop", "a").await, FetchErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_no_file_or_too_large_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let secret = |name: &str| {
        let path = directory.path().join("shop").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    fs::create_dir(secret("nested").join("inner")).unwrap();
    assert_eq!(kind(directory.path(), "shop", "nested").await, FetchErrorKind::Invalid);
    let pipe = std::process::Command::new("mkfifo").arg(secret("pipe").join("key")).status();
    assert!(pipe.unwrap().success());
    assert_eq!(kind(directory.path(), "shop", "pipe").await, FetchErrorKind::Invalid);
    fs::write(secret("named").join("a b"), "hunter2").unwrap();
    assert_eq!(kind(directory.path(), "shop", "named").await, FetchErrorKind::Invalid);
    fs::write(secret("large").join("a"), vec![b'x'; MAX_SECRET_BYTES / 2]).unwrap();
    fs::write(secret("large").join("b"), vec![b'x'; MAX_SECRET_BYTES / 2]).unwrap();
    assert_eq!(read(directory.path(), "shop", "large").await.unwrap().len(), 2);
    fs::write(secret("large").join("c"), "x").unwrap();
    assert_eq!(kind(directory.path(), "shop", "large").await, FetchErrorKind::TooLarge);
    fs::write(directory.path().join("shop/flat"), "hunter2").unwrap();
    assert_eq!(kind(directory.path(), "shop", "flat").await, FetchErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_during_a_switch_gives_one_version() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("shop/db");
    let keys = |version: u32| ["a", "b", "c"].map(|key| (key, version.to_string()));
    mount(&secret, 0, &keys(0));
    let (done, met) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (done, met) = (Arc::clone(&done), Arc::clone(&met));
        std::thread::spawn(move || {
            for version in 1..400 {
                mount(&secret, version, &keys(version));
                // A reader that is too slow for all this is waited for once.
                while version == 200 && !met.load(Ordering::SeqCst) {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    let (mut versions, mut reads) = (std::collections::BTreeSet::new(), 0);
    while !done.load(Ordering::SeqCst) || reads == 0 {
        let found = match read(directory.path(), "shop", "db").await {
            Ok(found) => found,
            // Hundreds of versions each second are not what a reader has to keep up with; half a version is what may not be.
            Err(error) if error.message.contains("changes all the time") => continue,
            Err(error) => panic!("{error}"),
        };
        let values: std::collections::BTreeSet<&str> = found.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!((found.len(), values.len()), (3, 1), "{found:?}");
        versions.insert(found[0].1.clone());
        met.store(true, Ordering::SeqCst);
        reads += 1;
    }
    writer.join().unwrap();
    versions.extend([read(directory.path(), "shop", "db").await.unwrap()[0].1.clone()]);
    assert!(versions.len() > 1, "no switch was met in {reads} reads");
    assert!(versions.contains("399"), "{versions:?}");
}

/// No cluster runs here: nginx gives the answers that the Kubernetes API documents for `GET …/secrets/{name}`.
const API: &str = r#"
    default_type application/json;
    if ($http_authorization !~ "^Bearer (first|second)$") {
      return 401 '{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}';
    }
    location = /api/v1/namespaces/shop/secrets/db {
      return 200 '{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db","namespace":"shop","resourceVersion":"7"},"data":{"password":"aHVudGVyMg=="},"type":"Opaque"}';
    }
    location = /api/v1/namespaces/shop/secrets/renewed {
      if ($http_authorization != "Bearer second") { return 401 '{}'; }
      return 200 '{"kind":"Secret","apiVersion":"v1","metadata":{"name":"renewed","namespace":"shop"}}';
    }
    location = /api/v1/namespaces/shop/secrets/other {
      return 200 '{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db","namespace":"shop"},"data":{}}';
    }
    location = /api/v1/namespaces/shop/secrets/elsewhere { return 302 https://localhost/; }
    location /api/v1/namespaces/kube-system/ {
      return 403 '{"kind":"Status","apiVersion":"v1","status":"Failure","message":"secrets is forbidden: User \\"system:serviceaccount:shorebase:fleetd\\" cannot get resource","reason":"Forbidden","code":403}';
    }
    location / {
      return 404 '{"kind":"Status","apiVersion":"v1","status":"Failure","message":"secrets not found","reason":"NotFound","code":404}';
    }
"#;

#[tokio::test]
async fn the_api_of_a_cluster_is_read_with_the_account_of_the_pod() {
    let server = FileServer::start(API).unwrap();
    let account = tempfile::tempdir().unwrap();
    let (token, ca) = (account.path().join("token"), account.path().join("ca.crt"));
    let url = server.https_url("").trim_end_matches('/').to_owned();
    let cluster = KubernetesSecrets::new(ApiServer { url, token_file: token.clone(), ca_file: ca.clone() });
    let provider = SecretProvider::Kubernetes(cluster);
    let missing = provider.read("shop", "db").await.unwrap_err();
    assert!(missing.message.contains("automountServiceAccountToken"), "{missing}");
    fs::write(&token, "first\n").unwrap();
    fs::write(&ca, server.ca_pem()).unwrap();
    let secret = provider.read("shop", "db").await.unwrap();
    assert_eq!(text(&secret["password"]), "hunter2");
    let error = async |namespace: &str, name: &str| provider.read(namespace, name).await.unwrap_err();
    let forbidden = error("kube-system", "x").await;
    assert_eq!(forbidden.kind, FetchErrorKind::Denied);
    for words in
        ["a Role in the namespace kube-system", "verb get", "secrets", "system:serviceaccount:shorebase:fleetd"]
    {
        assert!(forbidden.message.contains(words), "{forbidden}");
    }
    assert_eq!(error("shop", "none").await.kind, FetchErrorKind::NotFound);
    assert_eq!(error("shop", "other").await.kind, FetchErrorKind::Invalid);
    assert_eq!(error("shop", "elsewhere").await.kind, FetchErrorKind::Invalid);
    assert_eq!(error("shop", "../../pods").await.kind, FetchErrorKind::Invalid);
    // The cluster replaces the token; the next use takes the new one.
    assert_eq!(error("shop", "renewed").await.kind, FetchErrorKind::Denied);
    fs::write(&token, "second").unwrap();
    assert!(provider.read("shop", "renewed").await.unwrap().is_empty());
    fs::write(&token, "hunter2").unwrap();
    let unauthorized = error("shop", "db").await;
    assert_eq!(unauthorized.kind, FetchErrorKind::Denied);
    assert!(!unauthorized.message.contains("hunter2"), "{unauthorized}");
    // And the CA.
    fs::write(&ca, FileServer::start("").unwrap().ca_pem()).unwrap();
    assert_eq!(error("shop", "db").await.kind, FetchErrorKind::Unreachable);
}
