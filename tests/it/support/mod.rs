//! Parts that several topics share.

pub mod http2;
pub mod messages;
pub mod misbehaving;
pub mod tls;
