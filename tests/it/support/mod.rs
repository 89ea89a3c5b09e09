//! What several topics need.

pub mod postgres;
pub mod temp_dir;
