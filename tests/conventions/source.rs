//! Finds source files, and removes comments and the contents of literals from Rust source.

use std::fs;
use std::path::{Path, PathBuf};

pub(super) struct SourceFile {
    /// Path relative to the root of the repository, such as `src/queue/mod.rs`.
    pub(super) path: String,
    pub(super) text: String,
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn rust_files(directories: &[&str]) -> Vec<SourceFile> {
    let files = directories.iter().flat_map(|directory| files_below(&root().join(directory), "rs"));
    files.map(|path| SourceFile { path: relative(&path), text: read(&path) }).collect()
}

/// Every file with this extension below the directory, sorted by path. Empty if the directory does not exist.
pub(super) fn files_below(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = all_files_below(directory);
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found
}

/// Every file below the directory, sorted by path. Empty if the directory does not exist.
pub(super) fn all_files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if !path.is_dir() {
            found.push(path);
        } else if !is_foreign(&path) {
            found.extend(all_files_below(&path));
        }
    }
    found
}

/// Build output and dependencies.
fn is_foreign(directory: &Path) -> bool {
    directory.file_name().is_some_and(|name| name == "target" || name == "node_modules" || name == ".git")
}

pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Replaces comments and the contents of string and character literals with spaces, so that line numbers stay the same.
pub(super) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest, code.chars().next_back()));
        let length = skipped.unwrap_or(character.len_utf8());
        let (token, after) = rest.split_at(length);
        if skipped.is_some() {
            code.extend(token.chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
        } else {
            code.push(character);
        }
        rest = after;
    }
    code
}

/// The length of the comment at the start of the text, if the text starts with a comment.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*").then(|| text.find("*/").map_or(text.len(), |end| end + 2))
}

/// The length of the string or character literal at the start of the text. `before` is the character before the text.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    let in_a_name = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    let raw = text.strip_prefix('r').filter(|_| !in_a_name || before == Some('b'));
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = 1 + hashes + 1;
            return Some(text[start..].find(&end).map_or(text.len(), |found| start + found + end.len()));
        }
    }
    if text.starts_with('"') {
        return Some(end_of_quoted(text, '"'));
    }
    // 'a' and '\n' are character literals. 'a without a closing quote is a lifetime.
    let quoted = text.strip_prefix('\'')?;
    let is_character = quoted.starts_with('\\') || quoted.chars().nth(1) == Some('\'');
    is_character.then(|| end_of_quoted(text, '\''))
}

fn end_of_quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn removes_comments_and_the_contents_of_literals() {
    let text = "a(\"}\\\"{\", '{', '\\'', r#\"}\"{\"#); // }\nfn b<'a>() /* { */ {}\n";
    let code = code(text);
    assert_eq!(code.split_whitespace().collect::<String>(), "a(,,,);fnb<'a>(){}");
    assert_eq!(code.lines().count(), text.lines().count());
}
