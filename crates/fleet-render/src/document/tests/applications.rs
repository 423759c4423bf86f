//! Claims about applications in rendered documents.

use super::*;

fn applications(list: Value) -> DeviceSpec {
    spec(json!({"applications": list}))
}

fn one(application: Value) -> Prepared {
    Prepared::new(&applications(json!([application])), PinnedInputs::new()).unwrap()
}

fn quadlet(files: Value) -> Value {
    json!({"name": "q", "appType": "quadlet", "inline": files})
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn placeholders_of_applications_are_evaluated_and_all_else_stays() {
    let template = applications(json!([
        {"appType": "compose", "name": "web", "image": "quay.io/acme/web:{{ .metadata.labels.tag }}",
         "envVars": {"SITE": "{{ .metadata.labels.site }}", "FIXED": "1", "{{ not }}": "x"},
         "volumes": [
            {"name": "data", "image": {"reference": "quay.io/acme/data:{{ .metadata.labels.tag }}", "pullPolicy": "Always"}},
            {"name": "logs", "image": {"reference": "quay.io/acme/logs:1"}, "reclaimPolicy": "Retain"}]},
        {"appType": "quadlet", "name": "units", "runAs": "svc", "inline": [
            {"path": "{{ .metadata.labels.site }}.container", "content": "[Container]\nImage=quay.io/acme/x:{{ .metadata.labels.tag }}\n"},
            {"path": "b.env", "content": base64("NAME={{ .metadata.name }}+/="), "contentEncoding": "base64"},
            {"path": "bin", "content": "/+8=", "contentEncoding": "base64"},
            {"path": "empty"}]},
        {"appType": "container", "image": "quay.io/acme/only-{{ .metadata.labels.site }}:1", "ports": ["80:80"]},
        {"appType": "helm", "name": "chart", "image": "quay.io/acme/chart:1", "values": {"b": "{{ .Values.x }}", "a": [1.5, null]}}
    ]));
    let prepared = Prepared::new(&template, PinnedInputs::new()).unwrap();
    let document = render(&prepared, &[("tag", "v1"), ("site", "berlin")]).unwrap();
    insta::assert_snapshot!(document, @r#"{"applications":[{"appType":"compose","envVars":{"FIXED":"1","SITE":"berlin","{{ not }}":"x"},"image":"quay.io/acme/web:v1","name":"web","volumes":[{"image":{"pullPolicy":"Always","reference":"quay.io/acme/data:v1"},"name":"data"},{"image":{"reference":"quay.io/acme/logs:1"},"name":"logs","reclaimPolicy":"Retain"}]},{"appType":"quadlet","inline":[{"content":"[Container]\nImage=quay.io/acme/x:v1\n","path":"berlin.container"},{"content":"TkFNRT1kZXYxKy89","contentEncoding":"base64","path":"b.env"},{"content":"/+8=","contentEncoding":"base64","path":"bin"},{"path":"empty"}],"name":"units","runAs":"svc"},{"appType":"container","image":"quay.io/acme/only-berlin:1","ports":["80:80"]},{"appType":"helm","image":"quay.io/acme/chart:1","name":"chart","values":{"a":[1.5,null],"b":"{{ .Values.x }}"}}],"config":[]}"#);
    let inputs = prepared.inputs();
    assert!(inputs.name && !inputs.all_labels);
    assert_eq!(inputs.labels.iter().map(String::as_str).collect::<Vec<_>>(), ["site", "tag"]);
}

#[test]
fn an_application_without_placeholders_is_as_it_was_written() {
    let list = json!([{"appType": "compose", "name": "a", "inline": [{"path": "compose.yaml", "content": "x: 1\n"}]}]);
    let document = render(&Prepared::new(&applications(list.clone()), PinnedInputs::new()).unwrap(), &[]).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&document).unwrap()["applications"], list);
    assert_eq!(
        render(&Prepared::new(&applications(json!([])), PinnedInputs::new()).unwrap(), &[]).unwrap(),
        r#"{"applications":[],"config":[]}"#
    );
}

#[test]
fn a_stand_alone_specification_keeps_braces_in_applications() {
    let list = json!([{"appType": "container", "name": "a", "image": "q.io/a:1", "envVars": {"A": "{{ .x }}"}}]);
    let prepared = Prepared::stand_alone(&applications(list.clone()), PinnedInputs::new()).unwrap();
    assert!(prepared.inputs().is_empty());
    let document = render(&prepared, &[]).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&document).unwrap()["applications"], list);
}

