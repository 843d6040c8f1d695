//! Runs the fuzz oracles on the stored inputs and on variants of them: seconds, without a fuzzer.

#[path = "../fuzz/oracles/mod.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use the same files as a library")]
mod oracles;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use oracles::ORACLES;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The stored inputs of a target, with their files.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let found = fs::read_dir(fuzz().join("corpus").join(target)).unwrap();
    let mut paths: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_oracle_has_a_target_and_inputs() {
    let names = |folder: &str| -> BTreeSet<_> {
        let found = fs::read_dir(fuzz().join(folder)).unwrap();
        found.map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned()).collect()
    };
    let oracles: BTreeSet<_> = ORACLES.iter().map(|(name, _)| name.into()).collect();
    assert_eq!(names("fuzz_targets"), oracles);
    assert_eq!(names("corpus"), oracles);
}

#[test]
fn the_oracles_accept_every_stored_input() {
    for (name, oracle) in ORACLES {
        for (path, input) in corpus(name) {
            assert!(std::panic::catch_unwind(|| oracle(&input)).is_ok(), "{}", path.display());
        }
    }
}

/// A change to a stored input: bytes removed at one place, and others inserted.
type Edit = (Index, usize, Vec<u8>);

fn edited(mut input: Vec<u8>, edits: Vec<Edit>) -> Vec<u8> {
    for (place, cut, put) in edits {
        let from = place.index(input.len() + 1);
        let to = (from + cut).min(input.len());
        input.splice(from..to, put);
    }
    input
}

#[test]
fn the_oracles_accept_variants_of_the_stored_inputs() {
    let config = ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() };
    for (name, oracle) in ORACLES {
        let bytes = prop_oneof![select(b"\"\\{}[]:,.=&%;-_ 0aA\n".as_slice()), any::<u8>()];
        let edit = (any::<Index>(), 0_usize..4, proptest::collection::vec(bytes, 0..6));
        let stored: Vec<_> = corpus(name).into_iter().map(|(_, input)| input).collect();
        let inputs = (select(stored), proptest::collection::vec(edit, 0..4));
        let run = proptest::test_runner::TestRunner::new(config.clone()).run(&inputs, |(input, edits)| {
            oracle(&edited(input, edits));
            Ok(())
        });
        assert!(run.is_ok(), "{name}: {}", run.unwrap_err());
    }
}
