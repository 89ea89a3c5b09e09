//! All integration tests, in one binary: a module per topic, shared parts in `support`.

mod address_guard;
mod address_rules;
mod support;
mod webhook_faults;
mod webhook_http2;
mod webhook_message;
