//! The secrets that rows in a database are encrypted with. Without them a backup has its rows, and nobody can read them.

use std::collections::BTreeMap;

use ory_facts::product::Product;
use ory_facts::sorted::Sorted;

use crate::checks::{Deployed, secrets};
use crate::settings;
use crate::text::scalar;

/// Where each secret of a product is set that encrypts rows, and its values: the first encrypts, each decrypts.
/// They are secrets.
pub fn secrets(deployed: &Deployed) -> BTreeMap<String, Vec<String>> {
    let Some(key) = deployed.product.encrypts().filter(|_| encrypts(deployed)) else {
        return BTreeMap::new();
    };
    let (place, values) = secrets::values(deployed, key);
    // Kratos falls back to its secret for everything.
    let (place, values) =
        if values.is_empty() { secrets::values(deployed, "default") } else { (place, values) };
    let values: Vec<_> = values.iter().filter_map(scalar).collect();
    (!values.is_empty()).then_some((place, values)).into_iter().into_map()
}

/// Kratos encrypts nothing unless an algorithm is set.
fn encrypts(deployed: &Deployed) -> bool {
    if deployed.product.kind != Product::Kratos {
        return true;
    }
    let in_environment = deployed.serve.environment.get("CIPHERS_ALGORITHM").cloned();
    let in_files = || {
        let files = settings::of(deployed.product.kind, deployed.serve).into_iter();
        files.filter_map(|(_, config)| scalar(&config["ciphers"]["algorithm"])).next_back()
    };
    in_environment.or_else(in_files).is_some_and(|algorithm| algorithm != "noop")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use yaml_rust2::YamlLoader;

    use super::*;
    use crate::stack::Stack;

    fn of(compose: &str) -> Vec<BTreeMap<String, Vec<String>>> {
        let yaml = YamlLoader::load_from_str(compose).expect("YAML").remove(0);
        Stack::read(&yaml, false, Path::new(".")).view().products.iter().map(secrets).collect()
    }

    #[test]
    fn hydra_encrypts_with_its_system_secret_and_the_old_ones_still_decrypt() {
        let compose =
            "services:\n  hydra: {image: 'oryd/hydra:v26.2.0', environment: {SECRETS_SYSTEM: 'new,old'}}\n";
        let expected =
            BTreeMap::from([("SECRETS_SYSTEM".to_string(), vec!["new".to_string(), "old".into()])]);
        assert_eq!(of(compose), [expected]);
    }

    #[test]
    fn kratos_encrypts_only_where_an_algorithm_is_set() {
        let compose = |algorithm: &str| {
            format!(
                "services:\n  kratos:\n    image: 'oryd/kratos:v26.2.0'\n    environment: {{SECRETS_DEFAULT: d, \
                 CIPHERS_ALGORITHM: {algorithm}}}\n"
            )
        };
        assert_eq!(of(&compose("noop")), [BTreeMap::new()]);
        let expected = BTreeMap::from([("SECRETS_DEFAULT".to_string(), vec!["d".to_string()])]);
        assert_eq!(of(&compose("aes")), [expected]);
    }
}
