//! Unit files and contents of applications against what they mean; whatever bytes come in.

use proptest::prelude::*;

use super::content::Neutral;
use super::*;

fn file<'a>(path: &'a str, text: &'a str) -> AppFile<'a> {
    AppFile { path, text: Some(text), is_template: true }
}

/// The codes of the problems with the text that each is about.
fn found<'a>(problems: &[Problem], files: &[AppFile<'a>]) -> Vec<(&'static str, &'a str)> {
    let about = |part: &Part| match part {
        Part::Text(file, span) => &files[*file].text.unwrap()[span.clone()],
        Part::Path(file) => files[*file].path,
        Part::Files | Part::Volume(_) => "",
    };
    problems.iter().map(|problem| (problem.code.code, about(&problem.part))).collect()
}

#[test]
fn units_are_read_as_systemd_reads_them() {
    let text = "\
# a comment
; another
[Unit]
Description = kiosk \\
# a comment inside
   shown
[Container]
Image=q.io/a:1
Volume=a.volume:/a
Volume=
Volume=b.volume:/b
Environment=A=1
\r
[Container]
Image= q.io/b:2  \r
";
    let source = Neutral::of(text, false);
    let unit = unit::parse(&source);
    assert_eq!(unit.faults, []);
    let values = |section, key| unit.values(section, key).iter().map(|v| v.value.to_string()).collect::<Vec<_>>();
    assert_eq!(values("Unit", "Description"), ["kiosk shown"]);
    assert_eq!(values("Container", "Image"), ["q.io/a:1", "q.io/b:2"]);
    assert_eq!(values("Container", "Volume"), ["b.volume:/b"], "an empty value takes back those before it");
    assert_eq!(values("Container", "Environment"), ["A=1"]);
    let image = unit.values("Container", "Image").last().map(|image| image.span.clone()).unwrap();
    assert_eq!(&text[image], "q.io/b:2");
    let broken = "A=1\n[Container\n=x\nhello\n[]\n[C]\nA b=1\n{{ .metadata.name }}\n";
    let source = Neutral::of(broken, true);
    let faults: Vec<&str> = unit::parse(&source).faults.into_iter().map(|(span, _)| &broken[span]).collect();
    assert_eq!(faults, ["A=1", "[Container", "=x", "hello", "[]", "A b=1"]);
}

#[test]
fn only_what_holds_for_every_device_is_a_problem() {
    let sure = "services:\n  a:\n    image: nginx:{{ .metadata.labels.v }}\n";
    let files = [file("docker-compose.yaml", sure)];
    assert_eq!(found(&compose::check(&files, &[]), &files), [("SB0443", "nginx:{{ .metadata.labels.v }}")]);
    for open in [
        "{{ if .metadata.labels.a }}\nservices: {a: {image: q.io/a}}\n{{ end }}\n",
        "services:\n  {{ .metadata.labels.services }}\n",
        "services: {{ .metadata.labels.services }}\n",
        "{{ .metadata.labels.all }}\n",
        "services:\n  a:\n{{ if .metadata.labels.b }}\n    image: q.io/a\n{{ else }}\n    image: q.io/b\n{{ end }}\n",
        "services:\n  a:\n    image: \"{{ index .metadata.labels \"image\" }}\"\n",
        "services:\n  a:\n    image: q.io/{{ .metadata.name }}:1\n    labels: [{{ .metadata.name }}]\n",
    ] {
        let files = [file("docker-compose.yaml", open)];
        assert_eq!(found(&compose::check(&files, &[]), &files), [], "{open}");
    }
    let tab = "services:\n\ta: {}\n# {{ .metadata.name }}\n";
    let files = [file("docker-compose.yaml", tab)];
    assert_eq!(found(&compose::check(&files, &[]), &files).first().map(|f| f.0), Some("SB0450"));
    let unit = "[Container]\nImage=q.io/{{ .metadata.labels.a }}\nVolume={{ .metadata.labels.v }}.volume:/v\n{{ if .metadata.labels.p }}\nPod={{ .metadata.name }}.pod\n{{ end }}\n";
    let files = [file("a.container", unit), file("b.container", "[Container]\n{{ .metadata.labels.more }}\n")];
    assert_eq!(found(&quadlet::check(&files), &files), []);
}

