//! One file per kind of convention.

mod documents;
mod modules;
mod prose;
mod sizes;
mod source;
mod tasks;
