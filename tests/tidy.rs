//! The conventions of this repository as tests: who may import whom, sizes, first lines, and that documents name what
//! exists.
//!
//! Reads text only and uses nothing but the standard library, so that it runs within seconds.

mod conventions;
