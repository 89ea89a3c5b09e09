//! What several topics need.

pub mod api;
pub mod postgres;
pub mod temp_dir;
