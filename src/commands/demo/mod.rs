//! `demo`: runs the whole service on this machine, with a receiver that verifies messages, and plays recorded conversations.
//!
//! The demonstration uses only the HTTP API and the receiver's socket. It creates only the first token in the database, as
//! `token create` does. It reads no settings, so that it does not depend on the machine's environment.

mod api;
mod conversations;
mod data_directory;
mod live;
mod play;
mod receiver;
mod screen;
mod users;
mod verdict;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use flametree_notify::app::{self, Listeners, Part};
use flametree_notify::config::Config;
use flametree_notify::domain::names::TenantId;
use flametree_notify::domain::role::Role;
use flametree_notify::domain::token::{NewToken, TokenName, TokenScope};
use flametree_notify::secrets::VapidKeyPair;
use flametree_notify::telemetry::logging;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::api::Api;
use self::conversations::{AGENTS, recording};
use self::data_directory::DataDirectory;
use self::play::Play;
use self::receiver::{Endpoint, Receiver};
use self::users::JwtSecret;
use super::{print, serve, token};

const TENANT: &str = "demo";
const API_PORT: u16 = 8080;
const METRICS_PORT: u16 = 9464;
/// Push services contact the authors of the demonstration, not the visitor who runs it.
const VAPID_SUBJECT: &str = "mailto:demo@flametree.dev";

/// Start everything on this machine and deliver recorded conversations.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Exit after the recording, with code 0 only if every delivery arrived exactly once, with a valid signature, and is
    /// recorded.
    #[arg(long)]
    exit: bool,
    /// Keep the data in this new directory. Without this option, the data is removed at the end.
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let directory = DataDirectory::choose(self.keep.clone())?;
        let api = bind("the API", API_PORT).await?;
        let metrics = bind("the metrics", METRICS_PORT).await?;
        let vapid = VapidKeyPair::generate().context("cannot generate a key pair for browser push")?;
        let config = config(&directory, api.local_addr()?, metrics.local_addr()?, &vapid)?;
        logging::init(&config.log).context("cannot set up the logs")?;
        data_directory::remove_left_behind().await;
        let fate = if directory.is_kept() { "kept" } else { "removed at the end" };
        print(&format!("Data in {} ({fate})", directory.path().display()));
        print("Starting a private PostgreSQL...");

        let shutdown = CancellationToken::new();
        // The receiver is never stopped. It ends with the process, after the service has sent its last message.
        let receiving = TaskTracker::new();
        let listeners = Listeners { api: Some(api), metrics };
        // Both futures are boxed, because they are large, and moving a box copies only a pointer.
        let service = Box::pin(app::run(config.clone(), Part::All, listeners, shutdown.clone()));
        let show = Box::pin(async {
            let shown = self.show(&config, &directory, &vapid, &receiving, &shutdown).await;
            shutdown.cancel();
            shown
        });
        let (served, shown) = serve::until_signals(&shutdown, async { tokio::join!(service, show) }).await?;
        directory.end()?;
        served.and(shown)
    }

    /// Shows the running service.
    async fn show(
        &self,
        config: &Config,
        directory: &DataDirectory,
        vapid: &VapidKeyPair,
        receiving: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let playing = async {
            let played = play(config, receiving).await;
            directory.keep_vapid_key(vapid)?;
            played
        };
        let Some(played) = shutdown.run_until_cancelled(playing).await else {
            anyhow::ensure!(!self.exit, "stopped before the recording ended");
            return Ok(());
        };
        let (mut play, verdict) = played?;
        if self.exit {
            return verdict;
        }
        if let Err(faults) = &verdict {
            print(&format!("\n{faults}"));
        }
        print(&screen::places(config, play.service(), play.admin()));
        let service = play.service().clone();
        shutdown.run_until_cancelled(async { tokio::join!(play.go_on(), live::go_on(&service)) }).await;
        verdict
    }
}

