//! One file per kind of convention.

mod documents;
mod modules;
mod sizes;
mod source;
mod tasks;
