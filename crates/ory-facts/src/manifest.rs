//! What a backup says of itself: its manifest, in JSON. A file beside it has the manifest's own sum, so that no byte
//! of either can change unseen; another one is signed with a key of the stack, so that nobody else can make either.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::contents::Contents;
use crate::digest;
use crate::document::Document;
use crate::instance::Instance;
use crate::product::Product;
use crate::sorted::Sorted;

/// The manifest's file.
pub const MANIFEST: &str = "manifest.json";

/// The file with the manifest's sum, as `sha256sum --check` reads it.
pub const MANIFEST_SUM: &str = "manifest.json.sha256";

/// The file with the manifest's signature.
pub const MANIFEST_SIGNATURE: &str = "manifest.json.hmac-sha256";

/// How long a manifest may be: one of a hundred thousand tables is shorter.
pub const MANIFEST_LIMIT: u64 = 1 << 24;

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
    /// The products that were about to go to other images when it was made; none of most backups.
    pub upgrades: Vec<Upgraded>,
}

/// A product that goes from some images to others, each by the name of its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgraded {
    pub product: Instance,
    /// When the upgrade began that it is a part of, which may make several backups.
    pub began: String,
    pub old: BTreeMap<String, String>,
    pub new: BTreeMap<String, String>,
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
    pub product: Instance,
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
    pub fn dump_of(&self, product: Instance) -> Option<&Dump> {
        self.dumps.iter().find(|dump| dump.products.iter().any(|content| content.product == product))
    }

    /// The images that services had before the upgrade that it was made before, by the names of the services.
    pub fn old_images(&self) -> BTreeMap<String, String> {
        self.upgrades.iter().flat_map(|one| one.old.clone()).into_map()
    }

    /// Those that they were to have.
    pub fn new_images(&self) -> BTreeMap<String, String> {
        self.upgrades.iter().flat_map(|one| one.new.clone()).into_map()
    }

    /// How large its dumps are, in bytes.
    pub fn bytes(&self) -> u64 {
        self.dumps.iter().map(|dump| dump.bytes).sum()
    }

    /// The manifest's text.
    pub fn write(&self) -> String {
        let head = Document::default().with("format", FORMAT).with("time", self.time.as_str());
        let head = head.with("project", self.project.as_str()).with("salt", self.salt.as_str());
        let document = head.with_list("dumps", self.dumps.iter().map(write_dump));
        // A format of its own would make every backup unreadable for an xtask of before.
        let document = match self.upgrades.is_empty() {
            true => document,
            false => document.with_list("upgrades", self.upgrades.iter().map(write_upgraded)),
        };
        format!("{}\n", document.text())
    }

    /// The text of the file with the manifest's sum.
    pub fn sum(text: &str) -> String {
        format!("{}  {MANIFEST}\n", digest::of(text))
    }

    /// The text of the file with the manifest's signature.
    pub fn signature(key: &str, text: &str) -> String {
        format!("{}  {MANIFEST}\n", digest::fingerprint(key, text))
    }

    /// Reads a manifest and the file with its sum. Fails with what is wrong with them.
    pub fn read(text: &[u8], sum: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(text).map_err(|_| format!("{MANIFEST} isn't text"))?;
        if Self::sum(text).as_bytes() != sum {
            return Err(format!(
                "{MANIFEST} has changed since it was written: its sum is not that of {MANIFEST_SUM}"
            ));
        }
        let json: Value = serde_json::from_str(text).map_err(|_| format!("{MANIFEST} isn't JSON"))?;
        if json["format"].as_u64() != Some(FORMAT) {
            return Err(format!("{MANIFEST} has a format that this xtask doesn't know"));
        }
        let read = || {
            let dumps = json["dumps"].as_array()?.iter().map(read_dump).collect::<Option<_>>()?;
            let [time, project, salt] = ["time", "project", "salt"].map(|name| string(&json[name]));
            let upgrades = json["upgrades"]
                .as_array()
                .map_or(Some(vec![]), |all| all.iter().map(read_upgraded).collect::<Option<_>>())?;
            Some(Self { time: time?, project: project?, salt: salt?, dumps, upgrades })
        };
        let manifest = read().ok_or_else(|| format!("{MANIFEST} lacks something"))?;
        manifest.check().map(|()| manifest).map_err(|fault| format!("{MANIFEST} {fault}"))
    }

    /// Fails with what can't be so, whoever wrote it. What isn't refused here is added up without a look.
    fn check(&self) -> Result<(), String> {
        if self.dumps.is_empty() {
            return Err("has no dump".into());
        }
        if !is_time(&self.time) {
            return Err("has a time that isn't one".into());
        }
        let (mut files, mut products) = (BTreeSet::new(), BTreeSet::new());
        let mut sums = [0_u64; 2];
        for dump in &self.dumps {
            // A name, and no way out of the folder, nor anything but a dump in it.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if dump.file.starts_with('.') || !dump.file.ends_with(".dump") || !dump.file.chars().all(plain) {
                return Err("has a dump whose file has another name than dumps have".into());
            }
            if !files.insert(&dump.file) {
                return Err(format!("has {} twice", dump.file));
            }
            if dump.products.is_empty() {
                return Err(format!("has no product in {}", dump.file));
            }
            for content in &dump.products {
                if !products.insert(content.product) {
                    return Err(format!("has {} twice", content.product));
                }
            }
            for (sum, number) in dump.contents.rows.values().map(|rows| (1, *rows)).chain([(0, dump.bytes)]) {
                sums[sum] = sums[sum].checked_add(number).ok_or("has numbers that are too large")?;
            }
        }
        Ok(())
    }
}

