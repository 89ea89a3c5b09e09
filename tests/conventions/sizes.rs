//! Limits the lengths of files and functions, and requires that each file states its purpose first.

use crate::conventions::source::{code, rust_files};

const MAX_FILE_LINES: usize = 300;
const MAX_FUNCTION_LINES: usize = 60;

const DIRECTORIES: &[&str] = &["src", "tests", "benches", "examples"];

#[test]
fn a_file_has_at_most_300_lines() {
    let long = rust_files(DIRECTORIES).into_iter().filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > MAX_FILE_LINES).then(|| format!("{}: {lines} lines", file.path))
    });
    assert_none(long);
}

#[test]
fn a_function_has_at_most_60_lines() {
    let long = rust_files(DIRECTORIES).into_iter().flat_map(|file| {
        functions(&file.text)
            .into_iter()
            .filter(|function| function.lines > MAX_FUNCTION_LINES)
            .map(|function| format!("{}:{}: {} lines", file.path, function.first_line, function.lines))
            .collect::<Vec<_>>()
    });
    assert_none(long);
}

#[test]
fn a_file_starts_with_a_statement_of_its_purpose() {
    let silent = rust_files(DIRECTORIES).into_iter().filter(|file| !file.text.starts_with("//! "));
    assert_none(silent.map(|file| file.path));
}

fn assert_none(faults: impl Iterator<Item = String>) {
    let faults: Vec<_> = faults.collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    first_line: usize,
    lines: usize,
}

/// The lines of each function that has a body, from the keyword `fn` to the closing brace.
fn functions(text: &str) -> Vec<Function> {
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut found = Vec::new();
    let mut declared_at = None;
    let mut depth = 0_usize;
    for (number, line) in (1..).zip(code(text).lines()) {
        if line.split(|character: char| !character.is_alphanumeric() && character != '_').any(|word| word == "fn") {
            declared_at = declared_at.or(Some(number));
        }
        for character in line.chars() {
            match character {
                '{' => {
                    depth += 1;
                    open.extend(declared_at.take().map(|first_line| (first_line, depth)));
                }
                // Skips a function without a body, such as a required method of a trait.
                ';' if !line.trim_start().starts_with('[') => declared_at = None,
                '}' => {
                    if let Some((first_line, _)) = open.pop_if(|(_, at_depth)| *at_depth == depth) {
                        found.push(Function { first_line, lines: number + 1 - first_line });
                    }
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn measures_a_function_to_its_closing_brace() {
    let text =
        "trait T {\n    fn none();\n    fn one() { x(|| { y() }) }\n}\nfn four(\n    a: u8,\n) -> u8 {\n    \"}\"\n}\n";
    let expected = [Function { first_line: 3, lines: 1 }, Function { first_line: 5, lines: 5 }];
    assert_eq!(functions(text), expected);
}
