//! Runs the fuzz targets on the stable toolchain, with their seeds and with thousands of changed seeds. The changes are the
//! same in each run. The seeds include inputs that the fuzzer found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::{TARGETS, Target};

/// The number of changed inputs per target. Each input takes microseconds.
const CASES: u32 = 6_000;
/// The number of changed inputs per costly target. Such a target opens a connection or checks several signatures for each
/// input.
const COSTLY_CASES: u32 = 500;
const COSTLY: [&str; 3] = ["endpoint_answer", "jwt", "push_subscription"];

/// The length of the longest changed input, in bytes. The fuzzer has the same limit.
const MAX_INPUT_BYTES: usize = 4_096;

/// Texts that often break parsers.
const TOKENS: &[&str] = &[
    "\0",
    "\\u0000",
    "\\\\u0000",
    "\\",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e999",
    "0.5",
    "18446744073709551616",
    "~",
    "/",
    "..",
    "%00",
    "%2e",
    "@",
    "#",
    "?",
    "&",
    "=",
    "+",
    "\r\n",
    "\t",
    " ",
    "é",
    "ß",
    "\u{202e}",
    "\u{fdfa}",
    "\u{ff0e}",
    "\u{10ffff}",
    "0x7f",
    "127.0.0.1",
    "[::1]",
    "[::ffff:7f00:1]",
    "xn--",
    "+99:99",
    "99999",
    "=",
    ".",
];

/// One change of an input.
#[derive(Debug, Clone)]
enum Edit {
    Byte(Index, u8),
    Token(Index, Index),
    Cut(Index, Index),
    Double(Index, Index),
    /// Keeps the start of the input and appends the end of another seed.
    Cross(Index, Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<(Index, u8)>().prop_map(|(at, byte)| Edit::Byte(at, byte)),
        any::<(Index, Index)>().prop_map(|(at, token)| Edit::Token(at, token)),
        any::<(Index, Index)>().prop_map(|(from, to)| Edit::Cut(from, to)),
        any::<(Index, Index)>().prop_map(|(from, to)| Edit::Double(from, to)),
        any::<(Index, Index, Index)>().prop_map(|(at, seed, from)| Edit::Cross(at, seed, from)),
    ]
}

impl Edit {
    fn apply(&self, mut input: Vec<u8>, seeds: &[Vec<u8>]) -> Vec<u8> {
        let end = input.len() + 1;
        match self {
            Self::Byte(at, byte) => {
                if let Some(length @ 1..) = Some(input.len()) {
                    input[at.index(length)] = *byte;
                }
            }
            Self::Token(at, token) => {
                let at = at.index(end);
                input.splice(at..at, TOKENS[token.index(TOKENS.len())].bytes());
            }
            Self::Cut(from, to) => {
                let (from, to) = (from.index(end), to.index(end));
                input.drain(from.min(to)..from.max(to));
            }
            Self::Double(from, to) => {
                let (from, to) = (from.index(end), to.index(end));
                input.extend_from_within(from.min(to)..from.max(to));
            }
            Self::Cross(at, seed, from) => {
                let seed = &seeds[seed.index(seeds.len())];
                input.truncate(at.index(end));
                input.extend_from_slice(&seed[from.index(seed.len() + 1)..]);
            }
        }
        input.truncate(MAX_INPUT_BYTES);
        input
    }
}

fn fuzz(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(part)
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.trim_end_matches(".rs").to_owned()).collect()
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let directory = fuzz("seeds").join(name);
    let seeds: Vec<_> = names_in(&directory).iter().map(|seed| fs::read(directory.join(seed)).unwrap()).collect();
    assert!(seeds.len() > 1, "{name} has too few seeds");
    seeds
}

fn check((name, target): Target) {
    let seeds = seeds(name);
    for seed in &seeds {
        target(seed);
    }
    let changed = (any::<Index>(), vec(edit(), 1..6)).prop_map(|(seed, edits)| {
        let seed = seeds[seed.index(seeds.len())].clone();
        edits.iter().fold(seed, |input, edit| edit.apply(input, &seeds))
    });
    let cases = if COSTLY.contains(&name) { COSTLY_CASES } else { CASES };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&changed, |input| {
        target(&input);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{name}: {error}");
    }
}

#[test]
fn the_properties_hold_for_seeds_and_changed_seeds() {
    std::thread::scope(|scope| {
        let running = TARGETS.map(|target| scope.spawn(move || check(target)));
        let failed = running.into_iter().filter_map(|target| target.join().err()).count();
        assert_eq!(failed, 0, "targets failed, see above");
    });
}

#[test]
fn every_target_has_a_file_and_seeds() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in(&fuzz("fuzz_targets")), names);
    assert_eq!(names_in(&fuzz("seeds")), names);
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no [[bin]]");
        let file = fs::read_to_string(fuzz(&format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(file.contains(&format!("fuzzing::{name}(")), "{name} calls another target");
    }
}
