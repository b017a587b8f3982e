//! What a backup says of itself: its manifest, in JSON. A file beside it has the manifest's own sum, so that no byte
//! of either can change unseen.

use std::collections::{BTreeMap, BTreeSet};

use jzon::{JsonValue, object};

use crate::contents::Contents;
use crate::digest;
use crate::product::Product;

/// The manifest's file.
pub const MANIFEST: &str = "manifest.json";

/// The file with the manifest's sum, as `sha256sum --check` reads it.
pub const MANIFEST_SUM: &str = "manifest.json.sha256";

/// The shape of the manifest. One of another shape isn't read.
const FORMAT: u64 = 1;

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// When it was begun, in UTC, as RFC 3339 has it.
    pub time: String,
    /// The project's name for Compose.
    pub project: String,
    /// What the fingerprints of the secrets are keyed with.
    pub salt: String,
    pub dumps: Vec<Dump>,
}

/// A dump of a database, or of one schema of it, in PostgreSQL's custom format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump {
    pub file: String,
    pub sha256: String,
    /// How long the file is, in bytes.
    pub bytes: u64,
    pub database: String,
    /// The schema that is dumped; none: the whole database.
    pub schema: Option<String>,
    pub contents: Contents,
    pub products: Vec<Content>,
}

/// A product whose tables are in a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub product: Product,
    pub image: String,
    /// The secrets that some of the rows are encrypted with: where each is set, and the fingerprints of its values.
    pub secrets: BTreeMap<String, Vec<String>>,
}

impl Dump {
    /// Its products' names, as a list.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.products.iter().map(|content| content.product.name()).collect();
        names.join(", ")
    }
}

impl Manifest {
    /// The dump that has a product's tables.
    pub fn dump_of(&self, product: Product) -> Option<&Dump> {
        self.dumps.iter().find(|dump| dump.products.iter().any(|content| content.product == product))
    }

    /// The manifest's text.
    pub fn write(&self) -> String {
        let dumps: Vec<_> = self.dumps.iter().map(write_dump).collect();
        let json = object! {
            "format": FORMAT, "time": self.time.as_str(), "project": self.project.as_str(),
            "salt": self.salt.as_str(), "dumps": dumps,
        };
        json.pretty(2) + "\n"
    }

    /// The text of the file with the manifest's sum.
    pub fn sum(text: &str) -> String {
        format!("{}  {MANIFEST}\n", digest::of(text))
    }

    /// Reads a manifest and the file with its sum. Fails with what is wrong with them.
    pub fn read(text: &[u8], sum: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(text).map_err(|_| format!("{MANIFEST} isn't text"))?;
        if Self::sum(text).as_bytes() != sum {
            return Err(format!("{MANIFEST} isn't as it was written: its sum is not that of {MANIFEST_SUM}"));
        }
        let json = jzon::parse(text).map_err(|error| format!("{MANIFEST}: {error}"))?;
        if json["format"].as_u64() != Some(FORMAT) {
            return Err(format!("{MANIFEST} has a format that this xtask doesn't know"));
        }
        let read = || {
            let dumps = json["dumps"].as_array()?.iter().map(read_dump).collect::<Option<_>>()?;
            let [time, project, salt] = ["time", "project", "salt"].map(|name| string(&json[name]));
            Some(Self { time: time?, project: project?, salt: salt?, dumps })
        };
        read().ok_or_else(|| format!("{MANIFEST} lacks something"))
    }
}

fn write_dump(dump: &Dump) -> JsonValue {
    let Contents { postgres, versions, rows, extensions, owners, owned, beyond, outside, .. } = &dump.contents;
    let content = |content: &Content| {
        let Content { product, image, secrets } = content;
        object! { "product": product.name(), "image": image.as_str(), "secrets": secrets.clone() }
    };
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
    object! {
        "file": dump.file.as_str(), "sha256": dump.sha256.as_str(), "bytes": dump.bytes,
        "database": dump.database.as_str(), "schema": dump.schema.clone(), "postgres": postgres.as_str(),
        "products": dump.products.iter().map(content).collect::<Vec<_>>(),
        "owners": list(owners), "owned": owned.clone(), "beyond": beyond.clone(), "outside": list(outside),
        "extensions": extensions.clone(), "rows": rows.clone(), "versions": list(versions),
    }
}

