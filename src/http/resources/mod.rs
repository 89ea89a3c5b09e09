//! The handlers, a file per resource.

pub(crate) mod agents;
pub(crate) mod curl;
pub(crate) mod deliveries;
pub(crate) mod delivery_view;
pub(crate) mod endpoint_test_view;
pub(crate) mod endpoint_tests;
pub(crate) mod event_batch;
pub(crate) mod event_types;
pub(crate) mod events;
pub(crate) mod me;
pub(crate) mod operations;
pub(crate) mod portal;
pub(crate) mod push_config_answers;
pub(crate) mod push_config_history;
pub(crate) mod push_configs;
pub(crate) mod push_renewals;
pub(crate) mod push_subscriptions;
pub(crate) mod push_tests;
pub(crate) mod replays;
pub(crate) mod signing_secrets;
pub(crate) mod stats;
pub(crate) mod tokens;
pub(crate) mod user_browsers;
pub(crate) mod workspace;
