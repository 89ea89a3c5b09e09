//! The conventions of this repository as tests: module imports, sizes, first lines, and that documents name only what
//! exists.
//!
//! Reads text and uses only the standard library, so that it runs within seconds.

mod conventions;
