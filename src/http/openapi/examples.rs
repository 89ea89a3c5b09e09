//! Examples of responses by schema name, read from `examples.json`. Tests compare the examples with the API.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, Ref, RefOr};

const EXAMPLES: &str = include_str!("examples.json");

/// Maps the reference of each schema to an example.
pub(crate) struct Examples(BTreeMap<String, Value>);

impl Examples {
    pub(crate) fn read() -> Self {
        // Parsing cannot fail, because the file is compiled in and a test checks it.
        let by_name: BTreeMap<String, Value> = serde_json::from_str(EXAMPLES).unwrap_or_default();
        Self(by_name.into_iter().map(|(name, example)| (Ref::from_schema_name(name).ref_location, example)).collect())
    }

    /// Adds an example to each response whose schema has an example.
    pub(crate) fn add_to(&self, operation: &mut Operation) {
        for response in operation.responses.responses.values_mut() {
            let RefOr::T(response) = response else { continue };
            for content in response.content.values_mut() {
                if let RefOr::T(content) = content {
                    self.add_to_content(content);
                }
            }
        }
    }

    fn add_to_content(&self, content: &mut Content) {
        if let Some(RefOr::Ref(schema)) = &content.schema {
            content.example = self.0.get(&schema.ref_location).cloned();
        }
    }
}
