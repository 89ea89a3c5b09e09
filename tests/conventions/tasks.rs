//! Checks that the supervisor watches every task that lives as long as the process, so that no failure is unnoticed.

use std::collections::BTreeMap;

use crate::conventions::source::{code, rust_files};

/// Files that spawn unsupervised tasks, the number of spawn calls, and why the process survives a panic in such a task.
const UNSUPERVISED: &[(&str, usize, &str)] = &[
    ("src/supervision.rs", 1, "the supervisor itself"),
    ("src/http/server/serve.rs", 1, "a panic closes one connection and releases the permits of the connection"),
    (
        "src/http/auth/token_cache.rs",
        1,
        "a panic loses the record of one token use, but the next use is recorded within a minute",
    ),
    (
        "src/worker/attempts.rs",
        1,
        "each attempt in the task catches its own panic and ends its delivery as interrupted",
    ),
    ("src/channels/resolver/mod.rs", 1, "after a panic in a lookup, the callers get an error"),
    (
        "src/channels/browser_push/encryption_pool.rs",
        1,
        "after a panic, the encryption of one message fails, and another thread continues",
    ),
    ("src/store/pool.rs", 1, "after a panic, the pool opens a new connection"),
    ("src/postgres/mod.rs", 1, "starts the embedded PostgreSQL, which is a process and not a task"),
    ("src/postgres/process.rs", 1, "starts the embedded PostgreSQL, which is a process and not a task"),
    ("src/commands/demo/mod.rs", 1, "runs the receiver of the demonstration, which reports missing deliveries"),
];

#[test]
fn every_long_lived_task_is_supervised() {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    // Skips fuzz targets and their properties, which run only in tests.
    let is_run = |path: &str| !path.starts_with("src/fuzzing/") && !path.contains("/properties/");
    for file in rust_files(&["src"]).into_iter().filter(|file| is_run(&file.path)) {
        let production = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let count = unsupervised(production);
        if count > 0 {
            found.insert(file.path, count);
        }
    }
    let listed = UNSUPERVISED.iter().map(|(path, count, _)| ((*path).to_owned(), *count)).collect();
    assert_eq!(
        found, listed,
        "spawn a long-lived task with `Stage::spawn`; list any other task in UNSUPERVISED with the reason"
    );
}

#[test]
fn finds_spawns_in_every_syntax() {
    let text = "stage.spawn(TaskName::Reaper, run);\nstage.spawn(\n    TaskName::Reaper,\n    run,\n);\nfn spawn() {}\n\
                tasks.spawn(one);\ntokio::spawn(two);\ntokio::task::spawn_blocking(three);\nstd::thread::spawn(four);\n";
    assert_eq!(unsupervised(text), 4);
}

/// The number of spawn calls whose first argument is not a task name.
fn unsupervised(text: &str) -> usize {
    let code = code(text);
    let calls = [".spawn(", "::spawn(", "::spawn_blocking(", ".spawn_blocking(", "::spawn_local(", ".spawn_on("];
    let after = calls.iter().flat_map(|call| code.split(call).skip(1));
    after.filter(|arguments| !arguments.trim_start().starts_with("TaskName::")).count()
}