/// Whether a text is a time as [`Manifest::time`] has it: of two, the later one is the greater text.
pub fn is_time(text: &str) -> bool {
    const SHAPE: &str = "0000-00-00T00:00:00Z";
    let fits = |(c, shape): (char, char)| if shape == '0' { c.is_ascii_digit() } else { c == shape };
    text.len() == SHAPE.len() && text.chars().zip(SHAPE.chars()).all(fits)
}

fn write_upgraded(upgraded: &Upgraded) -> Document {
    let Upgraded { product, began, old, new } = upgraded;
    let named = Document::default().with("product", product.kind.name()).with("name", product.name());
    named.with("began", began.as_str()).with("old", json!(old)).with("new", json!(new))
}

fn read_upgraded(json: &Value) -> Option<Upgraded> {
    let images = |name: &str| pairs(&json[name], string);
    let began = string(&json["began"])?;
    Some(Upgraded { product: instance(json)?, began, old: images("old")?, new: images("new")? })
}

fn write_dump(dump: &Dump) -> Document {
    let Contents { postgres, versions, rows, extensions, owners, owned, beyond, outside, .. } =
        &dump.contents;
    let content = |content: &Content| {
        let Content { product, image, secrets } = content;
        let named = Document::default().with("product", product.kind.name()).with("name", product.name());
        named.with("image", image.as_str()).with("secrets", json!(secrets))
    };
    Document::default()
        .with("file", dump.file.as_str())
        .with("sha256", dump.sha256.as_str())
        .with("bytes", dump.bytes)
        .with("database", dump.database.as_str())
        .with("schema", dump.schema.as_deref())
        .with("postgres", postgres.as_str())
        .with_list("products", dump.products.iter().map(content))
        .with("owners", json!(owners))
        .with("owned", json!(owned))
        .with("beyond", json!(beyond))
        .with("outside", json!(outside))
        .with("extensions", json!(extensions))
        .with("rows", json!(rows))
        .with("versions", json!(versions))
}

