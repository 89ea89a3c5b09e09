//! Checks that the files of the crate do not import each other in a circle.
//!
//! A path belongs to the file of its longest prefix that is a module: `super::claim::Claim` belongs to `claim.rs`. If this file
//! only re-exports the name (`pub use`), the path belongs to the file that it is re-exported from. A file may use the items of
//! the modules that contain it: an import of `queue/mod.rs` in `queue/pool.rs` does not count, because the items of a `mod.rs`
//! are common to its folder. Imports in tests do not count.

use std::collections::{BTreeMap, BTreeSet};

use crate::conventions::modules::{Imports, in_circles};
use crate::conventions::source::{code, rust_files};

/// Attributes of items that exist only in tests.
const OF_TESTS: [&str; 2] = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];

type Path = Vec<String>;

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let files = rust_files(&["src"]).into_iter().map(|file| (module_of(&file.path), file.text));
    let circles = in_circles(imports(files.collect()));
    assert!(circles.is_empty(), "these files are in a circle or between two circles: {circles:?}");
}

#[test]
fn finds_imports_and_re_exports_between_files() {
    let file = |path: &str, text: &str| (module_of(path), text.to_owned());
    let imports = imports(BTreeMap::from([
        file("src/lib.rs", "mod a;\nmod b;\npub mod c;"),
        file("src/a/mod.rs", "mod x;\nmod y;\n#[cfg(test)]\nmod t;\npub(super) use x::{One, Two};\nuse self::y::Y;"),
        file("src/a/x.rs", "use super::Shared;\nuse crate::{b::{B, C}, c};\n// crate::d::D"),
        file(
            "src/a/y.rs",
            "fn f() { super::x::g::<u8>(std::a::B) }\n#[cfg(test)]\nmod tests {\n    use super::super::t;\n}\n",
        ),
        file("src/a/t.rs", "use super::x;"),
        file("src/b.rs", "use crate::a::{One, Other};"),
        file("src/c.rs", "use crate::a::Two;\nuse crate::b::*;"),
    ]));
    let of = |name: &str| imports[name].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!((of("a"), of("a::x"), of("a::y")), (vec!["a::x", "a::y"], vec!["b", "c"], vec!["a::x"]));
    assert_eq!((of("b"), of("c")), (vec!["a", "a::x"], vec!["a::x", "b"]));
    assert!(!imports.contains_key("a::t"));
}

fn module_of(path: &str) -> Path {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Each file that is not a test, with the files that it imports.
fn imports(files: BTreeMap<Path, String>) -> Imports {
    let mut tests = BTreeSet::new();
    let mut code_of = BTreeMap::new();
    for (module, text) in files {
        let (code, of_tests) = without_tests(&code(&text));
        tests.extend(of_tests.into_iter().map(|name| child(&module, &name)));
        code_of.insert(module, code);
    }
    code_of.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    let tree = Tree { exports: code_of.iter().map(|(module, code)| (module.clone(), exports(code))).collect() };
    let imports = code_of.iter().map(|(module, code)| {
        let found = paths(&tokens(code)).into_iter().filter_map(|path| tree.file(module, &path, 0));
        let found = found.filter(|file| !module.starts_with(file)).map(|file| file.join("::"));
        (module.join("::"), found.collect())
    });
    imports.collect()
}

fn child(module: &[String], name: &str) -> Path {
    [module, &[name.to_owned()]].concat()
}

/// Removes the modules of tests from the code. Also returns the names of the modules of tests in other files.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut names = Vec::new();
    let mut rest = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        rest.push_str(line);
        rest.push('\n');
        if !OF_TESTS.contains(&line) {
            continue;
        }
        let item = lines.by_ref().find(|line| !line.starts_with("#[")).unwrap_or_default();
        match item.split_once("mod ").map(|(_, name)| name) {
            Some(name) if name.ends_with(';') => names.push(name.trim_end_matches(';').to_owned()),
            Some(_) => drop(lines.by_ref().find(|line| *line == "}")),
            None => rest.push_str(item),
        }
    }
    (rest, names)
}

/// The modules of the crate, each with the names that it re-exports and their paths.
struct Tree {
    exports: BTreeMap<Path, BTreeMap<String, Path>>,
}

impl Tree {
    /// The file that a path in `module` belongs to; `None` for other crates and for names without a path.
    fn file(&self, module: &[String], path: &[String], depth: usize) -> Option<Path> {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let (mut file, rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.to_vec(), &path[1..]),
            "super" => (module[..module.len().checked_sub(supers)?].to_vec(), &path[supers..]),
            name if self.exports.contains_key(&child(module, name)) => (module.to_vec(), path),
            _ => return None,
        };
        for (at, name) in rest.iter().enumerate() {
            let inner = child(&file, name);
            if !self.exports.contains_key(&inner) {
                let source = self.exports[&file].get(name).filter(|_| depth < 8);
                let target = source.and_then(|path| self.file(&file, &[path, &rest[at + 1..]].concat(), depth + 1));
                return Some(target.unwrap_or(file));
            }
            file = inner;
        }
        Some(file)
    }
}

/// The names that the code re-exports, with their paths.
fn exports(code: &str) -> BTreeMap<String, Path> {
    let uses = code.split("pub").skip(1).filter_map(|text| {
        let text = text.strip_prefix("(crate)").or_else(|| text.strip_prefix("(super)")).unwrap_or(text);
        text.strip_prefix(" use ")?.split(';').next()
    });
    let mut exports = BTreeMap::new();
    for text in uses {
        for path in tree(&tokens(text)).0 {
            exports.extend(path.last().cloned().map(|name| (name, path)));
        }
    }
    exports
}

/// Every path of two or more names in the code.
fn paths(tokens: &[&str]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_path = is_name(tokens[at]) && tokens.get(at + 1) == Some(&"::");
        let (paths, length) = if is_path { tree(&tokens[at..]) } else { (Vec::new(), 1) };
        found.extend(paths);
        at += length;
    }
    found
}

/// Reads a path or a tree of paths, such as `a::{b, c::D}`. Returns the paths and the number of tokens.
fn tree(tokens: &[&str]) -> (Vec<Path>, usize) {
    match tokens {
        [name, "::", rest @ ..] if is_name(name) => {
            let (paths, length) = tree(rest);
            let paths = paths.into_iter().map(|path| [vec![(*name).to_owned()], path].concat());
            (paths.collect(), length + 2)
        }
        ["{", ..] => {
            let (mut paths, mut at) = (Vec::new(), 1);
            while at < tokens.len() && tokens[at] != "}" {
                let (more, length) = tree(&tokens[at..]);
                paths.extend(more);
                at += length;
                // The new name of `a as b`, and the comma.
                at += tokens[at..].iter().take_while(|token| !matches!(**token, "," | "}")).count();
                at += usize::from(tokens.get(at) == Some(&","));
            }
            (paths, at + 1)
        }
        [name, ..] if is_name(name) => (vec![vec![(*name).to_owned()]], 1),
        _ => (vec![Vec::new()], 1),
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|character: char| character.is_alphanumeric() || character == '_')
}

/// Names, `::` and single characters, without white space.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while !rest.is_empty() {
        let is_part = |character: char| character.is_alphanumeric() || character == '_';
        let name = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let length = if rest.starts_with("::") { 2 } else { name.max(first) };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}
