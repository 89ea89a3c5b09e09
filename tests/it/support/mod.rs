//! What several topics need.

pub(crate) mod http2;
pub(crate) mod messages;
pub(crate) mod misbehaving;
pub(crate) mod never_accepts;
pub mod postgres;
pub mod temp_dir;
pub(crate) mod tls;
pub(crate) mod waiting;
pub(crate) mod wire;