fn read_dump(json: &Value) -> Option<Dump> {
    let content = |json: &Value| {
        let strings = |(name, values): (&String, &Value)| {
            let values = values.as_array()?.iter().map(string).collect::<Option<_>>()?;
            Some((name.clone(), values))
        };
        Some(Content {
            product: instance(json)?,
            image: string(&json["image"])?,
            secrets: json["secrets"].as_object()?.iter().map(strings).all_into_map()?,
        })
    };
    let set = |name: &str| json[name].as_array()?.iter().map(string).all_into_set();
    let contents = Contents {
        postgres: string(&json["postgres"])?,
        versions: set("versions")?,
        rows: pairs(&json["rows"], Value::as_u64)?,
        extensions: pairs(&json["extensions"], string)?,
        owners: set("owners")?,
        // Older backups don't have them.
        owned: pairs(&json["owned"], string).unwrap_or_default(),
        beyond: pairs(&json["beyond"], string).unwrap_or_default(),
        outside: set("outside").unwrap_or_default(),
        ..Contents::default()
    };
    Some(Dump {
        file: string(&json["file"])?,
        sha256: string(&json["sha256"])?,
        bytes: json["bytes"].as_u64()?,
        database: string(&json["database"])?,
        schema: string(&json["schema"]),
        contents,
        products: json["products"].as_array()?.iter().map(content).collect::<Option<_>>()?,
    })
}

/// Backups of before several of a kind could be in a stack have no name.
fn instance(json: &Value) -> Option<Instance> {
    let kind = Product::named(json["product"].as_str()?)?;
    Some(json["name"].as_str().map_or(kind.into(), |name| Instance::named(kind, name)))
}

fn string(json: &Value) -> Option<String> {
    json.as_str().map(String::from)
}

