//! Parts that several topics share.

pub(crate) mod http2;
pub(crate) mod messages;
pub(crate) mod misbehaving;
pub(crate) mod never_accepts;
pub(crate) mod tls;
pub(crate) mod waiting;
pub(crate) mod wire;
