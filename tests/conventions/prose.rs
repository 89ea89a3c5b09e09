//! Words and phrases that prose must not contain because a reader has to decode them: CONTRIBUTING.md, section Writing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::conventions::source::{all_files_below, code, relative, root};

const DIRECTORIES: &[&str] =
    &["src", "migrations/functions", "tests", "benches", "scripts", "dashboards", "docker", "docs"];

/// A file without an extension, such as `scripts/test` or `Makefile`, is read too.
const EXTENSIONS: &[&str] = &["rs", "sql", "md", "yaml", "yml", "toml", "sh", "py", "js", "mjs"];

/// Phrases in lower case, with `|` between alternatives for one word, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("whoever|whomever|whom", "name the actor: the caller, the worker, the process"),
    ("nobody|nobody's|somebody|somebody's|anybody|anybody's", "no process, a caller, another user"),
    ("it is no one", "rephrase"),
    ("a person's", "a user's"),
    ("anew", "again"),
    ("seldom", "rarely"),
    ("besides", "in addition, also, other than"),
    ("hence|thus|thereof|therein|thereby|wherein|whereby|wherefore|hereby", "so, because of this"),
    ("lest|albeit|whilst", "so that ... not, although, while"),
    ("is|are|too dear", "is slow, is expensive"),
    ("dear once", "is slow, is expensive"),
    ("is|are|was|were none", "does not exist, is absent"),
    ("is|are|be|was told", "is reported, is notified"),
    ("such a|an one", "repeat the noun"),
    ("such ones", "repeat the noun"),
    ("what comes|came|waits", "name the thing: requests, events, ready deliveries"),
    ("what is|was there|ready", "name the thing"),
    ("where much comes", "under load"),
    ("for company", "to fill a batch"),
    ("of its|his|their|our|your own accord", "automatically"),
    ("by itself|themselves", "automatically"),
    ("fall|falls|fell|goes|went silent", "stops responding"),
    ("beside its place", "next to it"),
    ("in the middle", "while ... is in progress"),
    ("make|makes|made|making ahead|aside", "created in advance"),
    ("as it|they come|comes|go|goes", "unchanged, as received"),
    ("look|looks|looked back|beside|through", "scans, re-scans"),
    ("the way in|of|out", "the ingest path, the flow"),
    ("what became|becomes of", "the outcome of, the status of"),
    ("how it|they|that stands|stand|ended|ends|end", "the state, the result"),
    ("give|gives|gave|given|giving back", "release, return"),
    ("give|gives|gave|given|giving it|them back", "release, return"),
    ("put|puts|putting back", "release"),
    ("put|puts|putting it|them back", "release"),
    ("hand|hands|handed|handing out|over|on", "dispatch, pass"),
    ("hand|hands|handed|handing it|them out|over|on", "dispatch, pass"),
    ("so many|much|long as", "as much as, if"),
    ("so many", "that many, or rephrase"),
    ("from then|there|now|when on", "after that, starting at"),
    ("to its|their end", "to completion"),
    ("at its|their beginning|end", "at the start of, at the end of"),
    ("is|are|of ours", "internal, the service's"),
    ("must|may|need|can not be felt|said|known", "rephrase"),
    ("and he|she|it|they is|are|was gone", "no longer exists"),
    ("end|ends|ended it|itself|themselves as|by|in", "finishes with, is recorded as"),
    ("as|like you|one like", "your choice"),
    ("to the letter", "exactly"),
    ("at hand", "available"),
    ("in clear", "in plaintext"),
    ("in the clear", "in plaintext"),
    ("stand|stands in|at|on|for|behind|before|beside", "is in, is at, is listed in"),
    ("stood in|at|on", "is in, is at, is listed in"),
    ("take|takes|has its turn", "is scheduled"),
    ("take|have turns", "round-robin"),
    ("all|everything else", "name the rest"),
    ("in one piece", "as a unit"),
];

/// Files with a phrase that they need: file, phrase as it is found, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[("scripts/draw-dashboards", "is none", "it is Python's `is None`")];

/// Files that are not read: this one has the phrases, the licenses are others' texts.
const NOT_READ: &[&str] = &["tests/conventions/prose.rs", "LICENSE", "LICENSE-APACHE", "LICENSE-MIT"];

