//! Applications and the rest of a device specification: right files have no findings, broken ones theirs at their places.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use fleet_lint::parse_file;
use proptest::prelude::*;

/// A fleet that is right, with all five types, from images and inline, with placeholders.
const FLEET: &str = "\
apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata:
  name: kiosks
spec:
  selector:
    matchLabels:
      role: kiosk
  template:
    spec:
      os:
        image: quay.io/acme/kiosk:latest-{{ .metadata.labels.stage }}
      applications:
        - name: shop
          appType: compose
          envVars:
            SITE: \"{{ .metadata.labels.site }}\"
            LOG_LEVEL: info
          volumes:
            - name: models
              reclaimPolicy: Retain
              image:
                reference: quay.io/acme/models:{{ .metadata.labels.stage }}
                pullPolicy: IfNotPresent
          inline:
            - path: podman-compose.yaml
              content: |
                # {{ .metadata.name }}
                x-common: &common
                  restart: always
                services:
                  web:
                    <<: *common
                    image: quay.io/acme/web:{{ .metadata.labels.stage }}
                    ports: [8080:80]
                    volumes: [models:/models]
                  db:
                    image: docker.io/library/postgres:16
                volumes:
                  models:
                    external: true
            - path: podman-compose.override.yml
              content: |
                services:
                  web:
                    environment:
                      A: {{ .metadata.labels.site }}
        - name: sensors
          appType: quadlet
          runAs: flightctl
          inline:
            - path: reader.container
              content: |
                [Unit]
                Description=Reads sensors \\
                  all day
                [Container]
                Image=base.image
                Pod=sensors.pod
                Volume=data.volume:/data:Z
                Volume=/dev:/dev
                Mount=type=volume,source=data.volume,destination=/more
                Network=inside.network
                Environment=SITE={{ .metadata.labels.site }}
                ContainerName=reader
                [Install]
                WantedBy=default.target
            - path: sensors.pod
              content: |
                [Pod]
                PodName=sensors
            - path: data.volume
              content: |
                [Volume]
            - path: inside.network
              contentEncoding: base64
              content: W05ldHdvcmtdCk5ldHdvcmtOYW1lPWluc2lkZQo=
            - path: base.image
              content: |
                [Image]
                Image=quay.io/acme/reader:{{ .metadata.labels.stage }}
            - path: later.kube
              content: |
                [Kube]
                Yaml=./later.yaml
            - path: later.yaml
              content: 'kind: Pod'
            - path: conf/settings.txt
              content: anything
        - appType: container
          image: quay.io/acme/agent@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
          ports: [\"8080:80\", \"53:53/udp\"]
          resources:
            limits:
              cpu: \"0.5\"
              memory: 512m
          volumes:
            - name: cache
              mount:
                path: /cache:rw,Z
            - name: seed
              image:
                reference: quay.io/acme/seed:1
              mount:
                path: /seed
        - name: chart
          appType: helm
          image: quay.io/acme/chart:{{ .metadata.labels.stage }}
          namespace: shop
          valuesFiles: [values/prod.yaml]
          values:
            replicas: 3
            text: \"{{ left as it is }}\"
        - name: desktop
          appType: vm
          publishPorts: [\"3389:3389\"]
          inline:
            - path: vm.yaml
              content: |
                apiVersion: kubevirt.io/v1
                kind: VirtualMachine
                metadata:
                  name: desktop
                spec:
                  runStrategy: Always
      systemd:
        matchPatterns: [sshd.service, podman-*.service, getty@tty1.service]
      resources:
        - monitorType: CPU
          samplingInterval: 30s
          alertRules:
            - {severity: Critical, duration: 10m, percentage: 90.5, description: too much}
            - {severity: Info, duration: 1h, percentage: 50, description: much}
            - {severity: Warning, duration: 1h, percentage: 80, description: more}
        - monitorType: Memory
          samplingInterval: 1m
          alertRules: []
        - monitorType: Disk
          samplingInterval: 5m
          path: /sysroot
          alertRules:
            - {severity: Warning, duration: 10m, percentage: 75, description: filling up}
      updatePolicy:
        downloadSchedule:
          at: 0 1 * * *
          startGraceDuration: 2h
        updateSchedule:
          at: \"30 3 * * 6,7\"
          timeZone: Europe/Berlin
          startGraceDuration: 24h
  rolloutPolicy:
    successThreshold: 90%
    defaultUpdateTimeout: 10m
    disruptionBudget:
      groupBy: [site]
      minAvailable: 1
      maxUnavailable: 2
    deviceSelection:
      strategy: BatchSequence
      sequence:
        - limit: 1
          selector:
            matchLabels: {stage: test}
        - limit: 25%
          successThreshold: 100%
";

const DEVICE: &str = "\
apiVersion: flightctl.io/v1beta1
kind: Device
metadata:
  name: r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg
spec:
  os:
    image: quay.io/acme/kiosk:1
  applications:
    - name: web
      appType: container
      image: quay.io/acme/web:1
    - name: shop
      appType: compose
      inline:
        - path: docker-compose.yml
          content: |
            services:
              web:
                image: quay.io/acme/web:1
";

/// Codes and places, without what this version cannot carry out yet.
fn found(text: &str) -> Vec<(String, u32, u32)> {
    let diagnostics = parse_file("a.yaml", text.as_bytes()).diagnostics;
    let own = diagnostics.into_iter().filter(|d| d.code != "SB0401");
    own.map(|d| (d.code, d.line, d.column)).collect()
}

/// The place of `marker` in `text`: line and column from 1.
fn place(text: &str, marker: &str) -> (u32, u32) {
    assert_eq!(text.matches(marker).count(), 1, "one place: {marker:?}");
    let before = &text[..text.find(marker).unwrap()];
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    (u32::try_from(before.matches('\n').count() + 1).unwrap(), u32::try_from(column).unwrap())
}

/// `(name, from, to, [(code, what stands at its place)])`.
type Case = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// What is not as expected.
fn mismatch(base: &str, (name, from, to, expected): &Case) -> Option<String> {
    assert_eq!(base.matches(from).count(), 1, "{name} changes one place");
    let text = base.replacen(from, to, 1);
    let mut expected: Vec<(String, u32, u32)> = expected
        .iter()
        .map(|(code, marker)| {
            let (line, column) = place(&text, marker);
            ((*code).to_owned(), line, column)
        })
        .collect();
    expected.sort_by_key(|(_, line, column)| (*line, *column));
    let all: Vec<String> = parse_file("a.yaml", text.as_bytes()).diagnostics.iter().map(ToString::to_string).collect();
    (found(&text) != expected).then(|| format!("{name}: wanted {expected:?}, found {all:#?}"))
}

fn check(base: &str, cases: &[Case]) {
    let wrong: Vec<String> = cases.iter().filter_map(|case| mismatch(base, case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn right_specifications_have_no_findings() {
    for (name, text) in [("fleet", FLEET), ("device", DEVICE)] {
        assert_eq!(found(text), [], "{name}");
        assert_eq!(found(&text.replace('\n', "\r\n")), [], "{name} with CRLF");
        assert_eq!(parse_file("a.yaml", text.as_bytes()).manifests.len(), 1, "{name}");
    }
}

const APPLICATIONS: &[Case] = &[
    ("capital", "- name: shop\n", "- name: Shop\n", &[("SB0440", "Shop")]),
    ("placeholder in a name", "- name: chart", "- name: \"c-{{ .metadata.name }}\"", &[("SB0440", "\"c-{{")]),
    ("inline without a name", "- name: shop\n          appType", "- appType", &[("SB0440", "appType: compose")]),
    ("two of one name", "- name: sensors", "- name: shop", &[("SB0441", "shop\n          appType: quadlet")]),
    (
        "two images without names",
        "        - appType: container\n",
        "        - appType: container\n          image: quay.io/a/b:1\n        - appType: container\n          image: quay.io/a/b:1\n        - name: c\n          appType: container\n",
        &[("SB0441", "quay.io/a/b:1\n        - name: c")],
    ),
    ("capital in an image", "quay.io/acme/chart:", "quay.io/acme/Chart:", &[("SB0442", "Chart:")]),
    ("tag", "quay.io/acme/seed:1", "quay.io/acme/seed:-1", &[("SB0442", "-1")]),
    ("scheme", "quay.io/acme/chart:", "oci://quay.io/acme/chart:", &[("SB0442", "oci:")]),
    ("digest", "agent@sha256:01", "agent@sha256:", &[("SB0442", "sha256:")]),
    ("short name", "image: quay.io/acme/chart:", "image: acme/chart:", &[("SB0443", "acme/chart")]),
    ("short volume", "reference: quay.io/acme/seed:1", "reference: seed:1", &[("SB0443", "seed:1")]),
    (
        "placeholder in an image",
        "{{ .metadata.labels.stage }}\n          namespace",
        "{{ .spec.x }}\n          namespace",
        &[("SB0408", ".spec")],
    ),
    (
        "two sources",
        "          image: quay.io/acme/agent",
        "          catalogItemRef: {catalog: a, item: b, version: c}\n          image: quay.io/acme/agent",
        &[("SB0306", "appType: container")],
    ),
    (
        "no source",
        "          image: quay.io/acme/chart:{{ .metadata.labels.stage }}\n",
        "",
        &[("SB0306", "name: chart")],
    ),
    (
        "catalogue",
        "image: quay.io/acme/chart:{{ .metadata.labels.stage }}",
        "catalogItemRef: {catalog: a, item: \"\", version: \" 1\"}",
        &[("SB0459", "\"\", v"), ("SB0459", "\" 1\"")],
    ),
    ("key", "LOG_LEVEL: info", "LOG-LEVEL: info", &[("SB0444", "LOG-LEVEL")]),
    ("empty value", "LOG_LEVEL: info", "LOG_LEVEL: \"\"", &[("SB0444", "\"\"\n")]),
    (
        "placeholder in a value",
        "{{ .metadata.labels.site }}\"\n            LOG",
        "{{ .metadata.labels.site \"\n            LOG",
        &[("SB0408", "{{ .metadata.labels.site \"")],
    ),
    ("volume's name", "- name: cache", "- name: Cache", &[("SB0445", "Cache")]),
    ("two volumes", "- name: cache", "- name: seed", &[("SB0445", "seed\n              image")]),
    (
        "container volume without mount",
        "              mount:\n                path: /seed\n",
        "",
        &[("SB0445", "name: seed")],
    ),
    (
        "compose volume with mount",
        "pullPolicy: IfNotPresent\n",
        "pullPolicy: IfNotPresent\n              mount: {path: /a}\n",
        &[("SB0445", "mount: {path: /a}")],
    ),
    ("mount path", "path: /seed", "path: seed", &[("SB0445", "seed\n        - name: chart")]),
    ("mount options", "path: /cache:rw,Z", "path: /cache:rw,,Z", &[("SB0445", "/cache:")]),
    ("no reference", "reference: quay.io/acme/seed:1", "pullPolicy: Always", &[("SB0306", "pullPolicy: Always")]),
    ("port", "\"8080:80\"", "\"8080\"", &[("SB0446", "\"8080\"")]),
    ("port too high", "\"8080:80\"", "\"80800:80\"", &[("SB0446", "\"80800")]),
    ("port zero", "3389:3389", "0:3389", &[("SB0446", "\"0:")]),
    ("protocol", "53/udp", "53/icmp", &[("SB0446", "\"53:53/icmp")]),
    ("cpu", "cpu: \"0.5\"", "cpu: half", &[("SB0447", "half")]),
    ("memory", "memory: 512m", "memory: 512MiB", &[("SB0447", "512MiB")]),
    ("user", "runAs: flightctl", "runAs: \"a b\"", &[("SB0448", "\"a b\"")]),
    ("number for a user", "runAs: flightctl", "runAs: \"1000\"", &[("SB0448", "\"1000\"")]),
    ("namespace", "namespace: shop", "namespace: Shop", &[("SB0458", "Shop")]),
    ("values file", "values/prod.yaml", "../prod.yaml", &[("SB0458", "../prod")]),
    ("values file of another sort", "values/prod.yaml", "prod.json", &[("SB0458", "prod.json")]),
    ("absolute path", "path: conf/settings.txt", "path: /settings.txt", &[("SB0449", "/settings")]),
    (
        "path upwards",
        "path: conf/settings.txt",
        "path: \"{{ .metadata.name }}/../settings.txt\"",
        &[("SB0449", "\"{{ .metadata.name }}/..")],
    ),
    (
        "one path twice",
        "path: conf/settings.txt",
        "path: later.yaml",
        &[("SB0449", "later.yaml\n              content: anything")],
    ),
    ("file and directory", "path: conf/settings.txt", "path: later.yaml/a", &[("SB0449", "later.yaml/a")]),
    ("base64", "W05ldHdvcmtd", "W05ldHdvcmtd!", &[("SB0407", "W05")]),
];

#[test]
fn broken_applications_give_their_findings_at_their_places() {
    check(FLEET, APPLICATIONS);
}

const CONTENTS: &[Case] = &[
    (
        "compose name",
        "path: podman-compose.yaml",
        "path: compose.yaml",
        &[("SB0449", "compose.yaml"), ("SB0449", "podman-compose.override.yml")],
    ),
    (
        "compose pair",
        "path: podman-compose.override.yml",
        "path: docker-compose.override.yml",
        &[("SB0449", "docker-compose.override.yml")],
    ),
    (
        "two compose files",
        "path: podman-compose.override.yml",
        "path: podman-compose.yml",
        &[("SB0449", "podman-compose.yml")],
    ),
    (
        "YAML in compose",
        "                services:\n                  web:\n                    <<",
        "                services: [\n                  web:\n                    <<",
        &[("SB0450", ": *common")],
    ),
    (
        "key twice before any placeholder",
        "                # {{ .metadata.name }}\n",
        "                name: a\n                name: b\n",
        &[("SB0450", "name: b")],
    ),
    (
        "container_name",
        "image: docker.io/library/postgres:16",
        "image: docker.io/library/postgres:16\n                    container_name: db",
        &[("SB0451", "container_name")],
    ),
    (
        "no image",
        "                    image: docker.io/library/postgres:16\n",
        "                    build: .\n",
        &[("SB0451", "db:\n                    build")],
    ),
    ("short image", "image: docker.io/library/postgres:16", "image: postgres:16", &[("SB0443", "postgres:16")]),
    (
        "variable in an image",
        "image: docker.io/library/postgres:16",
        "image: docker.io/library/postgres:${TAG}",
        &[("SB0442", "${TAG}")],
    ),
    (
        "bad image with a placeholder",
        "quay.io/acme/web:{{ .metadata.labels.stage }}",
        "quay.io/acme/Web:{{ .metadata.labels.stage }}",
        &[("SB0442", "Web:")],
    ),
    (
        "volume that is its own",
        "                    external: true\n",
        "                    external: false\n",
        &[("SB0452", "models:\n                    external")],
    ),
    ("volume that is not there", "- name: models", "- name: other", &[("SB0452", "other")]),
    (
        "build file",
        "path: base.image",
        "path: base.build",
        &[("SB0449", "base.build\n"), ("SB0455", "base.image\n                Pod")],
    ),
    (
        "quadlet below a directory",
        "path: data.volume",
        "path: a/data.volume",
        &[("SB0449", "a/data"), ("SB0455", "data.volume:/data"), ("SB0455", "type=volume")],
    ),
    ("line", "                Pod=sensors.pod\n", "                Pod sensors.pod\n", &[("SB0453", "Pod sensors")]),
    ("section", "                [Volume]\n", "                [Volumes]\n", &[("SB0454", "[Volumes]")]),
    (
        "section of another type",
        "                [Volume]\n",
        "                [Volume]\n                [Pod]\n",
        &[("SB0454", "[Pod]\n            - path: inside")],
    ),
    (
        "no image in a unit",
        "                Image=base.image\n",
        "                Image=base.image\n                Image=\n",
        &[("SB0454", "[Container]")],
    ),
    ("short image in a unit", "Image=quay.io/acme/reader:", "Image=reader:", &[("SB0443", "reader:{{")]),
    ("volume's file", "Volume=data.volume:/data:Z", "Volume=dada.volume:/data:Z", &[("SB0455", "dada.volume")]),
    ("network's file", "Network=inside.network", "Network=in.network", &[("SB0455", "in.network")]),
    ("pod", "Pod=sensors.pod", "Pod=sensors", &[("SB0455", "sensors\n                Volume")]),
    ("mount's file", "source=data.volume,", "source=x.volume,", &[("SB0455", "type=volume,source=x")]),
    ("target of a kube file", "Yaml=./later.yaml", "Yaml=late.yaml", &[("SB0455", "late.yaml")]),
    ("no target", "                Yaml=./later.yaml\n", "                Network=host\n", &[("SB0454", "[Kube]")]),
    ("one name twice", "PodName=sensors", "PodName=reader", &[("SB0456", "reader\n            - path: data")]),
    ("machine's kind", "kind: VirtualMachine", "kind: VirtualMachines", &[("SB0457", "VirtualMachines")]),
    (
        "machine's name",
        "                  name: desktop\n",
        "                  name: desk\n",
        &[("SB0457", "desk\n                spec")],
    ),
    ("machine's version", "                apiVersion: kubevirt.io/v1\n", "", &[("SB0457", "kind: VirtualMachine")]),
    (
        "machine's YAML",
        "                  runStrategy: Always",
        "                  runStrategy: Always\n                  runStrategy: Manual",
        &[("SB0457", "runStrategy: Manual")],
    ),
    ("machine's file", "path: vm.yaml", "path: vm.yml", &[("SB0449", "vm.yml")]),
];

#[test]
fn a_finding_points_into_the_text_of_an_inline_file() {
    check(FLEET, CONTENTS);
}

#[test]
fn an_application_that_does_nothing_is_found() {
    let services = "            services:\n              web:\n                image: quay.io/acme/web:1\n";
    let placeholder = "quay.io/acme/kiosk:{{ .metadata.labels.a }}";
    check(
        DEVICE,
        &[
            ("no service", services, "            services: {}\n", &[("SB0450", "inline:")]),
            ("no service at all", services, "            {}\n", &[("SB0450", "inline:")]),
            ("a list", services, "            - services\n", &[("SB0450", "- services\n"), ("SB0450", "inline:")]),
            (
                "two documents",
                services,
                "            services: {a: {image: q.io/a}}\n            ---\n            b: 1\n",
                &[("SB0450", "---")],
            ),
            (
                "no file",
                "        - path: docker-compose.yml\n          content: |\n            services:\n              web:\n                image: quay.io/acme/web:1\n",
                "        []\n",
                &[("SB0449", "inline:")],
            ),
            ("placeholder", "quay.io/acme/kiosk:1", placeholder, &[("SB0442", "{{ .metadata.labels.a }}")]),
        ],
    );
    let quadlet = DEVICE.replace("compose\n", "quadlet\n").replace("docker-compose.yml", "a.volume");
    check(&quadlet, &[("nothing to run", services, "            [Volume]\n", &[("SB0449", "inline:")])]);
}

#[test]
fn encoded_content_is_looked_into_and_the_finding_names_the_line() {
    // services:\n  web:\n    image: nginx\n
    let text = DEVICE.replace(
        "          content: |\n            services:\n              web:\n                image: quay.io/acme/web:1\n",
        "          contentEncoding: base64\n          content: c2VydmljZXM6CiAgd2ViOgogICAgaW1hZ2U6IG5naW54Cg==\n",
    );
    let findings = parse_file("a.yaml", text.as_bytes()).diagnostics;
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((finding.code.as_str(), finding.line, finding.column), ("SB0443", 17, 20));
    assert!(finding.message.contains("line 3 of the decoded content"), "{}", finding.message);
    assert_eq!(finding.pointer, "/spec/applications/1/inline/0/content");
    assert!(finding.hint.as_deref().is_some_and(|hint| hint.contains("docker.io/library")));
}

const DEVICE_CASES: &[Case] = &[
    ("os image", "quay.io/acme/kiosk:latest-", "quay.io/acme//kiosk:latest-", &[("SB0442", "/kiosk:latest")]),
    (
        "os from nowhere",
        "        image: quay.io/acme/kiosk:latest-{{ .metadata.labels.stage }}\n",
        "        {}\n",
        &[("SB0306", "{}\n")],
    ),
    (
        "os from two",
        "      os:\n",
        "      os:\n        catalogItemRef: {catalog: a, item: b, version: c}\n",
        &[("SB0306", "catalogItemRef")],
    ),
    ("interval", "samplingInterval: 30s", "samplingInterval: 030s", &[("SB0460", "030s")]),
    ("interval zero", "samplingInterval: 30s", "samplingInterval: 0s", &[("SB0460", "0s\n")]),
    ("duration", "duration: 10m, percentage: 90.5", "duration: ten, percentage: 90.5", &[("SB0460", "ten,")]),
    (
        "shorter than the interval",
        "samplingInterval: 5m",
        "samplingInterval: 10m",
        &[("SB0461", "10m, percentage: 75")],
    ),
    (
        "two of one type",
        "monitorType: Memory",
        "monitorType: CPU",
        &[("SB0461", "CPU\n          samplingInterval: 1m")],
    ),
    ("relative path", "path: /sysroot", "path: sysroot", &[("SB0461", "sysroot")]),
    ("percentage", "percentage: 75", "percentage: 175", &[("SB0469", "175")]),
    (
        "one severity twice",
        "severity: Info",
        "severity: Warning",
        &[("SB0462", "Warning, duration: 1h, percentage: 80")],
    ),
    ("not above", "percentage: 50", "percentage: 80", &[("SB0462", "80, description: more")]),
    ("unit", "sshd.service", "ssh/d.service", &[("SB0463", "ssh/d")]),
    ("four fields", "0 1 * * *", "0 1 * *", &[("SB0464", "0 1 * *")]),
    ("hour", "0 1 * * *", "0 25 * * *", &[("SB0464", "25 * *")]),
    ("never", "0 1 * * *", "0 1 31 2,4 *", &[("SB0465", "0 1 31")]),
    ("zone", "Europe/Berlin", "CET", &[("SB0466", "CET")]),
    ("grace", "startGraceDuration: 24h", "startGraceDuration: 25h", &[("SB0467", "25h")]),
    ("grace is no duration", "startGraceDuration: 2h", "startGraceDuration: 2d", &[("SB0460", "2d")]),
    (
        "empty policy",
        "    disruptionBudget:\n      groupBy: [site]\n      minAvailable: 1\n      maxUnavailable: 2\n    deviceSelection:\n      strategy: BatchSequence\n      sequence:\n        - limit: 1\n          selector:\n            matchLabels: {stage: test}\n        - limit: 25%\n          successThreshold: 100%\n",
        "",
        &[("SB0302", "successThreshold: 90%")],
    ),
    (
        "no batch",
        "      sequence:\n        - limit: 1\n          selector:\n            matchLabels: {stage: test}\n        - limit: 25%\n          successThreshold: 100%\n",
        "",
        &[("SB0468", "deviceSelection")],
    ),
    ("empty budget", "      minAvailable: 1\n      maxUnavailable: 2\n", "", &[("SB0302", "groupBy")]),
    ("one key twice", "[site]", "[site, site]", &[("SB0426", "site]")]),
    ("label key", "[site]", "[-site]", &[("SB0402", "-site")]),
    ("threshold", "successThreshold: 90%", "successThreshold: \"90\"", &[("SB0469", "\"90\"")]),
    ("batch's threshold", "successThreshold: 100%", "successThreshold: 101%", &[("SB0469", "101%")]),
    ("limit", "limit: 25%", "limit: 25 %", &[("SB0469", "25 %")]),
    ("time-out", "defaultUpdateTimeout: 10m", "defaultUpdateTimeout: 1.5h", &[("SB0460", "1.5h")]),
    (
        "batch for nobody",
        "            matchLabels: {stage: test}\n",
        "            {}\n",
        &[("SB0403", "selector:\n            {}")],
    ),
    ("label of a batch", "{stage: test}", "{stage: -test}", &[("SB0402", "-test")]),
    (
        "expression of a batch",
        "            matchLabels: {stage: test}\n",
        "            matchExpressions: [{key: a, operator: In}]\n",
        &[("SB0403", "{key: a, op")],
    ),
];

#[test]
fn the_rest_of_a_specification_gives_its_findings_at_their_places() {
    check(FLEET, DEVICE_CASES);
}

/// A fleet with one compose application of one file, whose lines these are.
fn with_content(app_type: &str, path: &str, lines: &[String]) -> String {
    let head = &FLEET[..FLEET.find("      os:").unwrap()];
    let body: String = lines.iter().map(|line| format!("                {line}\n")).collect();
    format!(
        "{head}      applications:\n        - name: a\n          appType: {app_type}\n          inline:\n            - path: {path}\n              content: |\n{body}"
    )
}

#[test]
fn contents_without_bounds_are_refused_quickly() {
    let start = std::time::Instant::now();
    let services: Vec<String> =
        std::iter::once("services:".to_owned()).chain((0..20_000).map(|n| format!("  a{n}: {{build: .}}"))).collect();
    let many = with_content("compose", "docker-compose.yaml", &services);
    assert!((1..=1_000).contains(&found(&many).len()));
    let flow = format!("services: {{{}}}", (0..20_000).map(|n| format!("a{n}: {{}}, ")).collect::<String>());
    let one_line = with_content("compose", "docker-compose.yaml", &[flow]);
    assert!((1..=1_000).contains(&found(&one_line).len()));
    let lines: Vec<String> = (0..30_000).map(|n| format!("Volume=v{n}.volume:/{n}")).collect();
    let unit = with_content("quadlet", "a.container", &[vec!["[Container]".to_owned()], lines].concat());
    assert!((1..=1_000).contains(&found(&unit).len()));
    let control = with_content("compose", "docker-compose.yaml", &["{{ if .metadata.name }}a{{ end }} ".repeat(4_000)]);
    found(&control);
    let deep = with_content("compose", "docker-compose.yaml", &["[".repeat(100_000)]);
    assert!(found(&deep).iter().any(|(code, ..)| code == "SB0450"));
    // The same file, many times over.
    let text = "x".repeat(900_000);
    let again: String = (0..20).map(|n| format!("            - {{path: f{n}, content: *text}}\n")).collect();
    let aliases =
        with_content("quadlet", "a.txt", &[]).replace("content: |\n", &format!("content: &text {text}\n{again}"));
    assert!(found(&aliases).iter().any(|(code, ..)| code == "SB0421"));
    let path = with_content("quadlet", &"a/".repeat(300_000), &["x".to_owned()]);
    assert!(found(&path).iter().any(|(code, ..)| code == "SB0449"));
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_file_holds_findings_are_inside_the_manifest(
        lines in proptest::collection::vec(
            r#"(services:|  a: |    image: |q\.io/a|Image=|\[Container\]|Volume=|a\.volume|\{\{ \.metadata\.name \}\}|\{\{ if \.a \}\}|[\t "'{}\[\]:&*|ä-]){0,6}"#, 0..8),
        kind in 0..3usize,
    ) {
        let (app_type, path) = [("compose", "docker-compose.yaml"), ("quadlet", "a.container"), ("vm", "vm.yaml")][kind];
        let text = with_content(app_type, path, &lines);
        let file_lines: Vec<&str> = text.lines().collect();
        for finding in parse_file("a.yaml", text.as_bytes()).diagnostics {
            let line = file_lines.get(usize::try_from(finding.line).unwrap() - 1);
            prop_assert!(line.is_some(), "{finding}");
            prop_assert!(usize::try_from(finding.column).unwrap() <= line.unwrap().chars().count() + 1, "{finding}");
        }
    }
}
