//! Runs every query of every dashboard and every rule in a real Prometheus that scrapes a real service.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::deployment::{Deployment, TENANT, agents};
use crate::support::misbehaving::Receiver;
use crate::support::prometheus::Prometheus;
use crate::support::push_deployment::{Push, push_service};
use crate::support::seed;
use crate::support::service::{EACH_SECOND, Service, Settings};
use crate::support::waiting::within;

const DEADLINE: Duration = Duration::from_mins(1);

fn dashboards() -> Vec<Value> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/grafana");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()).collect()
}

/// A query of a dashboard, and the panel, annotation or variable that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    place: String,
    query: String,
    /// The label that a series must have, if the query lists the values of a label.
    label: Option<String>,
}

/// The queries of panels, annotations and variables, as Grafana sends them when every variable is set to "All".
fn questions(dashboard: &Value) -> Vec<Question> {
    let title = dashboard["title"].as_str().unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let question = |place: &Value, query: &Value| {
        let query = query.as_str().unwrap_or_else(|| panic!("{title} / {place} has no query"));
        let (query, label) = chosen(query);
        Question { place: format!("{title} / {}", place.as_str().unwrap()), query, label }
    };
    let panels = list(&dashboard["panels"]).into_iter().filter(|panel| panel["type"] != "row");
    let panels = panels.flat_map(|panel| {
        list(&panel["targets"]).into_iter().map(|target| question(&panel["title"], &target["expr"])).collect::<Vec<_>>()
    });
    let annotations = list(&dashboard["annotations"]["list"]).into_iter().filter(|one| one["builtIn"] != 1);
    let annotations = annotations.map(|one| question(&one["name"], &one["expr"]));
    let variables = list(&dashboard["templating"]["list"]).into_iter().filter(|one| one["type"] == "query");
    let variables = variables.map(|one| question(&one["name"], &one["query"]["query"]));
    panels.chain(annotations).chain(variables).collect()
}

/// Replaces the variables of the query. Also returns the label if the query lists the values of a label.
fn chosen(query: &str) -> (String, Option<String>) {
    let values = [
        ("$__rate_interval", "5s"),
        ("$__range", "1m"),
        ("$job", "flametree-notify"),
        ("$instance", ".*"),
        ("$channel", ".*"),
    ];
    let query = values.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value));
    assert!(!query.contains('$'), "{query} has a variable that this test does not replace");
    // The query label_values(SERIES, LABEL) lists the values of the label.
    match query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')?.rsplit_once(", ")) {
        Some((series, label)) => (format!("count by ({label}) ({series})"), Some(label.to_owned())),
        None => (query, None),
    }
}

/// True if a series of the result has a finite value and, if given, this label.
fn has_data(series: &[Value], label: Option<&str>) -> bool {
    let number = |one: &Value| one["value"][1].as_str().unwrap().parse::<f64>().unwrap();
    let has_label = |one: &Value| label.is_none_or(|label| one["metric"].get(label).is_some());
    series.iter().any(|one| number(one).is_finite() && has_label(one))
}

/// Sends traffic with successful deliveries and with requests that the receiver, the service or the database rejects.
struct Traffic {
    client: Client,
    agents: Vec<String>,
}

impl Traffic {
    async fn set_up(deployment: &Deployment, service: &Service) -> Self {
        let (client, agents) = (deployment.client(service), agents(3));
        deployment.configure(service, &agents).await;
        // No server listens at this address.
        let lost = json!({"enabled": true, "url": "http://127.0.0.1:1/", "events": ["user_message"]});
        let path = format!("/v1/agents/lost/push-config?tenant_id={TENANT}");
        assert_eq!(client.put(&path, &lost).await.status, 200);
        Self { client, agents }
    }

