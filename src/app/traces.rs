//! Builds the trace exporter from the settings.

use std::time::Duration;

use anyhow::Context as _;
use uuid::Uuid;

use crate::config::Config;
use crate::operator_client;
use crate::supervision::Stage;
use crate::telemetry::metrics::{Metrics, TaskName};
use crate::telemetry::traces::Tracer;

/// Deadline of one request to the collector.
const DEADLINE: Duration = Duration::from_secs(10);

/// Starts the exporter. The tracer records nothing if no collector is configured.
pub(super) fn start(config: &Config, metrics: &Metrics, stage: &Stage) -> anyhow::Result<Tracer> {
    let Some(mut settings) = config.traces.clone() else { return Ok(Tracer::default()) };
    let roots = &config.operator_ca_certificates;
    let builder =
        operator_client::builder(roots, DEADLINE).context("TLS to the trace collector could not be set up")?;
    let client = builder.build().context("the client for the trace collector could not be built")?;
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    for (name, value) in [
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", Uuid::new_v4().to_string()),
        ("host.name", host),
        ("process.pid", std::process::id().to_string()),
    ] {
        // Attributes from the operator take precedence.
        if settings.resource.iter().all(|(known, _)| known != name) {
            settings.resource.push((name.to_owned(), value));
        }
    }
    tracing::info!(host = settings.url.host_str(), "traces are exported");
    let (tracer, exporter) = Tracer::new(client, settings, metrics);
    stage.spawn(TaskName::TraceExporter, |stop| exporter.run(stop));
    Ok(tracer)
}
