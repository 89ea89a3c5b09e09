//! Tests the text of the metrics that Prometheus scrapes.

use std::time::Duration;

use super::metrics::*;
use crate::domain::delivery::Outcome;
use crate::domain::endpoint::Channel;

#[test]
fn series_with_fixed_labels_exist_from_the_start() {
    let text = Metrics::new("1.2.3", "abc").render();
    for outcome in Outcome::ALL {
        for channel in Channel::ALL {
            let (channel, outcome) = (channel.as_str(), outcome.as_str());
            let series = format!("flametree_deliveries_total{{channel=\"{channel}\",outcome=\"{outcome}\"}} 0\n");
            assert!(text.contains(&series), "{series}");
        }
    }
    for series in [
        "flametree_events_accepted_total{type=\"session_resolved\"} 0\n",
        "flametree_ingest_duration_seconds_count 0\n",
        "flametree_queue_oldest_ready_seconds{channel=\"browser_push\"} 0\n",
        "flametree_db_pool_connections{pool=\"claims\",state=\"in_use\"} 0\n",
        "flametree_build_info{revision=\"abc\",version=\"1.2.3\"} 1\n",
    ] {
        assert!(text.contains(series), "{series}");
    }
}

#[test]
fn the_help_text_of_a_metric_is_its_doc_comment() {
    let text = Metrics::new("1", "a").render();
    assert!(text.contains("# HELP flametree_deliveries_total Deliveries that ended, by outcome.\n"));
}

#[test]
fn renders_recorded_durations_in_seconds() {
    let metrics = Metrics::new("1", "a");
    let clone = metrics.clone();
    clone.attempt_observed(Channel::Webhook, Duration::from_millis(3));
    clone.http_request("/v1/events", "BREW", 418, Duration::from_millis(1));
    clone.set_pool_connections(PoolName::Api, 3, 4);
    let text = metrics.render();
    for line in [
        "flametree_delivery_duration_seconds_bucket{channel=\"webhook\",le=\"0.002\"} 0\n",
        "flametree_delivery_duration_seconds_bucket{channel=\"webhook\",le=\"0.004\"} 1\n",
        "flametree_http_requests_total{method=\"other\",route=\"/v1/events\",status_class=\"4xx\"} 1\n",
        "flametree_db_pool_connections{pool=\"api\",state=\"in_use\"} 4\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
