//! The texts that the demonstration prints on the terminal.

use std::net::SocketAddr;
use std::time::Duration;

use flametree_notify::config::Config;

use super::api::Api;
use super::conversations::{AGENTS, Agent};
use super::receiver::Arrival;

/// Maximum number of characters of a message's text to display.
const TEXT_CHARACTERS: usize = 40;

/// The text before the first delivery: the addresses, and the agents with their events.
pub(super) fn scene(config: &Config, receiver: SocketAddr) -> String {
    let agents: Vec<String> = AGENTS.iter().map(agent).collect();
    format!(
        "The API is at http://{}. A receiver on this machine, at {receiver}, verifies every signature.\n\n\
         Push configs, set by the API:\n{}\n",
        config.listen_addr,
        agents.join("\n")
    )
}

fn agent(agent: &Agent) -> String {
    let events = agent.events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", ");
    format!("  {:<16}  {events}\n  {:<16}  {}", agent.id, "", endpoint(agent))
}

fn endpoint(agent: &Agent) -> String {
    let (status, outcome) = (agent.answer.as_u16(), agent.outcome().as_str());
    if agent.answer.is_success() {
        format!("its endpoint responds {status}, recorded as {outcome}")
    } else {
        format!("its endpoint fails on purpose: it responds {status}, recorded as {outcome} and not sent again")
    }
}

pub(super) fn heading() -> String {
    // The header of the table, after a blank line.
    row("\n   #", "event", "session", "agent", "status", "signature", "latency", "message")
}

/// The table row of one arrival. `latency` is `None` if another client posted the event.
pub(super) fn delivery(number: usize, arrival: &Arrival, latency: Option<Duration>) -> String {
    let status = arrival.answer.as_u16().to_string();
    let latency = latency.map_or_else(|| "-".to_owned(), milliseconds);
    let number = number.to_string();
    match &arrival.message {
        Ok(message) => row(
            &number,
            &message.event_type,
            &message.data.session_id,
            &arrival.agent_id,
            &status,
            "valid",
            &latency,
            &excerpt(message.data.author.as_deref(), message.data.text.as_deref()),
        ),
        Err(refusal) => row(&number, "?", "?", &arrival.agent_id, &status, "REFUSED", &latency, &format!("{refusal}")),
    }
}

#[expect(clippy::too_many_arguments, reason = "a column each")]
fn row(
    number: &str,
    event: &str,
    session: &str,
    agent: &str,
    status: &str,
    signature: &str,
    latency: &str,
    message: &str,
) -> String {
    // The message is the last column, because the width of the terminal is not known.
    let columns = format!(
        "{number:>4}  {event:<25}  {session:<13}  {agent:<16}  {status:<6}  {signature:<9}  {latency:>9}  {message}"
    );
    columns.trim_end().to_owned()
}

/// The start of a text, as one line.
fn excerpt(author: Option<&str>, text: Option<&str>) -> String {
    let (Some(author), Some(text)) = (author, text) else { return String::new() };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut excerpt: String = line.chars().take(TEXT_CHARACTERS).collect();
    if excerpt.len() < line.len() {
        excerpt = format!("{}…", excerpt.trim_end());
    }
    format!("{author}: {excerpt}")
}

/// The text after the play: pages to open and commands to try.
pub(super) fn places(config: &Config, service: &Api, admin: &Api) -> String {
    let origin = format!("http://{}", config.listen_addr);
    format!(
        r#"
Open the portal: http://localhost:{port}/portal/
  and sign in as an admin, an agent editor, an operator or a viewer; conversations continue meanwhile.

Look at
  the API's documentation   {origin}/docs
  its OpenAPI document      {origin}/v1/openapi.json
  the metrics               http://{metrics}/metrics

Post an event (it appears below), and read the latest delivery records:

curl {origin}/v1/events -H 'Authorization: Bearer {service}' -H 'Content-Type: application/json' -d '{{"type":"user_message","agent_id":"shop-assistant","session_id":"s-mine","text":"Hello from curl 👋"}}'

curl '{origin}/v1/deliveries?limit=3' -H 'Authorization: Bearer {admin}'

Ctrl-C stops everything."#,
        port = config.listen_addr.port(),
        metrics = config.metrics_addr,
        service = service.token(),
        admin = admin.token(),
    )
}

pub(super) fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

/// The median and the highest latency; `None` if `latencies` is empty.
pub(super) fn spread(latencies: &mut [Duration]) -> Option<(Duration, Duration)> {
    latencies.sort_unstable();
    latencies.get(latencies.len() / 2).copied().zip(latencies.last().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_line_cut_between_characters() {
        assert_eq!(excerpt(Some("customer"), Some("two\n lines")), "customer: two lines");
        assert_eq!(excerpt(Some("customer"), Some(&"語".repeat(41))), format!("customer: {}…", "語".repeat(40)));
        assert_eq!(excerpt(None, None), "");
    }

    #[test]
    fn finds_the_median_and_the_highest_latency() {
        let mut latencies = [9, 1, 3].map(Duration::from_millis);
        assert_eq!(spread(&mut latencies), Some((Duration::from_millis(3), Duration::from_millis(9))));
        assert_eq!(spread(&mut []), None);
    }
}
