//! Claims about rendered documents.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tree_digest;

mod applications;

fn spec(value: Value) -> DeviceSpec {
    serde_json::from_value(value).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn tree(files: &[(&str, &[u8])]) -> PinnedTree {
    let file = |(path, content): &(&str, &[u8])| PinnedFile {
        path: (*path).to_owned(),
        mode: if content.starts_with(b"#!") { 0o755 } else { 0o644 },
        content: Arc::from(*content),
        seal: None,
    };
    PinnedTree::new(files.iter().map(file).collect()).unwrap()
}

/// As the service does it, with a key of its own.
fn sealed(files: &[(&str, &[u8])], key: &str) -> PinnedTree {
    let open = tree(files);
    let seal = |content: &[u8]| Some(Seal::new(*Digest::of(&[key.as_bytes(), content].concat()).as_bytes()));
    let file = |file: &PinnedFile| PinnedFile { seal: seal(&file.content), ..file.clone() };
    PinnedTree::new(open.files().iter().map(file).collect()).unwrap()
}

fn pinned(files: &[(&str, &[u8])]) -> PinnedInputs {
    PinnedInputs::from_iter([("git".to_owned(), tree(files))])
}

fn inline(files: Value) -> DeviceSpec {
    spec(json!({"config": [{"name": "inline", "inline": files}]}))
}

fn git(path: &str) -> DeviceSpec {
    spec(json!({"config": [{"name": "git", "gitRef": {"repository": ".", "path": path}}]}))
}

fn render(prepared: &Prepared, pairs: &[(&str, &str)]) -> Result<String, RenderError> {
    let rendered = prepared.render(&Subject { name: "dev1", labels: &labels(pairs) })?;
    assert_eq!(rendered.digest, Digest::of(&rendered.body));
    let text = String::from_utf8(rendered.body).unwrap();
    serde_json::from_str::<DeviceSpec>(&text).expect("a document is a specification");
    Ok(text)
}

/// Path and decoded content of each file in a document.
fn files(document: &str) -> Vec<(String, Vec<u8>)> {
    use base64::Engine as _;
    let document: Value = serde_json::from_str(document).unwrap();
    let Some(files) = document["config"][0]["inline"].as_array() else { return Vec::new() };
    let decode = |file: &Value| {
        let content = file["content"].as_str().unwrap();
        let content = match file["contentEncoding"].as_str().unwrap() {
            "base64" => base64::engine::general_purpose::STANDARD.decode(content).unwrap(),
            _ => content.as_bytes().to_vec(),
        };
        (file["path"].as_str().unwrap().to_owned(), content)
    };
    files.iter().map(decode).collect()
}

fn paths(document: &str) -> Vec<String> {
    files(document).into_iter().map(|(path, _)| path).collect()
}

#[track_caller]
fn refuses(template: &DeviceSpec, pins: PinnedInputs, part: &str) {
    let error = Prepared::new(template, pins).expect_err(part).to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn a_document_is_this_text() {
    let template = spec(json!({
        "os": {"image": "quay.io/acme/os:latest-{{ .metadata.labels.stage }}"},
        "systemd": {"matchPatterns": ["chronyd.service"]},
        "applications": [{"name": "web", "image": "quay.io/acme/web:1", "appType": "container"}],
        "updatePolicy": {"updateSchedule": {"timeZone": "Local", "at": "0 3 * * *", "startGraceDuration": "1h"}},
        "config": [
            {"name": "base", "gitRef": {"repository": ".", "path": "/sites/{{ .metadata.labels.site }}"}},
            {"name": "motd", "inline": [
                {"path": "/etc/motd", "content": "Welcome to {{ upper .metadata.name }}\n"},
                {"path": "/etc/key", "content": "/+8=", "contentEncoding": "base64", "mode": 0o600, "user": "svc", "group": "1000"}
            ]}
        ]
    }));
    let pins = PinnedInputs::from_iter([(
        "base".to_owned(),
        tree(&[("sites/berlin/usr/bin/run", b"#!/bin/sh\n"), ("sites/berlin/etc/site", b"BER"), ("sites/rome/x", b"")]),
    )]);
    let prepared = Prepared::new(&template, pins).unwrap();
    insta::assert_snapshot!(render(&prepared, &[("stage", "prod"), ("site", "berlin")]).unwrap(), @r###"{"applications":[{"appType":"container","image":"quay.io/acme/web:1","name":"web"}],"config":[{"inline":[{"content":"/+8=","contentEncoding":"base64","group":"1000","mode":384,"path":"/etc/key","user":"svc"},{"content":"Welcome to DEV1\n","contentEncoding":"plain","group":"root","mode":420,"path":"/etc/motd","user":"root"},{"content":"BER","contentEncoding":"plain","group":"root","mode":420,"path":"/etc/site","user":"root"},{"content":"#!/bin/sh\n","contentEncoding":"plain","group":"root","mode":493,"path":"/usr/bin/run","user":"root"}],"name":""}],"os":{"image":"quay.io/acme/os:latest-prod"},"systemd":{"matchPatterns":["chronyd.service"]},"updatePolicy":{"updateSchedule":{"at":"0 3 * * *","startGraceDuration":"1h","timeZone":"Local"}}}"###);
}

#[test]
fn an_empty_specification_has_an_empty_list_of_providers() {
    for empty in [json!({}), json!({"config": []}), json!({"config": [{"name": "a", "inline": []}]})] {
        assert_eq!(
            render(&Prepared::new(&spec(empty), PinnedInputs::new()).unwrap(), &[]).unwrap(),
            r#"{"config":[]}"#
        );
    }
}

#[test]
fn the_later_provider_wins() {
    let template = spec(json!({"config": [
        {"name": "one", "inline": [{"path": "/etc/a", "content": "1"}, {"path": "/etc/b", "content": "1"}]},
        {"name": "git", "gitRef": {"repository": ".", "path": "d"}},
        {"name": "two", "inline": [{"path": "/etc/{{ .metadata.labels.file }}", "content": "2"}]}
    ]}));
    let prepared = Prepared::new(&template, pinned(&[("d/etc/b", b"git"), ("d/etc/c", b"git")])).unwrap();
    let expect = |file: &str, expected: [(&str, &str); 3]| {
        let expected = expected.map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec()));
        assert_eq!(files(&render(&prepared, &[("file", file)]).unwrap()), expected, "{file}");
    };
    expect("a", [("/etc/a", "2"), ("/etc/b", "git"), ("/etc/c", "git")]);
    expect("b", [("/etc/a", "1"), ("/etc/b", "2"), ("/etc/c", "git")]);
    expect("c", [("/etc/a", "1"), ("/etc/b", "git"), ("/etc/c", "2")]);
}

#[test]
fn base64_contents_survive_with_plus_slash_and_padding() {
    let file = |content: &str| inline(json!([{"path": "/f", "content": content, "contentEncoding": "base64"}]));
    let out =
        |content: &str| render(&Prepared::new(&file(content), PinnedInputs::new()).unwrap(), &[("a", "x")]).unwrap();
    assert_eq!(files(&out("+/8="))[0].1, [0xfb, 0xff]);
    assert!(out("+/8=").contains(r#""content":"+/8=","contentEncoding":"base64""#));
    assert!(out("+/\n8=\r\n").contains(r#""content":"+/8=""#));
    // Text is evaluated after decoding and written as text: "hi {{ .metadata.labels.a }}?".
    assert!(out("aGkge3sgLm1ldGFkYXRhLmxhYmVscy5hIH19Pw==").contains(r#""content":"hi x?","contentEncoding":"plain""#));
    // A NUL byte.
    assert!(out("AA==").contains(r#""content":"AA==","contentEncoding":"base64""#));
    for bad in ["+/8", "-_8=", "a", "+/9="] {
        refuses(&file(bad), PinnedInputs::new(), "not base64");
    }
}

#[test]
fn a_file_or_directory_of_git_is_laid_over_the_root() {
    let pins = || pinned(&[("d/etc/motd", b"m"), ("d/bin/x", b"#!"), ("other", b"")]);
    let document = |path: &str| render(&Prepared::new(&git(path), pins()).unwrap(), &[("f", "motd")]).unwrap();
    assert_eq!(paths(&document("/d/")), ["/bin/x", "/etc/motd"]);
    assert_eq!(paths(&document("d/etc/motd")), ["/motd"]);
    assert_eq!(paths(&document("./d/etc/{{ .metadata.labels.f }}")), ["/motd"]);
    assert_eq!(paths(&document("/")).len(), 3);
    assert!(document("d").contains(r#""mode":493,"path":"/bin/x""#));
}

#[test]
fn contents_from_git_are_never_evaluated() {
    let prepared = Prepared::new(&git("d"), pinned(&[("d/x", b"{{ nonsense")])).unwrap();
    assert_eq!(files(&render(&prepared, &[]).unwrap())[0].1, b"{{ nonsense");
}

#[test]
fn a_path_that_selects_nothing_is_named() {
    let pins = || pinned(&[("sites/berlin/etc/x", b"")]);
    refuses(&git("sites/rome"), pins(), "path \"sites/rome\" selects no file");
    let prepared = Prepared::new(&git("sites/{{ .metadata.labels.site }}"), pins()).unwrap();
    let error = render(&prepared, &[("site", "rome")]).unwrap_err();
    assert_eq!(*error.problem, Problem::SelectsNothing { path: "sites/rome".to_owned() });
    assert_eq!(error.place.to_string(), "config provider \"git\" (/config/0/gitRef/path)");
    // Part of a name is not a directory.
    assert!(render(&prepared, &[("site", "ber")]).is_err());
    // All sites laid over one device would be worse than no document.
    let error = render(&prepared, &[("site", "")]).unwrap_err();
    assert!(matches!(*error.problem, Problem::EmptyPart { .. }), "{error}");
}

#[test]
fn a_placeholder_cannot_lead_outside_the_pinned_prefix() {
    let pins = pinned(&[("sites/berlin/x", b""), ("secret/y", b"")]);
    let prepared = Prepared::new(&git("sites/{{ .metadata.labels.site }}"), pins).unwrap();
    for site in ["..", "../secret", "berlin/../../secret", "berlin/..", "/../secret"] {
        let error = render(&prepared, &[("site", site)]).unwrap_err();
        assert!(matches!(*error.problem, Problem::Path(_) | Problem::EmptyPart { .. }), "{site}: {error}");
    }
    refuses(&git("../x"), pinned(&[]), "'..'");
    refuses(&git("a/../{{ .metadata.name }}"), pinned(&[]), "'..'");
}

#[test]
fn paths_are_checked_again_after_substitution() {
    let prepared =
        Prepared::new(&inline(json!([{"path": "/{{ .metadata.labels.p }}", "content": ""}])), PinnedInputs::new())
            .unwrap();
    assert!(render(&prepared, &[("p", "etc/x")]).is_ok());
    for bad in ["../etc/x", "var/lib/flightctl/x", "etc/fleet-agent/certs", "a:b", "", "a//b", "a\nb"] {
        let error = render(&prepared, &[("p", bad)]).unwrap_err();
        assert_eq!(error.place.pointer, "/config/0/inline/0/path", "{bad}");
        assert!(matches!(*error.problem, Problem::Path(_)), "{bad}: {error}");
    }
}

#[test]
fn an_image_is_checked_after_substitution() {
    let template = spec(json!({"os": {"image": "q.io/os:{{ .metadata.labels.tag }}"}}));
    let prepared = Prepared::new(&template, PinnedInputs::new()).unwrap();
    assert_eq!(render(&prepared, &[("tag", "1")]).unwrap(), r#"{"config":[],"os":{"image":"q.io/os:1"}}"#);
    assert_eq!(render(&prepared, &[("tag", "")]).unwrap_err().place.pointer, "/os/image");
}

#[test]
fn a_file_that_is_also_a_directory_is_refused() {
    let template = inline(json!([
        {"path": "/etc/a", "content": ""}, {"path": "/etc/a-b", "content": ""}, {"path": "/etc/a/b", "content": ""}
    ]));
    refuses(&template, PinnedInputs::new(), "/etc/a/b needs /etc/a to be a directory");
    let template = inline(json!([{"path": "/etc/a", "content": ""}, {"path": "/etc/ab/c", "content": ""}]));
    assert!(Prepared::new(&template, PinnedInputs::new()).is_ok());
}

#[test]
fn what_no_device_could_have_is_refused_at_once() {
    let file = |extra: Value| {
        let mut file = json!({"path": "/a", "content": ""});
        file.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        inline(json!([file]))
    };
    let none = PinnedInputs::new;
    refuses(&file(json!({"path": "/var/lib/flightctl/x"})), none(), "belongs to the device's agent");
    refuses(&file(json!({"mode": 0o10000})), none(), "mode 4096");
    refuses(&file(json!({"user": "a b"})), none(), "owner");
    refuses(&file(json!({"group": "65535"})), none(), "/config/0/inline/0/group");
    refuses(&file(json!({"content": "{{ range . }}"})), none(), "`range` is not supported");
    refuses(&file(json!({"content": "x".repeat(MAX_INLINE_BYTES + 1)})), none(), "at most 1048576");
    refuses(&git("x"), none(), "not pinned");
    for (kind, value) in [
        ("httpRef", json!({"repository": "r", "filePath": "/a"})),
        ("secretRef", json!({"name": "s", "namespace": "n", "mountPath": "/a"})),
    ] {
        refuses(
            &spec(json!({"config": [{"name": "p", kind: value}]})),
            none(),
            "the files of the provider are not pinned",
        );
    }
    let revision = json!({"repository": "apps", "path": "x", "targetRevision": "{{ range . }}"});
    let unparsable = spec(json!({"config": [{"name": "git", "gitRef": revision}]}));
    refuses(&unparsable, pinned(&[]), "(/config/0/gitRef/targetRevision): placeholder at byte");
    let twice = json!({"config": [{"name": "p", "inline": []}, {"name": "p", "inline": []}]});
    refuses(&spec(twice), none(), "same name");
}

#[test]
fn a_stand_alone_specification_has_no_placeholders() {
    let template = inline(json!([{"path": "/a", "content": "{{ .metadata.labels.no }}"}]));
    let prepared = Prepared::stand_alone(&template, PinnedInputs::new()).unwrap();
    assert_eq!(files(&render(&prepared, &[]).unwrap())[0].1, b"{{ .metadata.labels.no }}");
    assert!(prepared.inputs().is_empty());
}

#[test]
fn files_and_bytes_of_a_document_are_bounded() {
    let many: Vec<Value> = (0..=MAX_FILES).map(|n| json!({"path": format!("/f{n}"), "content": ""})).collect();
    refuses(&inline(Value::Array(many)), PinnedInputs::new(), "more than 10000 files");
    let large = vec![b'x'; MAX_BODY_BYTES];
    let prepared = Prepared::new(&git("d"), pinned(&[("d/x", &large)])).unwrap();
    assert_eq!(*render(&prepared, &[]).unwrap_err().problem, Problem::TooLarge);
}

#[test]
fn devices_share_a_key_unless_they_differ_in_what_is_used() {
    let key = |content: &str, name: &str, pairs: &[(&str, &str)]| {
        let prepared =
            Prepared::new(&inline(json!([{"path": "/a", "content": content}])), PinnedInputs::new()).unwrap();
        prepared.input_key(&Subject { name, labels: &labels(pairs) })
    };
    assert_eq!(key("x", "one", &[("a", "1")]), key("x", "two", &[]));
    let site = "{{ .metadata.labels.site }}";
    assert_eq!(key(site, "one", &[("site", "b"), ("x", "1")]), key(site, "two", &[("site", "b")]));
    assert_ne!(key(site, "one", &[("site", "b")]), key(site, "one", &[("site", "c")]));
    assert_ne!(key(site, "one", &[("site", "")]), key(site, "one", &[]));
    assert_ne!(key("{{ .metadata.name }}", "one", &[]), key("{{ .metadata.name }}", "two", &[]));
    assert_ne!(key("{{ len .metadata.labels }}", "one", &[("a", "1")]), key("{{ len .metadata.labels }}", "one", &[]));
}

#[test]
fn a_digest_does_not_depend_on_the_order_of_keys() {
    let digest = |text: &str| {
        let template: DeviceSpec = serde_json::from_str(text).unwrap();
        let none = Labels::new();
        Prepared::new(&template, PinnedInputs::new())
            .unwrap()
            .render(&Subject { name: "d", labels: &none })
            .unwrap()
            .digest
    };
    assert_eq!(
        digest(
            r#"{"systemd":{"matchPatterns":["a"]},"os":{"catalogItemRef":{"catalog":"c","item":"i","version":"1"}},"config":[{"name":"n","inline":[{"path":"/a","content":"x"},{"path":"/b","content":"y"}]}]}"#
        ),
        digest(
            r#"{"config":[{"inline":[{"content":"y","path":"/b"},{"content":"x","path":"/a"}],"name":"other"}],"os":{"catalogItemRef":{"version":"1","item":"i","catalog":"c"}},"systemd":{"matchPatterns":["a"]}}"#
        ),
    );
}

#[test]
fn contents_do_not_print() {
    let prepared = Prepared::new(&inline(json!([{"path": "/a", "content": "hunter2"}])), PinnedInputs::new()).unwrap();
    let rendered = prepared.render(&Subject { name: "d", labels: &Labels::new() }).unwrap();
    assert!(!format!("{rendered:?} {prepared:?} {:?}", tree(&[("a", b"hunter2")])).contains("hunter2"));
    assert!(!format!("{:?}", crate::Template::literal("hunter2")).contains("hunter2"));
}

fn any_content() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "text ",
        "{{ .metadata.name }}",
        "{{ .metadata.labels.a }}",
        "{{ if .metadata.labels.b }}B{{ end }}",
        "{{ index .metadata.labels \"c\" }}",
        "{{ getOrDefault .metadata.labels \"a\" \"-\" }}",
        "{{ len .metadata.labels }}",
    ]);
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_same_key_gives_the_same_bytes(
        contents in prop::collection::vec(any_content(), 1..3),
        devices in prop::collection::vec(("[xy]", prop::collection::btree_map("[a-d]", "[xy]{0,1}", 0..3)), 2..12),
    ) {
        let list: Vec<Value> = contents
            .iter()
            .enumerate()
            .map(|(n, content)| json!({"path": format!("/f{n}-{{{{ index .metadata.labels \"d\" }}}}"), "content": content}))
            .collect();
        let prepared = Prepared::new(&inline(Value::Array(list)), PinnedInputs::new()).unwrap();
        let mut seen = std::collections::HashMap::new();
        for (name, labels) in &devices {
            let subject = Subject { name, labels };
            let result = prepared.render(&subject);
            let first = seen.entry(prepared.input_key(&subject)).or_insert_with(|| result.clone());
            prop_assert_eq!(&*first, &result);
        }
    }

    #[test]
    fn any_bytes_arrive_as_they_were(content in prop::collection::vec(any::<u8>(), 0..64)) {
        let prepared = Prepared::new(&git("d"), pinned(&[("d/f", &content)])).unwrap();
        prop_assert_eq!(&files(&render(&prepared, &[]).unwrap())[0].1, &content);
    }

    #[test]
    fn no_label_selects_outside_the_prefix(site in "[./ab]{0,8}") {
        let pins = pinned(&[("sites/a/in", b""), ("sites/b/a/in", b""), ("a/out", b""), ("b/out", b""), ("out", b"")]);
        let prepared = Prepared::new(&git("sites/{{ .metadata.labels.site }}"), pins).unwrap();
        if let Ok(document) = render(&prepared, &[("site", &site)]) {
            prop_assert!(paths(&document).iter().all(|path| path.ends_with("/in")), "{}", document);
        }
    }
}

#[test]
fn each_device_gets_the_files_of_its_own_value_and_others_wait() {
    let template = spec(json!({"config": [{"name": "git", "gitRef": {
        "repository": "apps", "targetRevision": "release-{{ .metadata.labels.ring }}", "path": "/d"
    }}]}));
    let mut pins = PinnedInputs::new();
    pins.insert_value("git".to_owned(), Some("release-a".to_owned()), tree(&[("d/etc/v", b"a"), ("d/etc/x", b"")]));
    pins.insert_value("git".to_owned(), Some("release-b".to_owned()), tree(&[("d/etc/v", b"b")]));
    let prepared = Prepared::new(&template, pins).unwrap();
    let document = |ring: &str| render(&prepared, &[("ring", ring)]);
    assert_eq!(files(&document("a").unwrap()), [("/etc/v".to_owned(), b"a".to_vec()), ("/etc/x".to_owned(), vec![])]);
    assert_eq!(files(&document("b").unwrap()), [("/etc/v".to_owned(), b"b".to_vec())]);
    let error = document("c").unwrap_err();
    assert_eq!(error.place.pointer, "/config/0/gitRef/targetRevision");
    assert_eq!(error.problem.to_string(), "revision \"release-c\" of Repository apps is not pinned yet");
    assert!(render(&prepared, &[]).unwrap_err().to_string().contains("no label \"ring\""));
    let labels = labels(&[("ring", "b")]);
    assert_eq!(prepared.value("git", &Subject { name: "d", labels: &labels }).as_deref(), Some("release-b"));
}

#[test]
fn files_from_web_servers_and_secrets_land_where_the_manifest_says() {
    let template = spec(json!({"config": [
        {"name": "web", "httpRef": {"repository": "web", "filePath": "/etc/{{ .metadata.name }}.conf"}},
        {"name": "keys", "secretRef": {"namespace": "ops", "name": "tls", "mountPath": "/etc/keys", "user": "svc"}},
        {"name": "root", "secretRef": {"namespace": "ops", "name": "{{ .metadata.labels.s }}", "mountPath": "/"}}
    ]}));
    let mut pins = PinnedInputs::from_iter([
        ("web".to_owned(), tree(&[("content", b"w")])),
        ("keys".to_owned(), sealed(&[("tls.crt", b"c"), ("tls.key", b"k")], "K")),
    ]);
    pins.insert_value("root".to_owned(), Some("ops/one".to_owned()), sealed(&[("top", b"t")], "K"));
    let prepared = Prepared::new(&template, pins).unwrap();
    let labels = labels(&[("s", "one")]);
    let outline = prepared.outline(&Subject { name: "dev1", labels: &labels }).unwrap();
    let facts: Vec<(&str, &str, bool)> =
        outline.files.iter().map(|(path, file)| (path.as_str(), file.user.as_str(), file.secret)).collect();
    assert_eq!(
        facts,
        [
            ("/etc/dev1.conf", "root", false),
            ("/etc/keys/tls.crt", "svc", true),
            ("/etc/keys/tls.key", "svc", true),
            ("/top", "root", true),
        ]
    );
    // A label cannot name a secret of another namespace.
    let escape = render(&prepared, &[("s", "../other/one")]).unwrap_err().to_string();
    assert!(escape.contains("which cannot be"), "{escape}");
}

#[test]
fn what_is_shown_of_a_document_with_secrets_cannot_be_compared_with_guesses() {
    let template = spec(json!({"config": [
        {"name": "open", "inline": [{"path": "/etc/b", "content": "open"}]},
        {"name": "keys", "secretRef": {"namespace": "ops", "name": "pin", "mountPath": "/etc/a"}}
    ]}));
    let pins = |tree: PinnedTree| PinnedInputs::from_iter([("keys".to_owned(), tree)]);
    let prepared =
        |content: &[u8], key: &str| Prepared::new(&template, pins(sealed(&[("pin", content)], key))).unwrap();
    let none = Labels::new();
    let subject = Subject { name: "d", labels: &none };
    let made = |content: &[u8], key: &str| prepared(content, key).render(&subject).unwrap();
    let one = made(b"1234", "K");
    // Another content is another document, and so is the same content where the key is another: who has none cannot tell.
    assert_ne!(one.digest, made(b"1235", "K").digest);
    assert_ne!(one.digest, made(b"1234", "L").digest);
    assert_eq!(one.digest, made(b"1234", "K").digest);
    let trees = [(b"1234", "K"), (b"1234", "L")].map(|(content, key)| tree_digest(&sealed(&[("pin", content)], key)));
    assert_ne!(trees[0], trees[1]);
    assert_ne!(trees[0], tree_digest(&tree(&[("pin", b"1234")])));

    let text = String::from_utf8(one.body.clone()).unwrap();
    assert!(fleet_model::may_hold_secret_files(&one.body), "{text}");
    let mut shown: Value = serde_json::from_str(&text).unwrap();
    fleet_model::mask_secret_files(&mut shown);
    let files: Vec<(&str, &str)> = shown["config"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|provider| provider["inline"].as_array().unwrap())
        .map(|file| (file["path"].as_str().unwrap(), file["content"].as_str().unwrap()))
        .collect();
    assert_eq!(files, [("/etc/b", "open"), ("/etc/a/pin", "*****")]);
    // What is shown does not give back the document.
    assert_ne!(Digest::of(shown.to_string().replace("*****", "1234").as_bytes()), one.digest);
    let again: DeviceSpec = serde_json::from_str(&text).unwrap();
    assert_eq!(again.config.unwrap().len(), 2, "devices read it as ever");
}

#[test]
fn secrets_without_a_seal_are_not_taken() {
    let template =
        spec(json!({"config": [{"name": "k", "secretRef": {"namespace": "n", "name": "s", "mountPath": "/a"}}]}));
    let pins = PinnedInputs::from_iter([("k".to_owned(), tree(&[("pin", b"1234")]))]);
    refuses(&template, pins, "not pinned");
}

#[test]
fn a_document_of_secrets_alone_has_one_provider() {
    let template =
        spec(json!({"config": [{"name": "k", "secretRef": {"namespace": "n", "name": "s", "mountPath": "/a"}}]}));
    let pins = PinnedInputs::from_iter([("k".to_owned(), sealed(&[("pin", b"1234")], "K"))]);
    let body = render(&Prepared::new(&template, pins).unwrap(), &[]).unwrap();
    let start = r#"{"config":[{"inline":[{"content":"1234","contentEncoding":"plain","group":"root","mode":420,"path":"/a/pin","user":"root"}],"name":"secret-"#;
    assert!(body.starts_with(start) && body.ends_with("\"}]}"), "{body}");
}
