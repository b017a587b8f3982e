//! A JSON document that people read: its keys stay in the order in which they are written here. A map of serde_json's
//! that keeps an order would be one more crate.

use serde_core::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// An object, or a list of objects within one.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Document(Vec<(&'static str, Part)>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Value(Value),
    List(Vec<Document>),
}

impl Document {
    /// With one more key, the last one.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((key, Part::Value(value.into())));
        self
    }

    /// The same with documents as its value.
    pub fn with_list(mut self, key: &'static str, documents: impl IntoIterator<Item = Self>) -> Self {
        self.0.push((key, Part::List(documents.into_iter().collect())));
        self
    }

    /// The text, over several lines, without a line break at its end.
    pub fn text(&self) -> String {
        // Nothing that it is made of can fail: keys are strings, numbers are finite.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, part) in &self.0 {
            match part {
                Part::Value(value) => map.serialize_entry(key, value)?,
                Part::List(documents) => map.serialize_entry(key, documents)?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_keys_are_in_the_order_of_their_writing() {
        let inner = Document::default().with("z", 1).with("a", Value::Null);
        let document = Document::default().with("name", "x").with_list("all", [inner]);
        let text =
            "{\n  \"name\": \"x\",\n  \"all\": [\n    {\n      \"z\": 1,\n      \"a\": null\n    }\n  ]\n}";
        assert_eq!(document.text(), text);
    }
}
