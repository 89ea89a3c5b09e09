//! Runs the curl command of an endpoint test in bash, and checks that curl sends the same request as the test.

use std::process::{Command, Output};

use reqwest::Method;
use serde_json::json;

use crate::endpoint_tests::{save, started};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::temp_dir::TempDir;
use crate::support::wire::answer;

const AGENT: &str = "it's \"agent\" $HOME $(touch x) `touch y` \\ ünï 📦";
const PLAIN: &str = "it's \"plain\" $HOME $(touch x) `touch y` \\n !! #";
const SECRET: &str = "Bearer it's \"secret\" $HOME $(touch x) `touch y` \\n";

/// Runs the command in this directory. The command gets only these environment variables and the search path.
async fn run(command: &str, directory: &TempDir, variables: &'static [(&'static str, &'static str)]) -> Output {
    let mut bash = Command::new("bash");
    bash.args(["-c", command])
        .current_dir(directory.path())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .envs(variables.iter().copied());
    tokio::task::spawn_blocking(move || bash.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_curl_command_contains_no_secrets_and_sends_the_same_request() {
    let (api, admin) = started().await;
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let agent: String = url::form_urlencoded::byte_serialize(AGENT.as_bytes()).collect::<String>().replace('+', "%20");
    let url = format!("http://{}/it's/[1-3]{{a,b}}?a=$HOME&b=%27", receiver.address);
    let config = json!({"url": url, "headers": [
        {"name": "X-Plain", "value": PLAIN},
        {"name": "Authorization", "value": SECRET},
        {"name": "X-Key", "value": "key-1", "secret": true},
        {"name": "X_Key", "value": "key-2", "secret": true},
    ]});
    save(&api, &admin, &agent, &config).await;
    let test = format!("/v1/agents/{agent}/push-config/test");
    let body = json!({"event": "ai_assistant_message"});
    let answered = api.call(&admin, Method::POST, &test, &[], Some(&body)).await;
    assert_eq!(answered.status, 200, "{answered:?}");
    let answered = answered.json();
    let command = answered["curl"].as_str().unwrap();
    assert!(!command.contains("secret\"") && !command.contains("key-1") && !command.contains("key-2"), "{command}");

    let directory = TempDir::new();
    let ended = run(command, &directory, &[]).await;
    assert!(!ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("SECRET_"), "{ended:?}");
    assert_eq!(receiver.seen().len(), 1);

    let variables = &[("SECRET_AUTHORIZATION", SECRET), ("SECRET_X_KEY", "key-1"), ("SECRET_X_KEY_2", "key-2")];
    let ended = run(command, &directory, variables).await;
    assert!(ended.status.success(), "{command}\n{ended:?}");
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(seen[0].head.lines().next(), seen[1].head.lines().next());
    for header in answered["request"]["headers"].as_array().unwrap() {
        let name = header["name"].as_str().unwrap();
        assert_eq!(seen[0].header(name), seen[1].header(name));
    }
    assert_eq!((seen[1].header("x-plain"), seen[1].header("authorization")), (PLAIN, SECRET));
    let body: serde_json::Value = serde_json::from_slice(&seen[1].body).unwrap();
    assert_eq!(body["data"]["agent_id"], AGENT);
    // The shell ran no command of the quoted text.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
