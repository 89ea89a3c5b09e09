//! Tests of the conventions, with one file for each group of conventions.

mod documents;
mod files;
mod modules;
mod prose;
mod sizes;
mod source;
mod tasks;
