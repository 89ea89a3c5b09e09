//! The integration tests: one binary with a module per topic. They use real servers, databases and sockets.

#![allow(unreachable_pub, reason = "a test binary exports nothing, so `pub` marks the items that other modules use")]
#![allow(clippy::disallowed_methods, reason = "tests inspect the database with SQL statements")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot continue must fail, and clippy.toml's exceptions do not cover helper functions"
)]

mod access_walk;
mod address_guard;
mod address_rules;
mod alerts;
mod api_access;
mod api_batches;
mod api_deliveries;
mod api_events;
mod api_limits;
mod api_portal;
mod api_service;
mod api_users;
mod attempts;
mod browser_pages;
mod browser_push;
mod containers;
mod crash_database;
mod crash_embedded;
mod crash_isolation;
mod crash_operations;
mod crash_partition;
mod crash_pooler;
mod crash_rolling;
mod crash_steps;
mod crash_workers;
mod dashboards;
mod demo;
mod embedded_postgres;
mod endpoint_test_curl;
mod endpoint_test_secrets;
mod endpoint_tests;
mod failover;
mod idempotency;
mod integrator_snippets;
mod keys;
mod log_silence;
mod longevity;
mod longevity_costs;
mod longevity_migrations;
mod mobile_push;
mod name_resolution;
mod neighbours_api;
mod neighbours_dns;
mod neighbours_hints;
mod neighbours_ingest;
mod neighbours_operations;
mod neighbours_push;
mod openapi_fuzz;
mod operation_health;
mod operations;
mod pool;
mod portal_serving;
mod previous_release;
mod pruning_plans;
mod published_keys;
mod push_config_history;
mod push_config_races;
mod push_config_secrets;
mod push_configs;
mod push_message;
mod push_renewals;
mod push_service;
mod push_subscriptions;
mod push_users;
mod push_vectors;
mod queue_endings;
mod queue_plans;
mod queue_protocol;
mod queue_search;
mod readme_steps;
mod replay_operations;
mod replays;
mod restore;
mod retention;
mod retention_clocks;
mod rollup_progress;
mod secrets;
mod server_settings;
mod set_aside_claims;
mod set_aside_outcomes;
mod signing_secrets;
mod sql_events;
mod sql_rules;
mod stats;
mod stats_rollups;
mod supervision;
mod support;
mod tenant_keys;
mod traces;
mod unreadable;
mod user_browsers;
mod waits_for_locks;
mod webhook_answers;
mod webhook_faults;
mod webhook_http2;
mod webhook_message;
mod workspace_counts;
mod workspace_crash;
mod workspace_stream;
mod workspace_tickets;
mod workspace_users;
mod wrong_credentials;