    async fn flow(&self, deployment: &Deployment) {
        let agents = [self.agents.as_slice(), &["lost".to_owned()]].concat();
        deployment.post(std::slice::from_ref(&self.client), &agents, 20).await;
        let assigned = json!({
            "type": "session_assigned", "tenant_id": TENANT, "agent_id": "agent-1", "session_id": "s-1",
            "assignee_id": "operator-1",
        });
        assert_eq!(self.client.post("/v1/events", &assigned).await.status, 202);
        assert_eq!(self.client.post("/v1/events", &json!({"type": "unheard_of"})).await.status, 422);
        for path in ["/readyz", &format!("/v1/deliveries?tenant_id={TENANT}"), "/v1/nothing"] {
            self.client.request(Method::GET, path, None).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_every_dashboard_has_data_and_every_rule_evaluates() {
    let browsers = push_service("201 Created", "", "").await;
    let Push { deployment, service } = &push_to(&browsers).await;
    let prometheus = Prometheus::of(&[service]).await;
    let traffic = Traffic::set_up(deployment, service).await;
    let mut without_data: BTreeSet<Question> = dashboards().iter().flat_map(questions).collect();
    let rules = prometheus.rules().await;
    let recorded = rules.iter().filter(|rule| rule["type"] == "recording").map(|rule| rule["name"].as_str().unwrap());
    without_data.extend(recorded.map(|name| Question {
        place: "a rule".to_owned(),
        query: name.to_owned(),
        label: None,
    }));
    assert!(without_data.len() > 80, "only {} queries were found", without_data.len());
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !without_data.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "no data: {without_data:#?}");
        traffic.flow(deployment).await;
        for question in without_data.clone() {
            let series = prometheus.query(&question.query).await;
            if has_data(&series, question.label.as_deref()) {
                without_data.remove(&question);
            }
        }
    }
    assert_rules_evaluate(&prometheus).await;
}

/// Starts a service with a browser of the user `operator-1`, who gets the sessions of the traffic. The rollup runs each second,
/// so the panel of operations has data at each scrape.
async fn push_to(browsers: &Receiver) -> Push {
    let often = |settings: Settings| settings.with("FLAMETREE_ROLLUP_SCHEDULE", EACH_SECOND);
    let push = Push::start(&[browsers], often).await;
    push.browser("operator-1", "a", browsers).await;
    push
}

/// Operators copy statements from the runbooks during an incident, so the statements must work.
#[tokio::test]
async fn sql_statements_in_runbooks_run_and_api_requests_name_a_tenant() {
    let documents = ["dashboards/alerts.yaml", "docs/operating.md"];
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let [runbooks, operating] = documents.map(read);
    let statements = runbooks.split("SELECT ").skip(1).map(|rest| rest.split_once(';').unwrap().0);
    let statements: Vec<_> = statements.map(|rest| format!("SELECT {rest}")).collect();
    assert!(statements.len() > 5, "{statements:#?}");
    let deployment = Deployment::new().await;
    for statement in statements {
        seed::run(&deployment.pool, statement).await;
    }
    let asked = [runbooks, operating].concat();
    let asked: Vec<_> = asked.split("GET /v1/deliveries").skip(1).map(str::to_owned).collect();
    assert!(asked.len() > 3 && asked.iter().all(|query| query.starts_with("?tenant_id=")), "{asked:#?}");
}

/// Each rule must evaluate without an error, and each alert must have a severity, a dashboard and a runbook.
async fn assert_rules_evaluate(prometheus: &Prometheus) {
    let evaluated = async || prometheus.rules().await.iter().all(|rule| rule["health"] != "unknown");
    within(DEADLINE, "every rule is evaluated", evaluated).await;
    let boards: Vec<Value> = dashboards().into_iter().map(|mut dashboard| dashboard["uid"].take()).collect();
    let rules = prometheus.rules().await;
    assert!(rules.len() > 15, "only {} rules were found", rules.len());
    for rule in rules {
        assert_eq!((&rule["health"], &rule["lastError"]), (&json!("ok"), &Value::Null), "{rule}");
        if rule["type"] == "alerting" {
            let annotations = &rule["annotations"];
            assert!(["critical", "warning"].map(Value::from).contains(&rule["labels"]["severity"]), "{rule}");
            assert!(boards.contains(&annotations["dashboard"]), "{rule}");
            assert!(annotations["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{rule}");
            assert!(annotations["runbook"].as_str().is_some_and(|runbook| runbook.contains("1. ")), "{rule}");
        }
    }
}
