//! What several topics need.

pub mod temp_dir;