#[test]
fn prose_contains_no_phrase_that_a_reader_has_to_decode() {
    let mut faults = Vec::new();
    let mut needed = BTreeSet::new();
    for path in files() {
        let name = relative(&path);
        // A file that is not UTF-8 is not text.
        let Some(text) = fs::read_to_string(&path).ok().filter(|_| !NOT_READ.contains(&name.as_str())) else {
            continue;
        };
        for (number, line) in (1..).zip(prose(&path, &text)) {
            for (phrase, instead) in phrases_in(&line) {
                let exception =
                    EXCEPTIONS.iter().position(|(file, excepted, _)| *file == name && *excepted == phrase.as_str());
                needed.extend(exception);
                if exception.is_none() {
                    faults.push(format!("{name}:{number}: \"{phrase}\": write {instead}"));
                }
            }
        }
    }
    let unneeded = EXCEPTIONS.iter().enumerate().filter(|(index, _)| !needed.contains(index));
    faults.extend(unneeded.map(|(_, exception)| format!("no longer needed: {exception:?}")));
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn phrases_are_found_in_prose_only() {
    let rust = "/// Nobody is\nfn what_waits_is_told_once(whom: &str) {\n    panic!(\"held as  Long, or anew\"); // `whom`\n}\n";
    let found: Vec<Vec<String>> = prose(Path::new("a.rs"), rust)
        .iter()
        .map(|line| phrases_in(line).into_iter().map(|(phrase, _)| phrase).collect())
        .collect();
    assert_eq!(found, [vec!["nobody"], vec!["is told", "what waits"], vec!["anew"], vec![]]);
    let markdown = prose(Path::new("a.md"), "one `anew`\n```sh\nwhom\n```\ntwo\n");
    assert_eq!(markdown, ["one  ", "", "", "", "two"]);
    assert!(phrases_in("honest, knobody and non-thus").is_empty());
}

fn files() -> Vec<PathBuf> {
    let below = DIRECTORIES.iter().flat_map(|directory| all_files_below(&root().join(directory)));
    let top =
        fs::read_dir(root()).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    let is_prose =
        |path: &PathBuf| path.extension().is_none_or(|found| EXTENSIONS.iter().any(|extension| found == *extension));
    let mut files: Vec<PathBuf> = below.chain(top).filter(is_prose).collect();
    files.sort();
    files
}

/// The prose of each line: in Rust comments, literals and names of functions; elsewhere everything outside code in Markdown.
fn prose(path: &Path, text: &str) -> Vec<String> {
    let has_extension = |extension: &str| path.extension().is_some_and(|found| found == extension);
    let text = if has_extension("rs") { comments_literals_and_names(text) } else { text.to_owned() };
    let mut in_fence = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_fence = has_extension("md") && line.trim_start().starts_with("```");
        in_fence ^= is_fence;
        let parts = line.split('`').step_by(2).collect::<Vec<_>>();
        lines.push(if is_fence || in_fence { String::new() } else { parts.join(" ") });
    }
    lines
}

fn comments_literals_and_names(text: &str) -> String {
    let mut prose = String::with_capacity(text.len());
    let code = code(text);
    for (line, code) in text.lines().zip(code.lines()) {
        let visible = line.chars().zip(code.chars());
        prose.extend(visible.map(|(character, code)| if code == ' ' { character } else { ' ' }));
        let name = code.split_once("fn ").map_or("", |(_, rest)| rest);
        let name = name.split(|character: char| !is_in_word(character)).next().unwrap_or_default();
        // A name of four words or more is the sentence of a test.
        if name.matches('_').count() >= 3 {
            prose.push(' ');
            prose.push_str(&name.replace('_', " "));
        }
        prose.push('\n');
    }
    prose
}

/// The phrases that the line contains, each with what to write instead.
fn phrases_in(line: &str) -> Vec<(String, &'static str)> {
    let line = line.to_lowercase();
    let words: Vec<&str> = line
        .split(|character: char| !is_in_word(character) && character != '\'')
        .filter(|word| !word.is_empty())
        .collect();
    let mut found = Vec::new();
    for (phrase, instead) in PHRASES {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        let is_phrase = |window: &&[&str]| {
            window.iter().zip(&phrase).all(|(word, alternatives)| alternatives.split('|').any(|one| one == *word))
        };
        found.extend(words.windows(phrase.len()).filter(is_phrase).map(|window| (window.join(" "), *instead)));
    }
    found
}

fn is_in_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '-'
}