fn pairs<T>(json: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<BTreeMap<String, T>> {
    let pairs = json.as_object()?.iter();
    pairs.map(|(name, value)| Some((name.clone(), read(value)?))).all_into_map()
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
        let product = Product::Kratos.into();
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
            upgrades: vec![],
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
    fn the_keys_of_a_manifest_stand_in_the_order_in_which_it_is_read_by_people() {
        let text = manifest().write();
        let keys = text.lines().filter_map(|line| line.trim().split_once("\": ").map(|(key, _)| key));
        let keys: Vec<_> = keys.map(|key| key.trim_start_matches('"')).collect();
        let expected = "format time project salt dumps file sha256 bytes database schema postgres products product name \
                        image secrets SECRETS_CIPHER owners owned table public.orders beyond outside extensions pg_trgm \
                        rows public.identities public.networks versions";
        assert_eq!(keys.join(" "), expected);
    }

    #[test]
    fn a_manifest_of_before_is_read_and_one_of_another_format_or_without_a_part_is_refused() {
        let text = manifest().write();
        let without = |key: &str| {
            let mut json: Value = serde_json::from_str(&text).expect("JSON");
            let dump = &mut json["dumps"][0];
            let removed = match key {
                "name" => dump["products"][0].as_object_mut().expect("a product").remove(key),
                _ => dump.as_object_mut().expect("a dump").remove(key),
            };
            assert!(removed.is_some(), "{key}");
            read(json.to_string().as_bytes())
        };
        for key in ["name", "owned", "beyond", "outside", "schema"] {
            assert!(without(key).is_ok(), "{key}");
        }
        for key in [
            "file",
            "sha256",
            "bytes",
            "database",
            "postgres",
            "rows",
            "versions",
            "extensions",
            "owners",
            "products",
        ] {
            assert_eq!(without(key), Err(format!("{MANIFEST} lacks something")), "{key}");
        }
        let other = read(text.replace("\"format\": 1", "\"format\": 2").as_bytes());
        assert_eq!(other, Err(format!("{MANIFEST} has a format that this xtask doesn't know")));
    }

    #[test]
    fn a_product_is_found_in_the_dump_that_has_its_tables() {
        let manifest = manifest();
        let file = |product: Instance| manifest.dump_of(product).map(|dump| dump.file.as_str());
        assert_eq!(file(Product::Kratos.into()), Some("kratos.dump"));
        assert_eq!(file(Instance::named(Product::Kratos, "customers")), None);
        assert_eq!(file(Product::Hydra.into()), None);
        assert_eq!((manifest.dumps[0].names().as_str(), manifest.bytes()), ("kratos", 88_000));
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

    fn read(text: &[u8]) -> Result<Manifest, String> {
        let sum = format!("{}  {MANIFEST}\n", digest::of_bytes(text));
        Manifest::read(text, sum.as_bytes())
    }

    #[test]
    fn whatever_a_manifest_has_it_is_read_or_refused() {
        let text = manifest().write();
        let mut seed = 7_u64;
        let mut below = |limit: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % limit
        };
        let odd = "18446744073709551615 18446744073709551616 -1 1e99999 1e-99999 0.1 { [[ \" \\u \\ud800 null \u{1b} é , 9";
        let odd: Vec<_> = odd.split(' ').collect();
        for _ in 0..20_000 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..=below(3) {
                let (from, length) = (below(bytes.len()), below(6));
                let with = odd[below(odd.len())].as_bytes().iter().copied();
                bytes.splice(from..(from + length).min(bytes.len()), with);
            }
            if let Ok(manifest) = read(&bytes) {
                let rows = manifest.dumps.iter().map(|dump| dump.contents.total());
                assert!(rows.sum::<u64>() < u64::MAX && manifest.bytes() < u64::MAX);
            }
        }
    }

    #[test]
    fn numbers_of_any_size_and_shape_are_refused_not_counted() {
        let with = |number: &str| read(manifest().write().replace("88000", number).as_bytes());
        assert_eq!(with("88001").expect("a number").bytes(), 88_001);
        let long = format!("0.{}", "1".repeat(40_000));
        let digits = "9".repeat(40_000);
        let short = "1e99999 1e-99999 1e32767 10000000000000000000000e32767 -1 18446744073709551616";
        for number in short.split(' ').chain([&*long, &digits]) {
            assert!(with(number).is_err(), "{number:.30}");
        }
        assert!(read("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn a_manifest_tells_each_thing_once() {
        let changed = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            read(manifest.write().as_bytes())
        };
        let second = |manifest: &mut Manifest, change: &dyn Fn(&mut Dump)| {
            let mut dump = manifest.dumps[0].clone();
            (dump.file, dump.products[0].product) = ("keto.dump".into(), Product::Keto.into());
            change(&mut dump);
            manifest.dumps.push(dump);
        };
        // Two databases of one name are on two servers.
        changed(&|manifest| second(manifest, &|_| ())).expect("two dumps");
        let refused = [
            changed(&|manifest| second(manifest, &|dump| dump.products[0].product = Product::Kratos.into())),
            changed(&|manifest| second(manifest, &|dump| dump.file = "kratos.dump".into())),
            changed(&|manifest| second(manifest, &|dump| dump.products.clear())),
            changed(&|manifest| second(manifest, &|dump| dump.products.push(dump.products[0].clone()))),
            changed(&|manifest| second(manifest, &|dump| dump.bytes = u64::MAX)),
            changed(&|manifest| _ = manifest.dumps[0].contents.rows.insert("t".into(), u64::MAX)),
            changed(&|manifest| manifest.dumps.clear()),
            changed(&|manifest| manifest.time = "tomorrow".into()),
            changed(&|manifest| manifest.time = "9999-01-01T00:00:00Z\n".into()),
            changed(&|manifest| manifest.dumps[0].file = MANIFEST.into()),
            changed(&|manifest| manifest.dumps[0].file = "\u{1b}[2J.dump".into()),
        ];
        for (index, refused) in refused.iter().enumerate() {
            assert!(refused.is_err(), "{index}");
        }
    }
}