#[test]
fn an_instance_refers_to_its_template() {
    let files = [
        file(
            "a.container",
            "[Container]\nImage=q.io/a\nVolume=data@one.volume:/d\nVolume=/host/x.volume:/x\nNetwork=b@%i.network\n",
        ),
        file("data@.volume", "[Volume]\n"),
    ];
    assert_eq!(found(&quadlet::check(&files), &files), []);
}

const PIECES: &[&str] = &[
    "\t",
    "\n",
    " ",
    ":",
    "- ",
    "&a ",
    "*a",
    "!x ",
    "|",
    ">",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    "#",
    "---\n",
    "<<: ",
    "{{",
    "}}",
    "{{ .metadata.name }}",
    "{{ if .a }}",
    "{{ end }}",
    "\r",
    "ä",
    "\\",
    "=",
    "\\\n",
    "services:\n",
    "  a:\n",
    "    image: q.io/a\n",
    "image: ",
    "container_name: x\n",
    "volumes:\n",
    "external: true\n",
    "[Container]\n",
    "[Pod]\n",
    "Image=",
    "q.io/a",
    "Volume=a.volume:/a\n",
    "Pod=x\n",
    "Mount=type=volume,source=a.volume\n",
    "Yaml=a.yaml\n",
    "ContainerName=a\n",
    "apiVersion: kubevirt.io/v1\n",
    "kind: ",
    "metadata: {name: a}\n",
    "%",
];

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(PIECES), 0..25).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_content_makes_the_checks_panic_and_places_are_in_it(one in text(), two in text(), is_template: bool) {
        for (first, second) in [
            ("docker-compose.yaml", "docker-compose.override.yml"),
            ("a.container", "a.volume"),
            ("a.pod", "a.kube"),
            ("vm.yaml", "{{ .metadata.name }}"),
        ] {
            let of = |path, text| AppFile { path, text: Some(text), is_template };
            let files = [of(first, one.as_str()), of(second, two.as_str())];
            let mut problems = compose::check(&files, &["a"]);
            problems.extend(quadlet::check(&files));
            problems.extend(vm::check(&files, Some("a")));
            for problem in problems {
                if let Part::Text(file, span) = &problem.part {
                    prop_assert!(files[*file].text.unwrap().get(span.clone()).is_some(), "{:?}", problem);
                }
            }
        }
    }

    /// What was written is what is read, whatever stands around it.
    #[test]
    fn every_assignment_comes_back(entries in proptest::collection::vec(("[A-Z][A-Za-z0-9]{0,6}", "[a-z0-9=:/. ]{0,8}[a-z]"), 0..8)) {
        let mut text = String::from("\n# first\n[Container]\n");
        for (key, value) in &entries {
            text.push_str(&format!("{key} = {value} \n; between\n\n"));
        }
        let source = Neutral::of(&text, false);
        let unit = unit::parse(&source);
        prop_assert!(unit.faults.is_empty());
        let read: Vec<(String, String)> =
            unit.sections[0].entries.iter().map(|e| (e.key.to_owned(), e.value.to_string())).collect();
        let written: Vec<(String, String)> = entries.iter().map(|(k, v)| (k.clone(), v.trim().to_owned())).collect();
        prop_assert_eq!(read, written);
        for entry in &unit.sections[0].entries {
            prop_assert_eq!(&text[entry.span.clone()], entry.value.as_ref());
        }
    }

    /// Without placeholders a compose file is right exactly when each service has an image.
    #[test]
    fn a_compose_file_is_right_when_every_service_has_an_image(images in proptest::collection::btree_map("[a-z]{1,6}", any::<bool>(), 0..6)) {
        let mut text = String::from("services:\n");
        for (name, has_image) in &images {
            let line = if *has_image { "image: q.io/a:1" } else { "restart: always" };
            text.push_str(&format!("  {name}:\n    {line}\n"));
        }
        let files = [AppFile { path: "podman-compose.yml", text: Some(&text), is_template: false }];
        let problems = compose::check(&files, &[]);
        let missing = images.values().filter(|has_image| !**has_image).count();
        let expected = if images.is_empty() { 1 } else { missing };
        prop_assert_eq!(problems.len(), expected, "{:?}", problems);
    }
}