/// Creates tokens and push configs, starts the receiver and plays the recording. Returns the play, to show further deliveries,
/// and the verdict.
async fn play(config: &Config, receiving: &TaskTracker) -> anyhow::Result<(Play, anyhow::Result<()>)> {
    let recording = recording()?;
    let api = Api::new(&format!("http://{}", config.listen_addr));
    api.ready().await.context("the service does not respond")?;
    let admin = api.with_token(first_token(config).await?);
    let service = api.with_token(admin.create_token("conversation service", Role::Service).await?);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot start the receiver")?;
    let receiver_address = listener.local_addr()?;
    let (sender, arrivals) = mpsc::unbounded_channel();
    let receiver = Receiver::new(subscribe(&admin, receiver_address).await?, sender);
    receiving.spawn(axum::serve(listener, receiver.router()).into_future());
    print(&screen::scene(config, receiver_address));

    let mut play = Play::new(service, admin, arrivals);
    let verdict = play.run(&recording).await;
    Ok((play, verdict))
}

/// Creates the first token, which the demonstration uses to create all others.
async fn first_token(config: &Config) -> anyhow::Result<String> {
    let new = NewToken {
        name: TokenName::parse("demo")?,
        role: Role::Admin,
        scope: TokenScope::Tenant(TenantId::parse(TENANT)?),
        expires_at: None,
        created_by: None,
    };
    Ok(token::create(config, &new).await?.expose())
}

/// Creates each agent's push config; the responses contain the secrets that the receiver needs to verify messages.
async fn subscribe(admin: &Api, receiver: SocketAddr) -> anyhow::Result<HashMap<String, Endpoint>> {
    let mut endpoints = HashMap::new();
    for agent in &AGENTS {
        let url = format!("http://{receiver}/webhooks/{}", agent.id);
        let secret = admin.create_push_config(agent, &url).await?;
        let webhook = Webhook::new(&secret).context("the signing secret is not valid")?;
        endpoints.insert(agent.id.to_owned(), Endpoint { webhook, answer: agent.answer });
    }
    Ok(endpoints)
}

/// Listens at `port`. If the port is in use, reports this and listens at a free port.
async fn bind(what: &str, port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port is free")?;
            let instead = listener.local_addr()?;
            print(&format!("Port {port} is in use by another program: {what} will be at {instead} instead."));
            Ok(listener)
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on port {port} for {what}")),
    }
}

fn config(
    directory: &DataDirectory,
    api: SocketAddr,
    metrics: SocketAddr,
    vapid: &VapidKeyPair,
) -> anyhow::Result<Config> {
    let jwt_secret = JwtSecret::generate()?;
    let data_dir = directory.path().to_str().context("the data directory's path is not UTF-8")?;
    let variables = [
        ("FLAMETREE_DATA_DIR", data_dir.to_owned()),
        ("FLAMETREE_LISTEN_ADDR", api.to_string()),
        ("FLAMETREE_METRICS_ADDR", metrics.to_string()),
        // The receiver is on this machine and has no TLS, so loopback addresses and plain http must be allowed.
        ("FLAMETREE_ALLOWED_NETWORKS", "127.0.0.0/8".to_owned()),
        ("FLAMETREE_ALLOW_HTTP", "true".to_owned()),
        ("FLAMETREE_JWT_SECRET", jwt_secret.setting()),
        ("FLAMETREE_VAPID_PRIVATE_KEY", vapid.private_key.to_string()),
        ("FLAMETREE_VAPID_SUBJECT", VAPID_SUBJECT.to_owned()),
        ("FLAMETREE_LOG", "warn".to_owned()),
    ];
    let mut config = Config::from_vars(variables.map(|(name, value)| (name.to_owned(), value)))?;
    config.http.sign_in_choices = Some(jwt_secret.choices(TENANT, app::now()));
    config.http.own_hosts = [api.to_string(), format!("localhost:{}", api.port())].into();
    Ok(config)
}
