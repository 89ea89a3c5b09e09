//! Tests the conventions of this repository: module imports, lengths, first lines, prose, and the names that documents mention.
//!
//! The tests read the source as text and use only the standard library, so they run within seconds.

mod conventions;
