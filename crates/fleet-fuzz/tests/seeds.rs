//! Every target takes its seeds, and short random inputs, without a broken promise. An input that libFuzzer found
//! becomes a seed once its cause is mended.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::path::{Path, PathBuf};

use fleet_fuzz::TARGETS;
use proptest::prelude::*;

fn seeds(target: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_target_takes_its_seeds() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 2, "{name} has seeds");
        for seed in seeds {
            let bytes = std::fs::read(&seed).unwrap();
            let done = std::panic::catch_unwind(|| target(&bytes));
            assert!(done.is_ok(), "{name} breaks a promise with {}", seed.display());
        }
    }
}

#[test]
fn every_directory_of_seeds_has_a_target() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name}");
    }
}

proptest! {
    #[test]
    fn every_target_takes_seeds_with_a_few_bytes_changed(
        which in 0..TARGETS.len(), seed in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let (name, target) = TARGETS[which];
        let seeds = seeds(name);
        let mut bytes = std::fs::read(seed.get(&seeds)).unwrap();
        for (at, byte) in changes {
            if !bytes.is_empty() {
                *at.get_mut(&mut bytes) = byte;
            }
        }
        target(&bytes);
    }
}
