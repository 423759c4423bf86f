//! What `fleetctl render` and `fleetctl plan` say before the merge is what the service does after it.

use std::process::Output;

use serde_json::Value;

use crate::commits::FILES;
use crate::harness::{Installation, eventually};

/// A commit's name, what it changes, and how many devices get another document.
type Step<'a> = (&'a str, &'a dyn Fn(&Installation), usize);

/// Makes the inventory in Git say of each enrolled device what the service knows of it.
fn write_inventory(there: &Installation, devices: &[(&str, &str)]) {
    for (hostname, name) in devices {
        there.repo.write(
            &format!("devices/{hostname}.yaml"),
            format!(
                "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  name: {name}\n  labels:\n    alias: {hostname}\n    \
                 role: kiosk\n    site: berlin\n"
            ),
        );
    }
}

fn name_of(there: &Installation, hostname: &str) -> String {
    let object = eventually("the device", || there.device_object(hostname));
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

fn json(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON, but: {error}"))
}

/// The digest of the plan that the service keeps with its newest commit.
fn kept_digest(there: &Installation, commit: &str) -> String {
    there.wait_applied(commit);
    let source = there.object("sources", "main").unwrap();
    assert_eq!(source["status"]["plan"]["commit"], commit, "{source:#}");
    source["status"]["plan"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn render_gives_the_bytes_that_the_service_serves() {
    let there = Installation::start(FILES);
    let _agents = [there.start_device("kiosk-1"), there.start_device("kiosk-2")];
    let names = ["kiosk-1", "kiosk-2"].map(|hostname| (hostname, name_of(&there, hostname)));
    write_inventory(&there, &names.each_ref().map(|(hostname, name)| (*hostname, name.as_str())));
    // Everything that may have placeholders, and an application for agents that can run one.
    there.repo.write(
        "fleets/apps.yaml",
        "apiVersion: flightctl.io/v1beta1\nkind: Fleet\nmetadata:\n  name: apps\nspec:\n  selector:\n    matchLabels: {role: app}\n  \
         template:\n    spec:\n      os: {image: 'quay.io/acme/os:v1-{{ .metadata.labels.site }}'}\n      applications:\n        \
         - name: web\n          appType: container\n          image: 'quay.io/acme/web:{{ .metadata.labels.site }}'\n          \
         envVars: {SITE: '{{ upper .metadata.labels.site }}'}\n",
    );
    let device = there.repo.path().join("devices/kiosk-2.yaml");
    let moved = std::fs::read_to_string(&device).unwrap().replace("role: kiosk", "role: app");
    std::fs::write(&device, moved).unwrap();
    let commit = there.repo.commit("an application");
    there.wait_applied(&commit);
    for (hostname, name) in &names {
        let output = there.offline(&["render", name, "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let served = there.sql(&format!(
            "select convert_from(r.body, 'UTF8') from devices d join rendered.specs r on r.digest = d.rendered_digest \
             where d.name = '{name}'"
        ));
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), served.trim_end(), "{hostname}");
    }
    let app = json(&there.offline(&["render", &names[1].1, "-o", "json"]));
    assert_eq!(app["applications"][0]["image"], "quay.io/acme/web:berlin");
    assert_eq!(app["applications"][0]["envVars"]["SITE"], "BERLIN");
    assert_eq!(app["os"]["image"], "quay.io/acme/os:v1-berlin");
}

#[test]
fn the_plan_of_a_pull_request_is_the_plan_that_the_service_keeps() {
    let there = Installation::start(FILES);
    let _agents = [there.start_device("kiosk-1"), there.start_device("kiosk-2")];
    let names = ["kiosk-1", "kiosk-2"].map(|hostname| (hostname, name_of(&there, hostname)));
    write_inventory(&there, &names.each_ref().map(|(hostname, name)| (*hostname, name.as_str())));
    let mut base = there.repo.commit("inventory");
    there.wait_applied(&base);

    let steps: [Step<'_>; 6] = [
        ("contents", &|there| _ = there.repo.write("config/kiosk/etc/motd", "second\n"), 2),
        (
            "a label",
            &|there| {
                let file = there.repo.path().join("devices/kiosk-1.yaml");
                let text = std::fs::read_to_string(&file).unwrap().replace("site: berlin", "site: paris");
                std::fs::write(file, text).unwrap();
            },
            1,
        ),
        (
            "a moved file",
            &|there| {
                there.repo.git(&["mv", "fleets/kiosks.yaml", "fleets/screens.yaml"]);
            },
            0,
        ),
        (
            "another owner",
            &|there| {
                let text = std::fs::read_to_string(there.repo.path().join("fleets/screens.yaml")).unwrap();
                let text = text.replace("name: kiosks", "name: gates").replace("role: kiosk", "role: gate");
                there.repo.write("fleets/gates.yaml", text.replace("at {{", "gate at {{"));
                let file = there.repo.path().join("devices/kiosk-2.yaml");
                let text = std::fs::read_to_string(&file).unwrap().replace("role: kiosk", "role: gate");
                std::fs::write(file, text).unwrap();
            },
            1,
        ),
        ("words only", &|there| _ = there.repo.write("README.md", "About\n"), 0),
        ("a fleet that goes", &|there| _ = there.repo.remove("fleets/gates.yaml"), 0),
    ];
    for (what, change, devices) in steps {
        change(&there);
        let head = there.repo.commit(what);
        let range = format!("{base}..{head}");
        let planned = json(&there.offline(&["plan", &range, "-o", "json"]));
        let digest = planned["plan"]["digest"].as_str().unwrap_or_else(|| panic!("{what}: {planned:#}")).to_owned();
        assert_eq!(planned["plan"]["summary"]["devices"]["changed"], devices, "{what}: {planned:#}");
        assert_eq!(kept_digest(&there, &head), digest, "{what}: {planned:#}");
        base = head;
    }

    // The same with the devices that the service knows. It is asked before the commit arrives there.
    there.repo.write("config/kiosk/etc/motd", "third\n");
    there.repo.git(&["checkout", "--quiet", "-b", "change"]);
    let head = there.repo.commit("another greeting");
    let live = json(&there.online(&["plan", &format!("{base}..{head}"), "-o", "json"]));
    there.repo.git(&["checkout", "--quiet", "main"]);
    there.repo.git(&["merge", "--quiet", "--ff-only", "change"]);
    assert_eq!(kept_digest(&there, &head), live["plan"]["digest"].as_str().unwrap(), "{live:#}");
    let described = there.fleetctl_ok(&["describe", "source", "main"]);
    assert!(described.contains(&live["plan"]["digest"].as_str().unwrap()[..12]), "{described}");
}
