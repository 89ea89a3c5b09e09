//! What several topics need.

pub mod api;
pub mod config_api;
pub(crate) mod http2;
pub(crate) mod messages;
pub(crate) mod misbehaving;
pub(crate) mod never_accepts;
pub mod postgres;
pub mod queue;
pub mod seed;
pub mod temp_dir;
pub(crate) mod tls;
pub(crate) mod waiting;
pub(crate) mod wire;
