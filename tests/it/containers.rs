//! Tests the files for the image, compose and Kubernetes. The tests run the commands directly, without a container engine.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::deployment::{Deployment, TENANT};
use crate::support::own_server::Stop;
use crate::support::service::{ENCRYPTION_KEYS, Part, Settings, own_address};
use crate::support::temp_dir::TempDir;
use crate::support::waiting::within;

const PATIENCE: Duration = Duration::from_secs(30);
/// No database server listens at this address. An IP address needs no DNS lookup.
const NOWHERE: &str = "@127.0.0.1:1";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The instructions of the Dockerfile, each on one line.
fn instructions() -> Vec<String> {
    let text = read("docker/Dockerfile");
    let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let joined = lines.replace("\\\n", " ");
    joined.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The arguments of each Dockerfile instruction with this name.
fn said(name: &str) -> Vec<String> {
    let prefix = format!("{name} ");
    instructions().iter().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
}

/// Parses the first list in the text.
fn list(text: &str) -> Vec<String> {
    let begin = text.find('[').unwrap();
    serde_json::from_str(&text[begin..=begin + text[begin..].find(']').unwrap()]).unwrap()
}

/// Each path that the Dockerfile copies from the build context, with its target in the image.
fn copied() -> Vec<(String, String)> {
    let copies = said("COPY").into_iter().filter(|copy| !copy.starts_with("--from="));
    copies
        .flat_map(|copy| {
            let mut words: Vec<String> = copy.split_whitespace().map(str::to_owned).collect();
            let target = words.pop().unwrap();
            words.into_iter().map(move |source| {
                let to = if target == "./" { source.clone() } else { target.clone() };
                (source, to)
            })
        })
        .collect()
}

#[test]
fn the_image_copies_everything_that_its_build_needs() {
    let directory = TempDir::new();
    for (source, target) in copied() {
        let target = directory.path().join(target);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-r").arg(root().join(source)).arg(target).status().unwrap();
        assert!(copied.success());
    }
    let builds: Vec<String> = said("RUN").into_iter().filter(|run| run.starts_with("cargo ")).collect();
    let [build] = builds.as_slice() else { panic!("one command builds: {builds:?}") };
    assert_eq!(build, "cargo build --locked --release --bin flametree-notify");
    // The command `cargo check` finds missing files too, and needs less time than a build.
    let check = build.replace(" build ", " check --offline ").replace(" --release", "");
    let mut words = check.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir(directory.path());
    // Cargo sets environment variables for tests. If this command inherited these variables, Cargo would rebuild crates.
    let told = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_") && name != "CARGO_HOME"
    });
    for name in told {
        command.env_remove(name);
    }
    let output = command.env("SQLX_OFFLINE", "true").env("CARGO_TARGET_DIR", root().join("target")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said("ENV")[0].contains("SQLX_OFFLINE=true"));
}