#[test]
fn what_a_placeholder_makes_is_checked_and_its_place_is_named() {
    let label = "{{ .metadata.labels.x }}";
    let text = |part: Value| {
        json!({"appType": "compose", "name": "a", "image": "q.io/a:1"}).as_object().map(|base| {
            let mut base = base.clone();
            base.extend(part.as_object().cloned().unwrap_or_default());
            Value::Object(base)
        })
    };
    let cases = [
        (text(json!({"image": format!("q.io/a:{label}")})).unwrap(), "1", "", "/applications/0/image"),
        (text(json!({"image": format!("q.io/a:{label}")})).unwrap(), "1", "a b", "/applications/0/image"),
        (text(json!({"envVars": {"a/b": label}})).unwrap(), "1", "", "/applications/0/envVars/a~1b"),
        (
            text(json!({"envVars": {"A": format!("{label}{}", "x".repeat(250))}})).unwrap(),
            "123",
            "1234",
            "/applications/0/envVars/A",
        ),
        (
            text(json!({"volumes": [{"name": "v", "image": {"reference": label}}]})).unwrap(),
            "q.io/v:1",
            "Q",
            "/applications/0/volumes/0/image/reference",
        ),
        (quadlet(json!([{"path": "a"}, {"path": label}])), "b", "a", "/applications/0/inline/1/path"),
        (quadlet(json!([{"path": label}])), "b", "../b", "/applications/0/inline/0/path"),
        (quadlet(json!([{"path": label}])), "b/c", "/b", "/applications/0/inline/0/path"),
        (quadlet(json!([{"path": label}])), "b", "", "/applications/0/inline/0/path"),
    ];
    for (application, good, bad, pointer) in cases {
        let prepared = one(application);
        render(&prepared, &[("x", good)]).unwrap_or_else(|error| panic!("{pointer}: {error}"));
        assert_eq!(render(&prepared, &[("x", bad)]).unwrap_err().place.pointer, pointer, "{bad}");
        assert_eq!(render(&prepared, &[]).unwrap_err().place.pointer, pointer, "no label");
    }
}

#[test]
fn applications_that_become_one_are_refused() {
    let app = |image: &str| json!({"appType": "container", "image": image});
    let list = json!([app("q.io/a:1"), app("q.io/{{ .metadata.labels.x }}:1")]);
    let prepared = Prepared::new(&applications(list), PinnedInputs::new()).unwrap();
    assert!(render(&prepared, &[("x", "b")]).is_ok());
    let error = render(&prepared, &[("x", "a")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/applications/1: another application is called \"q.io/a:1\"; give one of them a name"
    );
}

#[test]
fn what_placeholders_blow_up_is_bounded() {
    let content = "{{ replace \"x\" .metadata.labels.x \"".to_owned() + &"x".repeat(15_000) + "\" }}";
    let files: Vec<Value> = (0..20).map(|n| json!({"path": format!("f{n}"), "content": content})).collect();
    let prepared = one(quadlet(Value::Array(files)));
    assert!(render(&prepared, &[("x", "short")]).is_ok());
    let error = render(&prepared, &[("x", &"y".repeat(63))]).unwrap_err();
    assert_eq!((error.place.pointer.as_str(), *error.problem), ("/applications", Problem::TooLarge));
}

#[test]
fn contents_that_no_device_could_have_are_refused_at_once() {
    let file = |content: String, encoding: &str| {
        applications(json!([quadlet(json!([{"path": "a", "content": content, "contentEncoding": encoding}]))]))
    };
    refuses(
        &file("-_8=".to_owned(), "base64"),
        PinnedInputs::new(),
        "/applications/0/inline/0/content: the content is not base64",
    );
    refuses(&file("x".repeat(MAX_INLINE_BYTES + 1), "plain"), PinnedInputs::new(), "at most 1048576");
    refuses(&file("{{ range . }}".to_owned(), "plain"), PinnedInputs::new(), "`range` is not supported");
    refuses(&file(base64("{{ range . }}"), "base64"), PinnedInputs::new(), "`range` is not supported");
}

#[test]
fn an_outline_has_what_the_document_has() {
    let template = spec(json!({
        "os": {"image": "q.io/os:{{ .metadata.labels.tag }}"},
        "applications": [{"appType": "container", "image": "q.io/a:{{ .metadata.labels.tag }}"}],
        "systemd": {"matchPatterns": ["a.service"]},
        "config": [{"name": "files", "inline": [{"path": "/etc/a", "content": "/+8=", "contentEncoding": "base64", "mode": 0o600}]}]
    }));
    let prepared = Prepared::new(&template, PinnedInputs::new()).unwrap();
    let labels = labels(&[("tag", "1")]);
    let outline = prepared.outline(&Subject { name: "d", labels: &labels }).unwrap();
    assert_eq!(outline.os, Some(json!({"image": "q.io/os:1"})));
    assert_eq!(outline.applications["q.io/a:1"], json!({"appType": "container", "image": "q.io/a:1"}));
    assert_eq!(outline.others["systemd"], json!({"matchPatterns": ["a.service"]}));
    let file = &outline.files["/etc/a"];
    assert_eq!((file.content.as_slice(), file.mode, file.provider.as_str()), (&b"\xff\xef"[..], 0o600, "files"));
    assert!(!format!("{outline:?}").contains("255, 239"), "contents do not print");
}

proptest! {
    /// Pieces around holes are written apart from the reading of whole values: both must give the same.
    #[test]
    fn pieces_around_placeholders_make_the_same_document_as_the_whole(
        names in prop::collection::btree_map("[a-zA-Z~/\"{}]{1,4}", prop::sample::select(vec!["x", "{{ .metadata.labels.a }}", "é\n"]), 0..6),
        value in "[a-z\"\\\\é]{1,6}",
    ) {
        let written = |text: &str| text.replace("{{ .metadata.labels.a }}", &value);
        let application = |resolve: bool| {
            let envs: Value = names.iter().map(|(key, text)| {
                (key.clone(), Value::from(if resolve { written(text) } else { (*text).to_owned() }))
            }).collect::<serde_json::Map<_, _>>().into();
            json!({"appType": "container", "name": "a", "image": "q.io/a:1", "envVars": envs})
        };
        let evaluated = render(&one(application(false)), &[("a", &value)]).unwrap();
        let whole = Prepared::stand_alone(&applications(json!([application(true)])), PinnedInputs::new()).unwrap();
        prop_assert_eq!(evaluated, render(&whole, &[]).unwrap());
    }
}