fn read_dump(json: &JsonValue) -> Option<Dump> {
    let content = |json: &JsonValue| {
        let strings = |(name, values): (&str, &JsonValue)| {
            let values = values.as_array()?.iter().map(string).collect::<Option<_>>()?;
            Some((name.to_string(), values))
        };
        Some(Content {
            product: Product::named(json["product"].as_str()?)?,
            image: string(&json["image"])?,
            secrets: json["secrets"].as_object()?.iter().map(strings).collect::<Option<_>>()?,
        })
    };
    let set = |name: &str| json[name].as_array()?.iter().map(string).collect::<Option<BTreeSet<_>>>();
    let contents = Contents {
        postgres: string(&json["postgres"])?,
        versions: set("versions")?,
        rows: pairs(&json["rows"], JsonValue::as_u64)?,
        extensions: pairs(&json["extensions"], string)?,
        owners: set("owners")?,
        // Older backups don't have them.
        owned: pairs(&json["owned"], string).unwrap_or_default(),
        beyond: pairs(&json["beyond"], string).unwrap_or_default(),
        outside: set("outside").unwrap_or_default(),
        ..Contents::default()
    };
    let file = string(&json["file"])?;
    // A name, and no way out of the folder.
    let is_name = !file.starts_with('.') && !file.contains(['/', '\\']);
    is_name.then_some(())?;
    Some(Dump {
        file,
        sha256: string(&json["sha256"])?,
        bytes: json["bytes"].as_u64()?,
        database: string(&json["database"])?,
        schema: string(&json["schema"]),
        contents,
        products: json["products"].as_array()?.iter().map(content).collect::<Option<_>>()?,
    })
}

fn string(json: &JsonValue) -> Option<String> {
    json.as_str().map(String::from)
}

fn pairs<T>(json: &JsonValue, read: impl Fn(&JsonValue) -> Option<T>) -> Option<BTreeMap<String, T>> {
    let pairs = json.as_object()?.iter();
    pairs.map(|(name, value)| Some((name.to_string(), read(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let contents = Contents {
            postgres: "17.1".into(),
            versions: BTreeSet::from(["1".to_string(), "2".into()]),
            rows: BTreeMap::from([("public.identities".to_string(), 20), ("public.networks".into(), 1)]),
            extensions: BTreeMap::from([("pg_trgm".to_string(), "public".to_string())]),
            owners: BTreeSet::from(["kratos".to_string()]),
            owned: BTreeMap::from([("table public.orders".to_string(), "shop".to_string())]),
            ..Contents::default()
        };
        let secrets = BTreeMap::from([("SECRETS_CIPHER".to_string(), vec!["f1".to_string(), "f2".into()])]);
        let product = Product::Kratos;
        Manifest {
            time: "2026-01-02T03:04:05Z".into(),
            project: "ory".into(),
            salt: "salt".into(),
            dumps: vec![Dump {
                file: "kratos.dump".into(),
                sha256: "sum".into(),
                bytes: 88_000,
                database: "kratos".into(),
                schema: None,
                contents,
                products: vec![Content { product, image: "oryd/kratos:v26.2.0".into(), secrets }],
            }],
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let text = manifest().write();
        assert_eq!(Manifest::read(text.as_bytes(), Manifest::sum(&text).as_bytes()), Ok(manifest()));
    }

    #[test]
    fn a_manifest_of_which_any_byte_has_changed_is_refused() {
        let text = manifest().write();
        let sum = Manifest::sum(&text);
        for index in 0..text.len() + sum.len() {
            let mut bytes = [text.as_bytes(), sum.as_bytes()].concat();
            bytes[index] ^= 1;
            let (text, sum) = bytes.split_at(text.len());
            assert!(Manifest::read(text, sum).is_err(), "byte {index}");
        }
        assert!(Manifest::read(&text.as_bytes()[..text.len() - 1], sum.as_bytes()).is_err());
        assert!(Manifest::read(text.as_bytes(), b"").is_err());
    }

    #[test]
    fn a_dump_is_in_the_folder_of_its_manifest() {
        for file in ["../kratos.dump", "/kratos.dump", "a\\b", ".", "a/b"] {
            let mut manifest = manifest();
            manifest.dumps[0].file = file.into();
            let text = manifest.write();
            assert!(Manifest::read(text.as_bytes(), Manifest::sum(&text).as_bytes()).is_err(), "{file}");
        }
    }
}
