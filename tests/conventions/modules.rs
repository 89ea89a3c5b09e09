//! Checks that modules import only modules of lower layers, so that imports have no cycle.

use std::collections::{BTreeMap, BTreeSet};

use crate::conventions::source::{code, rust_files};

/// Each module of the crate with its allowed imports, from the lowest layer to the highest.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("telemetry", &["domain"]),
    // Runs background tasks.
    ("supervision", &["telemetry"]),
    ("secrets", &["domain"]),
    ("postgres", &[]),
    ("tls", &[]),
    ("operator_client", &["tls"]),
    ("store", &["domain", "telemetry", "secrets"]),
    // Channels do not use the database. The callers of a channel pass the messages to send.
    ("channels", &["domain", "telemetry", "tls"]),
    ("queue", &["domain", "telemetry", "supervision", "store"]),
    // Ingest wakes the claimers of the queue if both run in one process.
    ("ingest", &["domain", "telemetry", "supervision", "store", "queue"]),
    ("worker", &["domain", "telemetry", "supervision", "secrets", "store", "channels", "queue"]),
    // The module `users` does not use an HTTP framework. The API converts a rejected token into a response.
    ("users", &["domain", "telemetry", "supervision", "operator_client"]),
    ("portal", &["domain", "telemetry"]),
    (
        "http",
        &["domain", "telemetry", "supervision", "secrets", "store", "channels", "queue", "ingest", "users", "portal"],
    ),
    // The module `config` fills the settings of the modules that it imports.
    (
        "config",
        &[
            "domain",
            "telemetry",
            "secrets",
            "tls",
            "channels",
            "users",
            "postgres",
            "queue",
            "ingest",
            "worker",
            "http",
        ],
    ),
];

/// The composition root and the command line may import every module, and no module imports them.
const ROOTS: &[&str] = &["app", "commands", "failpoints", "fuzzing", "lib", "main"];

/// Modules or files, each with its imports.
pub(super) type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn a_module_imports_only_allowed_modules() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut faults = Vec::new();
    for (module, imports) in imports() {
        if ROOTS.contains(&module.as_str()) {
            continue;
        }
        let Some(allowed) = allowed.get(module.as_str()) else {
            faults.push(format!("src/{module} is missing in MAY_IMPORT"));
            continue;
        };
        let forbidden = imports.iter().filter(|import| !allowed.contains(&import.as_str()));
        faults.extend(forbidden.map(|import| format!("{module} must not import {import}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn module_imports_have_no_cycle() {
    let circles = in_circles(imports());
    assert!(circles.is_empty(), "these modules are in a cycle or between two cycles: {circles:?}");
}

#[test]
fn finds_a_cycle_of_any_length() {
    let imports = |pairs: &[(&str, &str)]| {
        let mut imports = Imports::new();
        for (module, import) in pairs {
            imports.entry((*module).to_owned()).or_default().insert((*import).to_owned());
            imports.entry((*import).to_owned()).or_default();
        }
        imports
    };
    assert!(in_circles(imports(&[("c", "b"), ("b", "a"), ("c", "a")])).is_empty());
    assert_eq!(
        in_circles(imports(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "e"), ("e", "a"), ("a", "f")])),
        ["a", "b", "c"]
    );
}

/// Repeatedly removes the modules that import no remaining module, or that no remaining module imports. Returns the modules
/// that remain.
pub(super) fn in_circles(mut rest: Imports) -> Vec<String> {
    loop {
        let known: BTreeSet<_> = rest.keys().cloned().collect();
        let imported: BTreeSet<_> = rest.values().flatten().cloned().collect();
        rest.retain(|module, imports| imported.contains(module) && imports.iter().any(|import| known.contains(import)));
        if rest.len() == known.len() {
            return rest.into_keys().collect();
        }
    }
}

#[test]
fn finds_imports_in_every_syntax() {
    let text = "use crate::store::{Db, Tx};\nuse crate::{domain::ids, queue};\nuse crate::{\n    telemetry::{metrics, \
                logging},\n    worker,\n};\nfn f() -> crate::http::Answer { crate::ingest::accept() } // crate::app\n";
    let found = imports_in(text);
    let expected = ["domain", "http", "ingest", "queue", "store", "telemetry", "worker"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// Each module of the crate with the modules that it imports.
fn imports() -> Imports {
    let mut imports = Imports::new();
    for file in rust_files(&["src"]) {
        let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
        let module = path.split('/').next().unwrap_or(path).to_owned();
        let mut found = imports_in(&file.text);
        found.remove(&module);
        imports.entry(module).or_default().extend(found);
    }
    imports
}

fn imports_in(text: &str) -> BTreeSet<String> {
    let code = code(text);
    let after_crate = code.split("crate::").skip(1);
    after_crate.flat_map(|path| if path.starts_with('{') { first_names(path) } else { vec![name(path)] }).collect()
}

/// The first name of each path in a braced import.
fn first_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && matches!(character, '{' | ',') {
            names.push(name(group[at + 1..].trim_start()));
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn name(path: &str) -> String {
    path.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}
