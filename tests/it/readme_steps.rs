//! Runs the five steps of README.md in a shell, as a reader does.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::service::own_address;
use crate::support::temp_dir::TempDir;

/// A time limit that includes the time to create and start a database.
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test]
async fn the_steps_deliver_an_event_to_the_receiver_and_show_its_outcome() {
    // An address of this machine that no other test uses.
    let address = own_address().to_string();
    let readme = read("README.md");
    let (_, steps) = readme.split_once("## Use\n").expect("the section with the steps");
    let steps: Vec<&str> =
        steps.split("```sh\n").skip(1).map(|rest| rest.split_once("```").expect("the end of a block").0).collect();
    assert_eq!(steps.len(), 5);
    let build = "cargo build --release --locked && export PATH=\"$PWD/target/release:$PATH\"\n";
    let script = format!("{}\nkill %1 %2\nwait %1\n", steps.join("\n"));
    assert!(script.contains(build));
    let programs = Path::new(env!("CARGO_BIN_EXE_flametree-notify")).parent().unwrap();
    let checkout = TempDir::new();
    let script = script.replace("/tmp/flametree-trial", checkout.path().join("data").to_str().unwrap());
    let script = script.replace(build, &format!("export PATH=\"{}:$PATH\"\n", programs.display()));

    std::fs::create_dir(checkout.path().join("examples")).unwrap();
    let receiver = read("examples/receiver.py").replace("127.0.0.1", &address);
    std::fs::write(checkout.path().join("examples/receiver.py"), receiver).unwrap();
    let shell = Command::new("bash")
        .args(["-c", &script.replace("127.0.0.1", &address)])
        .current_dir(checkout.path())
        .env("FLAMETREE_LISTEN_ADDR", format!("{address}:8080"))
        .env("FLAMETREE_METRICS_ADDR", format!("{address}:9464"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = tokio::task::spawn_blocking(|| shell.wait_with_output().unwrap());
    let output = tokio::time::timeout(PATIENCE, output).await.expect("the steps end").unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let event = text.lines().find(|line| line.starts_with("evt_") && line.ends_with(" user_message"));
    assert!(event.is_some(), "the receiver printed no event:\n{text}\n{errors}");
    assert!(text.contains("\"outcome\":\"delivered\""), "no delivery is listed as delivered:\n{text}\n{errors}");
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}
