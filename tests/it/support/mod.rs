//! What several topics need.

pub mod api;
pub mod client;
pub(crate) mod collector;
pub mod config_api;
pub mod deployment;
pub(crate) mod http2;
pub mod invariants;
pub(crate) mod jwt;
pub(crate) mod messages;
pub(crate) mod misbehaving;
pub(crate) mod never_accepts;
pub mod own_server;
pub mod postgres;
pub mod prometheus;
pub(crate) mod push;
pub(crate) mod push_deployment;
pub mod queue;
pub mod receiver;
pub mod seed;
pub mod service;
pub(crate) mod sse;
pub mod temp_dir;
pub(crate) mod tls;
pub(crate) mod waiting;
pub(crate) mod wire;
