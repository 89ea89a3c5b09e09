//! What several topics need.

pub mod api;
pub mod postgres;
pub mod seed;
pub mod temp_dir;