#[test]
fn the_build_context_has_all_copied_files_and_the_pinned_toolchain() {
    let given = read("docker/Dockerfile.dockerignore");
    for (source, _) in copied() {
        assert!(given.lines().any(|line| line == format!("!{source}")), "{source} is ignored");
    }
    let toolchain = read("rust-toolchain.toml");
    let version = toolchain.split("channel = \"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(said("FROM")[0], format!("rust:{version}-bookworm AS build"));
}

#[test]
fn every_file_that_compose_mounts_exists() {
    let compose = read("docker/compose.yaml") + &read("docker/compose.scale.yaml");
    let mounts = compose.lines().filter_map(|line| line.trim().strip_prefix("- .")?.split_once(':'));
    let mounts: Vec<PathBuf> = mounts.map(|(path, _)| root().join("docker").join(format!(".{path}"))).collect();
    assert!(mounts.len() >= 5, "{mounts:?}");
    for mount in mounts {
        assert!(mount.exists(), "{}", mount.display());
    }
}

#[test]
fn the_settings_in_compose_and_kubernetes_files_are_valid() {
    for (file, at_least) in [("compose.yaml", 5), ("compose.scale.yaml", 5), ("kubernetes/configuration.yaml", 2)] {
        let text = read(&format!("docker/{file}"));
        let pairs = text.lines().filter_map(|line| line.trim().split_once(": "));
        // The variable `FLAMETREE_REVISION` is a build argument of the image and not a setting.
        let settings: Vec<(&str, String)> = pairs
            .filter(|(name, _)| name.starts_with("FLAMETREE_") || name.starts_with("DATABASE_"))
            .filter(|(name, _)| *name != "FLAMETREE_REVISION")
            .map(|(name, value)| (name, value.trim_matches('"').to_owned()))
            .map(|(name, value)| (name, value.replace("${POSTGRES_PASSWORD:?see the top of compose.yaml}", "secret")))
            .map(|(name, value)| (name, value.replace("@postgres:5432", NOWHERE).replace("@pgbouncer:5432", NOWHERE)))
            .map(|(name, value)| {
                (name, value.replace("${FLAMETREE_ENCRYPTION_KEYS:?see the top of compose.yaml}", ENCRYPTION_KEYS))
            })
            // Compose replaces an optional variable with an empty text if the file `.env` does not set it.
            .map(|(name, value)| (name, value.replace(&format!("${{{name}:-}}"), "")))
            .collect();
        assert!(settings.len() >= at_least, "{file}: {settings:?}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_flametree-notify"));
        command.args(["config", "check"]).env_clear();
        // In Kubernetes, these two settings come from a secret.
        command
            .env("DATABASE_URL", format!("postgres://me{NOWHERE}/a"))
            .env("FLAMETREE_ENCRYPTION_KEYS", ENCRYPTION_KEYS);
        let checked = command.envs(settings).output().unwrap();
        assert!(checked.status.success(), "{file}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_checks_distinguish_working_from_broken_processes() {
    let of_image = list(&said("HEALTHCHECK")[0]);
    assert_eq!(of_image[0], list(&said("ENTRYPOINT")[0])[0]);
    let scale = read("docker/compose.scale.yaml");
    let of_worker = list(scale.lines().find(|line| line.contains("--worker")).unwrap());
    let arguments = |command: &[String], skip: usize| command[skip..].to_vec();
    // The health check of the image starts with the program. The health check of compose starts with CMD and the program.
    let (of_image, of_worker) = (arguments(&of_image, 1), arguments(&of_worker, 2));
    let (of_image, of_worker): (Vec<&str>, Vec<&str>) =
        (of_image.iter().map(String::as_str).collect(), of_worker.iter().map(String::as_str).collect());

    let deployment = Deployment::with_own_server().await;
    let service = deployment.settings.start(Part::Run).await;
    let worker = deployment.settings.start(Part::Worker).await;
    assert!(service.is_healthy(&deployment.settings, &of_image));
    assert!(worker.is_healthy(&deployment.settings, &of_worker));
    assert!(!worker.is_healthy(&deployment.settings, &of_image), "a worker has no API");
    deployment.server().stop(Stop::Immediate);
    let unhealthy = async || !service.is_healthy(&deployment.settings, &of_image);
    within(PATIENCE, "the process is unhealthy without its database", unhealthy).await;
    assert!(worker.is_healthy(&deployment.settings, &of_worker), "a restart would not bring the database back");
    deployment.server().start_again();
    within(PATIENCE, "the process is healthy", async || service.is_healthy(&deployment.settings, &of_image)).await;
    let port = service.metrics_address();
    service.kill();
    assert!(!is_healthy_at(&deployment.settings, port, &of_worker), "the stopped process is healthy");
}

fn is_healthy_at(settings: &Settings, metrics: std::net::SocketAddr, arguments: &[&str]) -> bool {
    let mut command = settings.command();
    command.args(arguments).env("FLAMETREE_METRICS_ADDR", metrics.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// A process that is killed at the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_runs_as_an_unprivileged_user_who_cannot_write_files() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("only root can become the image's user");
        return;
    }
    let deployment = Deployment::with_own_server().await;
    let directory = TempDir::new();
    // The unprivileged user cannot read the build directory, so the test copies the program.
    let program = directory.path().join("flametree-notify");
    std::fs::copy(env!("CARGO_BIN_EXE_flametree-notify"), &program).unwrap();
    let address = own_address();
    let settings = deployment
        .settings
        .clone()
        .with("FLAMETREE_LISTEN_ADDR", &format!("{address}:8080"))
        .with("FLAMETREE_METRICS_ADDR", &format!("{address}:9464"));
    let user = said("USER").remove(0);
    let (user, group) = user.split_once(':').unwrap();
    let mut command = Command::new("prlimit");
    command.args(["--fsize=0", "setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"]);
    command.arg(&program).args(list(&said("CMD")[0])).current_dir("/").env_clear();
    command.envs(settings.command().get_envs().map(|(name, value)| (name, value.unwrap())));
    let running = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let healthy = async || settings.command().arg("health").stderr(Stdio::null()).status().unwrap().success();
    within(PATIENCE, "the process is healthy", healthy).await;
    drop(running);
    assert!(!healthy().await, "another process uses the port");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_receiver_verifies_the_messages_that_it_prints() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    let client = deployment.client(&service);
    let config = format!("/v1/agents/agent-1/push-config?tenant_id={TENANT}");
    let created = client.put(&config, &json!({})).await.json();
    let mut receiver = Command::new("python3")
        .arg(root().join("docker/receiver.py"))
        .env("SIGNING_SECRET", created["signing_secret"].as_str().unwrap())
        .env("LISTEN_ADDR", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/install deployment brings Python");
    let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines().map(Result::unwrap);
    let _running = Running(receiver);
    let listening = lines.next().unwrap();
    let address = listening.strip_prefix("listens on ").unwrap();

    let enabled = json!({"enabled": true, "url": format!("http://{address}/webhook"), "events": ["user_message"]});
    assert_eq!(client.put(&config, &enabled).await.status, 200);
    let accepted = deployment.post(std::slice::from_ref(&client), &["agent-1".to_owned()], 1).await;
    assert_eq!(lines.next().unwrap(), format!("{} user_message", accepted[0]));
    deployment.drained(PATIENCE).await;
    let listed: Value = client.get(&format!("/v1/deliveries?tenant_id={TENANT}")).await.json();
    assert_eq!((&listed["data"][0]["outcome"], &listed["data"][0]["http_status"]), (&json!("delivered"), &json!(204)));
}
