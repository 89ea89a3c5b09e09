//! Supervises background tasks: every task that lives as long as the process is supervised, so that no failure is unnoticed.

use std::collections::BTreeMap;

use crate::conventions::source::{code, rust_files};

/// Files that spawn unsupervised tasks: how many, and why the process survives a panic.
const UNSUPERVISED: &[(&str, usize, &str)] = &[
    ("src/supervision.rs", 1, "the supervisor itself"),
    ("src/http/serve.rs", 1, "one connection: it closes, and its permits are released"),
    ("src/http/token_cache.rs", 1, "one record of a token's use: it is lost, and the next follows within a minute"),
    ("src/worker/attempts.rs", 1, "32 attempts: each catches its own panic, and its delivery ends as interrupted"),
    ("src/worker/operations/runner.rs", 1, "one run of an operation: its lease ends, and a worker repeats it"),
    ("src/channels/resolver/mod.rs", 1, "one lookup of a name: its callers get an error"),
    (
        "src/channels/browser_push/encryption_pool.rs",
        1,
        "encryption while messages wait: the message fails, another thread continues",
    ),
    ("src/postgres/mod.rs", 1, "a process: the embedded PostgreSQL"),
    ("src/postgres/process.rs", 1, "the same"),
    ("src/commands/demo/mod.rs", 1, "the receiver of the demonstration, which reports missing deliveries"),
];

#[test]
fn every_long_lived_task_is_supervised() {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    // Fuzz targets and their properties run only in tests.
    let is_run = |path: &str| !path.starts_with("src/fuzzing/") && !path.contains("/properties/");
    for file in rust_files(&["src"]).into_iter().filter(|file| is_run(&file.path)) {
        let production = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let count = unsupervised(production);
        if count > 0 {
            found.insert(file.path, count);
        }
    }
    let listed = UNSUPERVISED.iter().map(|(path, count, _)| ((*path).to_owned(), *count)).collect();
    assert_eq!(found, listed, "spawn a long-lived task by `Stage::spawn`; list another with the reason");
}

#[test]
fn finds_spawns_in_every_syntax() {
    let text = "stage.spawn(TaskName::Reaper, run);\nstage.spawn(\n    TaskName::Reaper,\n    run,\n);\nfn spawn() {}\n\
                tasks.spawn(one);\ntokio::spawn(two);\ntokio::task::spawn_blocking(three);\nstd::thread::spawn(four);\n";
    assert_eq!(unsupervised(text), 4);
}

/// Calls that spawn a task without the name of a supervised task.
fn unsupervised(text: &str) -> usize {
    let code = code(text);
    let calls = [".spawn(", "::spawn(", "::spawn_blocking(", ".spawn_blocking(", "::spawn_local(", ".spawn_on("];
    let after = calls.iter().flat_map(|call| code.split(call).skip(1));
    after.filter(|arguments| !arguments.trim_start().starts_with("TaskName::")).count()
}
