//! JSON Schemas of the types that requests and responses are made of.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// Schemas of types that are read and of types that are written: one type can accept more than it writes.
pub(crate) struct Types {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Default for Types {
    fn default() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            // OpenAPI keeps schemas here, JSON Schema in `$defs`.
            settings.definitions_path = "/components/schemas".into();
        });
        Self { read: settings.clone().into_generator(), written: settings.for_serialize().into_generator() }
    }
}

impl Types {
    /// A reference to the schema of a type in requests.
    pub(crate) fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().into()
    }

    /// A reference to the schema of a type in responses.
    pub(crate) fn written<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().into()
    }

    /// The schemas that were referred to.
    pub(super) fn schemas(mut self) -> Map<String, Value> {
        let mut schemas = self.read.take_definitions(true);
        schemas.append(&mut self.written.take_definitions(true));
        schemas
    }
}
