//! Checks that prose contains no phrase that is hard to understand. CONTRIBUTING.md, section Writing, gives the rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::conventions::source::{all_files_below, code, relative, root};

const DIRECTORIES: &[&str] =
    &["src", "migrations/functions", "tests", "benches", "scripts", "dashboards", "docker", "docs"];

/// The test also reads files without an extension, such as shell scripts and the Makefile.
const EXTENSIONS: &[&str] = &["rs", "sql", "md", "yaml", "yml", "toml", "sh", "py", "js", "mjs"];

/// Each line contains a phrase in lower case and a replacement. The sign `|` separates alternatives for one word.
const PHRASES: &str = include_str!("phrases.txt");

/// Permitted uses of a phrase: the file, the phrase in lower case, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("scripts/draw-dashboards", "is none", "the phrase is Python's `is None`"),
    ("tests/it/demo.rs", "nobody", "the word is the name of a system user"),
];

/// The test skips these files, because this file contains phrases as test data and other authors wrote the licenses.
const NOT_READ: &[&str] = &["tests/conventions/prose.rs", "LICENSE", "LICENSE-APACHE", "LICENSE-MIT"];

#[test]
fn prose_contains_no_phrase_that_a_reader_has_to_decode() {
    let mut faults = Vec::new();
    let mut needed = BTreeSet::new();
    for path in files() {
        let name = relative(&path);
        // Skips binary files, which are not valid UTF-8.
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

/// The prose of each line. In Rust, these are comments, literals and long function names. In other files, it is all text
/// outside code quotes and code blocks.
fn prose(path: &Path, text: &str) -> Vec<String> {
    let has_extension = |extension: &str| path.extension().is_some_and(|found| found == extension);
    let text = if has_extension("rs") { comments_literals_and_names(text) } else { text.to_owned() };
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let opens_or_closes = has_extension("md") && line.trim_start().starts_with("```");
        is_code ^= opens_or_closes;
        let parts = line.split('`').step_by(2).collect::<Vec<_>>();
        lines.push(if opens_or_closes || is_code { String::new() } else { parts.join(" ") });
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
        // A function name of four or more words is usually the name of a test and reads as a sentence.
        if name.matches('_').count() >= 3 {
            prose.push(' ');
            prose.push_str(&name.replace('_', " "));
        }
        prose.push('\n');
    }
    prose
}

/// The phrases that the line contains, each with its replacement.
fn phrases_in(line: &str) -> Vec<(String, &'static str)> {
    let line = line.to_lowercase();
    let words: Vec<&str> = line
        .split(|character: char| !is_in_word(character) && character != '\'')
        .filter(|word| !word.is_empty())
        .collect();
    let mut found = Vec::new();
    for (phrase, instead) in PHRASES.lines().filter_map(|line| line.split_once(": ")) {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        let is_phrase = |window: &&[&str]| {
            window.iter().zip(&phrase).all(|(word, alternatives)| alternatives.split('|').any(|one| one == *word))
        };
        found.extend(words.windows(phrase.len()).filter(is_phrase).map(|window| (window.join(" "), instead)));
    }
    found
}

fn is_in_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '-'
}
