//! The stand-in's sources, for a program that builds its images where there is no registry: this crate's own folder
//! isn't there once it is installed.

/// Each file that the images of the products are built from, by its path.
pub const PRODUCTS: &[(&str, &str)] = &[
    ("Dockerfile", include_str!("Dockerfile")),
    ("arguments.rs", include_str!("arguments.rs")),
    ("config.rs", include_str!("config.rs")),
    ("connect.rs", include_str!("connect.rs")),
    ("database.rs", include_str!("database.rs")),
    ("dsn.rs", include_str!("dsn.rs")),
    ("health.rs", include_str!("health.rs")),
    ("log.rs", include_str!("log.rs")),
    ("main.rs", include_str!("main.rs")),
    ("migrate.rs", include_str!("migrate.rs")),
    ("migrations.rs", include_str!("migrations.rs")),
    ("migrations/hydra.sql", include_str!("migrations/hydra.sql")),
    ("migrations/keto.sql", include_str!("migrations/keto.sql")),
    ("migrations/kratos.sql", include_str!("migrations/kratos.sql")),
    ("product.rs", include_str!("product.rs")),
    ("serve.rs", include_str!("serve.rs")),
];

/// The same of the PostgreSQL image.
pub const POSTGRES: &[(&str, &str)] = &[
    ("Dockerfile", include_str!("postgres/Dockerfile")),
    ("entrypoint.sh", include_str!("postgres/entrypoint.sh")),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let count = |path: &Path| {
            let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
            entries.filter(|path| path.is_file() && path.file_name() != Some("lib.rs".as_ref())).count()
        };
        assert_eq!(PRODUCTS.len(), count(&folder) + count(&folder.join("migrations")));
        assert_eq!(POSTGRES.len(), count(&folder.join("postgres")));
    }
}
