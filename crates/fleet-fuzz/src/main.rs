//! One program for all targets: libFuzzer's own `main`, and the target that `FLEET_FUZZ_TARGET` names.
//! tests/fuzz.sh builds and runs it.
#![no_main]

use std::sync::OnceLock;

use fleet_fuzz::{TARGETS, Target};

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("FLEET_FUZZ_TARGET").unwrap_or_default();
        let known = TARGETS.iter().find(|(known, _)| *known == name);
        known.map(|(_, target)| *target).expect("FLEET_FUZZ_TARGET names one of fleet_fuzz::TARGETS")
    })
}

/// A panic that leaves a target ends the run in any case. Those of the library that lays out YAML do not leave it:
/// fleet-fmt catches them, so they are no finding here and are not printed.
fn let_caught_panics_pass() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map(|place| place.file()).unwrap_or_default();
        if !["pretty_yaml-", "rowan-", "tiny_pretty-", "yaml_parser-"].iter().any(|library| file.contains(library)) {
            print(panic);
        }
    }));
}

libfuzzer_sys::fuzz_target!(init: let_caught_panics_pass(), |data: &[u8]| chosen()(data));
