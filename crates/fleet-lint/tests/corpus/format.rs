//! The whole format: manifests that use every field, and what is said when one is wrong.
//!
//! `«SB0000»` stands where a finding with that code is expected, and is not part of the text.

use fleet_lint::parse_file;
use fleet_model::Manifest;

use super::check;

/// Everything that this version renders.
pub(super) const FULL: &str = "\
apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata:
  name: kiosks
  annotations:
    Example.com/Team: \"Retail, Berlin\"
spec:
  selector:
    matchExpressions:
      - {key: role, operator: In, values: [kiosk]}
      - {key: retired, operator: DoesNotExist}
  template:
    metadata:
      labels: {made: by-hand}
    spec:
      os:
        image: quay.io/acme/os:{{ .metadata.labels.stage }}
      applications:
        - name: shop
          appType: compose
          inline:
            - path: docker-compose.yaml
              content: |
                services:
                  web:
                    image: quay.io/acme/web:1
          envVars: {STAGE: \"{{ .metadata.labels.stage }}\"}
        - name: proxy
          appType: quadlet
          image: quay.io/acme/proxy:1
          runAs: flightctl
          volumes:
            - name: certs
              reclaimPolicy: Retain
              image: {reference: \"quay.io/acme/certs:1\", pullPolicy: Always}
        - name: cache
          appType: container
          image: quay.io/acme/cache:1
          ports: [\"6379:6379\"]
          resources:
            limits: {cpu: \"0.5\", memory: 256m}
          volumes:
            - name: data
              mount: {path: /data}
        - name: charts
          appType: helm
          image: quay.io/acme/chart:1
          namespace: shop
          values: {replicas: 2, factor: 1.5, nested: {list: [1, a]}}
          valuesFiles: [values-prod.yaml]
        - name: legacy
          appType: vm
          image: quay.io/acme/legacy-vm:1
          publishPorts: [\"2222:22/tcp\"]
      systemd:
        matchPatterns: [sshd.service, \"podman-*.service\"]
      resources:
        - monitorType: CPU
          samplingInterval: 30s
          alertRules:
            - {severity: Warning, duration: 10m, percentage: 80, description: busy}
            - {severity: Critical, duration: 10m, percentage: 97.5, description: very busy}
        - monitorType: Disk
          path: /var
          samplingInterval: 1m
          alertRules: []
      updatePolicy:
        downloadSchedule: {at: \"0 2 * * *\", timeZone: Europe/Berlin, startGraceDuration: 1h}
        updateSchedule: {at: \"0 3 * * 1-5\", startGraceDuration: 30m}
";

/// Everything that waits.
pub(super) const WAITS: &str = "\
apiVersion: flightctl.io/v1beta1
kind: Fleet
metadata: {name: later}
spec:
  selector: {matchLabels: {role: later}}
  «SB0401»rolloutPolicy:
    deviceSelection:
      strategy: BatchSequence
      sequence:
        - selector: {matchLabels: {site: berlin}}
          limit: 1
        - limit: 20%
          successThreshold: 95%
    successThreshold: 90%
    defaultUpdateTimeout: 2h
    disruptionBudget:
      groupBy: [site]
      maxUnavailable: 2
  template:
    spec:
      os:
        «SB0401»catalogItemRef: {catalog: acme, item: os, version: 1.0.0, channel: stable}
      config:
        - name: web
          httpRef:
            repository: web
            suffix: /{{ .metadata.name }}?x=1
            filePath: /etc/web.conf
        - name: secret
          secretRef:
            name: tls
            namespace: \"{{ .metadata.labels.site }}\"
            mountPath: /etc/tls
            user: root
        - name: branch
          gitRef:
            repository: shared
            targetRevision: \"{{ .metadata.labels.stage }}\"
            path: etc
        - name: more
          inline: [{path: /etc/more, content: x}]
";

pub(super) const GIT: &str = "\
apiVersion: flightctl.io/v1beta1
kind: Repository
metadata: {name: shared}
spec:
  type: git
  url: https://git.example.com:8443/shared.git
";

const HTTP: &str = "\
apiVersion: flightctl.io/v1beta1
kind: Repository
metadata: {name: web}
spec:
  type: http
  url: https://files.example.com/base
  validationSuffix: /healthz
  httpConfig: {ca.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==, skipServerVerification: false}
";

pub(super) const OCI: &str = "\
apiVersion: flightctl.io/v1beta1
kind: Repository
metadata: {name: images}
spec:
  type: oci
  registry: \"[fd00::1]:5000\"
  scheme: http
  accessMode: ReadWrite
  skipServerVerification: true
  ca.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==
  baseImages:
    - {imageName: acme/os, tags: [\"1\", latest], displayName: The system}
    - {imageName: acme/small, tags: [v1.2]}
";

pub(super) const SYNC: &str = "\
apiVersion: flightctl.io/v1beta1
kind: ResourceSync
metadata: {name: more}
spec:
  type: fleet
  repository: shared
  targetRevision: release/1.x
  path: fleets
";

const POLICY: &str = "\
apiVersion: shorebase/v1alpha1
kind: SyncPolicy
metadata: {name: careful}
spec:
  sources: [root, stores]
  limits:
    removedFleets: {count: 2}
    unmanagedDevices: {count: 10, percent: 5}
    changedDevicesWithoutRollout: {percent: 20}
  forcedPush: Hold
  deletionGracePeriod: 1h
";

/// The text without marks, and what the marks say.
pub(super) fn marked(text: &str) -> (String, Vec<(String, u32, u32)>) {
    let (mut plain, mut expected) = (String::new(), Vec::new());
    let (mut line, mut column, mut rest) = (1, 1, text);
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '«' => {
                let (code, after) = rest.split_once('»').unwrap();
                expected.push((code.to_owned(), line, column));
                rest = after;
                continue;
            }
            '\n' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
        plain.push(character);
    }
    expected.sort_by(|a, b| (a.1, a.2, &a.0).cmp(&(b.1, b.2, &b.0)));
    (plain, expected)
}

fn check_marked(name: &str, text: &str) {
    let (plain, expected) = marked(text);
    let expected: Vec<(&str, u32, u32)> = expected.iter().map(|(code, l, c)| (code.as_str(), *l, *c)).collect();
    check(name, "a.yaml", plain.as_bytes(), &expected);
}

/// Checks all changes and tells of all that are not as expected.
pub(super) fn check_changes(base: &str, changes: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (from, to) in changes {
        assert_eq!(base.matches(from).count(), 1, "the case changes one place: {from:?}");
        let (plain, expected) = marked(&base.replacen(from, to, 1));
        for finding in parse_file("a.yaml", plain.as_bytes()).diagnostics {
            let message = &finding.message;
            assert!(!message.contains("does not fit:") && !message.contains("[a-z"), "not for people: {message}");
        }
        let found = super::found("a.yaml", plain.as_bytes());
        if found != expected {
            wrong.push(format!("{to:?}: found {found:?}, expected {expected:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_field_of_the_format_is_read_and_written_out_the_same() {
    for text in [FULL, WAITS, GIT, HTTP, OCI, SYNC, POLICY] {
        check_marked("base", text);
        let file = parse_file("a.yaml", marked(text).0.as_bytes());
        let parsed = &file.manifests[0];
        let spec = match &parsed.manifest {
            Manifest::Fleet(fleet) => serde_json::to_value(&fleet.spec),
            Manifest::Device(device) => serde_json::to_value(&device.spec),
            Manifest::Repository(repository) => serde_json::to_value(&repository.spec),
            Manifest::ResourceSync(sync) => serde_json::to_value(&sync.spec),
            Manifest::EnrollmentPolicy(policy) => serde_json::to_value(&policy.spec),
            Manifest::SyncPolicy(policy) => serde_json::to_value(&policy.spec),
        };
        // As text, which tells 1 from 1.0.
        assert_eq!(spec.unwrap().to_string(), parsed.document["spec"].to_string());
    }
}

#[test]
fn a_text_of_the_wrong_form_is_told_in_words() {
    let text = marked(&SYNC.replace("release/1.x", "-x")).0;
    let finding = parse_file("a.yaml", text.as_bytes()).diagnostics.remove(0);
    assert_eq!(finding.message, "`targetRevision`: \"-x\" is not the name of a branch, tag or commit");
    assert_eq!(finding.pointer, "/spec/targetRevision");
    let text = marked(&OCI.replace("[v1.2]", "[\"-v\"]")).0;
    let finding = parse_file("a.yaml", text.as_bytes()).diagnostics.remove(0);
    assert!(finding.message.contains("is not a tag: at most 128"), "{}", finding.message);
}

#[test]
fn what_waits_says_so_and_what_has_no_effect_does_not_wait() {
    let waits = |text: &str| parse_file("a.yaml", marked(text).0.as_bytes()).manifests.remove(0).waits;
    assert_eq!(waits(FULL), None);
    assert_eq!(waits(POLICY), None);
    assert_eq!(
        waits(WAITS).as_deref(),
        Some(
            "this version of the service cannot carry out `spec.rolloutPolicy` and `spec.template.spec.os.catalogItemRef` yet; the fleet keeps what it has"
        )
    );
    assert_eq!(
        waits(&SYNC.replace("type: fleet", "type: catalog")).as_deref(),
        Some("this version of the service cannot carry out `spec.type: catalog` yet; nothing is brought in")
    );
    assert_eq!(waits(&GIT.replace("https://git.example.com:8443/", "git@git.example.com:")), None);
}

#[test]
fn parts_of_a_device_are_strict() {
    check_changes(
        FULL,
        &[
            ("os:\n        image:", "os:\n        «SB0301»imag:"),
            (
                "os:\n        image:",
                "os:\n        «SB0306»«SB0401»catalogItemRef: {catalog: a, item: b, version: c}\n        image:",
            ),
            ("        - name: shop\n          appType: compose", "        - «SB0302»name: shop"),
            (
                "        - name: shop\n          appType: compose",
                "        - name: shop\n          «SB0301»apptype: compose",
            ),
            ("appType: compose", "appType: «SB0304»compos"),
            ("appType: compose", "appType: «SB0303»1"),
            ("          image: quay.io/acme/cache:1\n", "          «SB0301»inline: []\n"),
            (
                "        - name: cache\n          appType: container\n          image: quay.io/acme/cache:1\n",
                "        - «SB0306»name: cache\n          appType: container\n",
            ),
            (
                "- name: proxy\n          appType: quadlet",
                "- «SB0306»name: proxy\n          inline: [{path: a.container}]\n          appType: quadlet",
            ),
            ("          envVars: {STAGE:", "          «SB0301»runAs: root\n          envVars: {STAGE:"),
            ("          namespace: shop", "          «SB0301»envVars: {A: b}\n          namespace: shop"),
            (
                "          publishPorts:",
                "          «SB0301»catalogItemRef: {catalog: a, item: b, version: c}\n          publishPorts:",
            ),
            ("          publishPorts:", "          «SB0211»desiredState: running\n          publishPorts:"),
            ("          publishPorts:", "          «SB0211»restartGeneration: 1\n          publishPorts:"),
            ("          publishPorts:", "          «SB0211»annotations: {a: b}\n          publishPorts:"),
            ("cpu: \"0.5\"", "cpu: «SB0303»0.5"),
            ("reclaimPolicy: Retain", "reclaimPolicy: «SB0304»Delete"),
            ("pullPolicy: Always", "pullPolicy: «SB0304»always"),
            ("image: {reference: \"quay.io/acme/certs:1\", pullPolicy: Always}", "image: «SB0306»{pullPolicy: Always}"),
            ("mount: {path: /data}", "mount: «SB0302»{}"),
            ("values: {replicas: 2, factor: 1.5, nested: {list: [1, a]}}", "values: «SB0303»[]"),
            ("monitorType: CPU", "monitorType: «SB0304»Cpu"),
            ("        - monitorType: CPU\n", "        - «SB0301»path: /x\n          monitorType: CPU\n"),
            ("- monitorType: Disk\n          path: /var\n", "- «SB0302»monitorType: Disk\n"),
            ("severity: Warning", "severity: «SB0304»warning"),
            (
                "{severity: Warning, duration: 10m, percentage: 80, description: busy}",
                "«SB0302»{severity: Warning, duration: 10m, percentage: 80}",
            ),
            ("{at: \"0 3 * * 1-5\", startGraceDuration: 30m}", "«SB0302»{at: \"0 3 * * 1-5\"}"),
            ("Example.com/Team", "«SB0422»Example.com/Team/x"),
            ("{key: retired, operator: DoesNotExist}", "{key: retired, operator: DoesNotExist, «SB0403»values: [a]}"),
            ("{key: role, operator: In, values: [kiosk]}", "{key: role, operator: In, values: [«SB0403»\"a b\"]}"),
            ("{key: role, operator: In, values: [kiosk]}", "«SB0403»{key: role, operator: In}"),
        ],
    );
}

#[test]
fn what_waits_is_checked_all_the_same() {
    check_changes(
        WAITS,
        &[
            ("strategy: BatchSequence", "strategy: «SB0304»Batches"),
            (
                "deviceSelection:\n      strategy: BatchSequence\n      sequence",
                "deviceSelection:\n      «SB0302»sequence",
            ),
            ("limit: 20%", "limit: «SB0303»[]"),
            ("limit: 1\n", "limit: «SB0305»-1\n"),
            ("successThreshold: 95%", "successThreshold: «SB0303»95"),
            ("successThreshold: 90%", "«SB0301»successTreshold: 90%"),
            ("{site: berlin}", "{site: «SB0402»\"a b\"}"),
            ("filePath: /etc/web.conf", "filePath: «SB0405»etc/web.conf"),
            ("filePath: /etc/web.conf", "filePath: «SB0405»/etc/flightctl/certs/a"),
            ("path: /etc/more", "path: «SB0409»/etc/web.conf"),
            ("path: /etc/more", "path: «SB0428»/etc/web.conf/more"),
            ("path: /etc/more", "path: «SB0428»/etc/tls"),
            ("path: /etc/more", "path: /etc/tls/more"),
            ("path: /etc/more", "path: «SB0405»/etc/web.conf/"),
            ("mountPath: /etc/tls", "mountPath: «SB0428»/etc/web.conf"),
            ("suffix: /{{ .metadata.name }}", "suffix: /{{ «SB0408».metadata.nam }}"),
            ("repository: web", "repository: «SB0508»."),
            ("repository: web", "repository: «SB0413»\"{{ .metadata.name }}\""),
            ("            repository: web\n            suffix", "            «SB0302»suffix"),
            ("name: tls", "name: «SB0423»TLS"),
            ("mountPath: /etc/tls", "mountPath: «SB0405»/etc/tls/"),
            ("mountPath: /etc/tls", "mountPath: «SB0405»etc"),
            ("mountPath: /etc/tls", "mountPath: /"),
            ("user: root", "user: «SB0406»\"a b\""),
            ("{{ .metadata.labels.stage }}", "{{ «SB0408»range .metadata.labels }}"),
        ],
    );
}

#[test]
fn repositories_have_the_rules_of_their_types() {
    check_changes(
        GIT,
        &[
            ("https://git.example.com:8443/shared.git", "git@git.example.com:shared.git"),
            ("https://git.example.com:8443/shared.git", "ssh://git@git.example.com/shared.git"),
            ("https://git.example.com:8443/shared.git", "«SB0416»\"git.example.com:\""),
            ("https://git.example.com:8443/shared.git", "«SB0416»git.example.com/shared.git"),
            ("https://git.example.com:8443/shared.git", "«SB0416»https://git.example.com:x/shared.git"),
            ("https://git.example.com:8443/shared.git", "«SB0416»\"https://git.example.com/a b\""),
            (
                "  type: git\n",
                "  type: git\n  httpConfig: {}\n  «SB0424»sshConfig: {«SB0401»skipServerVerification: true}\n",
            ),
            ("  type: git\n", "  type: git\n  sshConfig: {«SB0410»«SB0427»privateKeyPassphrase: hello}\n"),
            ("  type: git\n", "  type: git\n  httpConfig: {«SB0410»«SB0427»tls.crt: aGk=}\n"),
        ],
    );
    check_changes(
        HTTP,
        &[
            ("https://files.example.com/base", "«SB0416»ssh://files.example.com/base"),
            ("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==", "«SB0407»aGVsbG8="),
            ("  type: http\n", "  type: http\n  «SB0301»sshConfig: {}\n"),
        ],
    );
    check_changes(
        OCI,
        &[
            ("\"[fd00::1]:5000\"", "«SB0425»https://quay.io"),
            ("\"[fd00::1]:5000\"", "«SB0425»quay.io/acme"),
            ("scheme: http", "scheme: «SB0304»ftp"),
            ("accessMode: ReadWrite", "accessMode: «SB0304»Write"),
            ("  scheme: http\n", "  «SB0410»ociAuth: {authType: docker, username: a, password: b}\n"),
            ("ca.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==", "ca.crt: «SB0407»LS0t"),
            ("acme/small", "«SB0426»acme/os"),
            ("latest]", "«SB0426»\"1\"]"),
            ("[v1.2]", "[«SB0307»\"-v\"]"),
            ("[v1.2]", "«SB0305»[]"),
        ],
    );
    check_changes(
        SYNC,
        &[
            ("type: fleet", "type: «SB0401»catalog"),
            ("type: fleet", "type: «SB0304»fleets"),
            ("release/1.x", "«SB0307»-x"),
            ("path: fleets", "path: «SB0414»../fleets"),
        ],
    );
}

#[test]
fn sync_policies_have_bounds() {
    check_changes(
        POLICY,
        &[
            ("[root, stores]", "[root, «SB0426»root]"),
            ("[root, stores]", "[«SB0307»Root]"),
            ("{count: 2}", "«SB0302»{}"),
            ("percent: 5}", "percent: «SB0305»101}"),
            ("{percent: 20}", "{«SB0301»count: 20, percent: 20}"),
            ("forcedPush: Hold", "forcedPush: «SB0304»hold"),
            ("deletionGracePeriod: 1h", "deletionGracePeriod: «SB0307»1 hour"),
        ],
    );
}

#[test]
fn a_missing_or_misspelt_discriminator_is_one_finding_with_the_fix() {
    let of = |from: &str, to: &str| {
        let text = FULL.replacen(from, to, 1);
        let mut found = parse_file("a.yaml", text.as_bytes()).diagnostics;
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0).hint.unwrap()
    };
    assert_eq!(of("appType: container", "appType: containr"), "did you mean `container`?");
    assert_eq!(of("appType: container", "apptype: container"), "did you mean `appType`?");
    assert_eq!(of("          appType: container\n", ""), "give `appType`: compose, quadlet, container, helm, vm");
    assert_eq!(of("monitorType: Disk", "monitorType: disk"), "did you mean `Disk`?");
    assert_eq!(
        of("          valuesFiles: [values-prod.yaml]", "          ports: []"),
        "`ports` is a field of appType container"
    );
    assert_eq!(of("          runAs: flightctl", "          runas: flightctl"), "did you mean `runAs`?");
}
