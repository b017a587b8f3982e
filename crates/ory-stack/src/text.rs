//! YAML as texts: Compose and people write the same thing in several ways.

use std::collections::BTreeMap;

use ory_facts::sorted::Sorted;

use yaml_rust2::Yaml;

/// A scalar as text, however YAML typed it.
pub fn scalar(yaml: &Yaml) -> Option<String> {
    match yaml {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

/// One text, or a list of them.
pub(crate) fn texts(yaml: &Yaml) -> Vec<String> {
    scalar(yaml).map_or_else(|| list(yaml), |text| vec![text])
}

/// What a list has; of what is none, nothing.
pub(crate) fn items(yaml: &Yaml) -> &[Yaml] {
    yaml.as_vec().map_or(&[], Vec::as_slice)
}

/// The scalars of a list.
pub(crate) fn list(yaml: &Yaml) -> Vec<String> {
    items(yaml).iter().filter_map(scalar).collect()
}

/// A command: a list in v2, one string of shell words in 1.29.
pub(crate) fn words(yaml: &Yaml) -> Vec<String> {
    match scalar(yaml) {
        Some(text) => shlex::split(&text).unwrap_or_else(|| vec![text]),
        None => list(yaml),
    }
}

/// The scalars of a map; what has no value is empty.
pub(crate) fn map(yaml: &Yaml) -> BTreeMap<String, String> {
    let pairs = yaml.as_hash().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((scalar(key)?, scalar(value).unwrap_or_default()))).into_map()
}

/// The names of a map, or of a list.
pub(crate) fn keys(yaml: &Yaml) -> Vec<String> {
    match yaml.as_hash() {
        Some(hash) => hash.keys().filter_map(scalar).collect(),
        None => list(yaml),
    }
}
