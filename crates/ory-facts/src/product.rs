//! Kratos, Hydra and Keto: the facts about Ory itself, one table. It imports nothing.

/// An Ory product. The order is the order of the migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Product {
    Kratos,
    Hydra,
    Keto,
}

/// A release, `v26.2.0` as `(26, 2, 0)`.
pub type Release = (u32, u32, u32);

/// What is fixed in a product, whatever the stack.
struct Facts {
    /// Its program, its image's name and, nearly always, its service.
    name: &'static str,
    /// Arguments that apply the migrations without asking.
    migrate: &'static [&'static str],
    /// Arguments that print every version the image carries as JSON, each Applied or Pending.
    status: &'static [&'static str],
    /// The first release with the status command. Older ones take its words for a migration.
    /// Source: ory/kratos#4228 and ory/hydra#3894.
    status_since: Release,
    /// It reads its configuration file when it migrates, so the file must always be named.
    migrate_reads_config: bool,
    /// Its listeners that answer `/health/ready`: the name under `serve:` in its configuration, and the
    /// default port.
    health: &'static [(&'static str, u16)],
    /// Other ports of its own: Keto's metrics.
    without_health: &'static [u16],
    /// The configuration file it reads where none is named.
    default_config: Option<&'static str>,
    /// Tables that each of its releases has, and no other product.
    tables: &'static [&'static str],
    /// The other tables that one of its releases has made, or the way to it.
    more_tables: &'static [&'static str],
    /// Its secrets: the name under `secrets:` in its configuration, and how short and how long one may be.
    secrets: &'static [(&'static str, usize, usize)],
    /// The one among them that rows are encrypted with.
    encrypts: Option<&'static str>,
}

const KRATOS: Facts = Facts {
    name: "kratos",
    migrate: &["migrate", "sql", "-e", "--yes"],
    status: &["migrate", "sql", "status", "-e", "--format", "json"],
    status_since: (25, 4, 0),
    migrate_reads_config: false,
    health: &[("public", 4433), ("admin", 4434)],
    without_health: &[],
    default_config: None,
    tables: &[
        "identities",
        "identity_credentials",
        "identity_credential_types",
        "identity_credential_identifiers",
        "sessions",
        "courier_messages",
    ],
    more_tables: &[
        "continuity_containers",
        "courier_message_dispatches",
        "identity_login_codes",
        "identity_recovery_addresses",
        "identity_recovery_codes",
        "identity_recovery_tokens",
        "identity_registration_codes",
        "identity_verifiable_addresses",
        "identity_verification_codes",
        "identity_verification_tokens",
        "selfservice_errors",
        "selfservice_login_flow_methods",
        "selfservice_login_flows",
        "selfservice_recovery_flow_methods",
        "selfservice_recovery_flows",
        "selfservice_registration_flow_methods",
        "selfservice_registration_flows",
        "selfservice_settings_flow_methods",
        "selfservice_settings_flows",
        "selfservice_verification_flow_methods",
        "selfservice_verification_flows",
        "session_devices",
        "session_token_exchanges",
    ],
    secrets: &[("cookie", 16, usize::MAX), ("cipher", 32, 32), ("default", 16, usize::MAX)],
    encrypts: Some("cipher"),
};

const HYDRA: Facts = Facts {
    name: "hydra",
    status_since: (2, 3, 0),
    health: &[("public", 4444), ("admin", 4445)],
    tables: &["hydra_client", "hydra_jwk", "hydra_oauth2_access", "hydra_oauth2_refresh"],
    more_tables: &[
        "hydra_oauth2_authentication_request",
        "hydra_oauth2_authentication_request_handled",
        "hydra_oauth2_authentication_session",
        "hydra_oauth2_code",
        "hydra_oauth2_consent_request",
        "hydra_oauth2_consent_request_handled",
        "hydra_oauth2_device_auth_codes",
        "hydra_oauth2_flow",
        "hydra_oauth2_jti_blacklist",
        "hydra_oauth2_logout_request",
        "hydra_oauth2_obfuscated_authentication_session",
        "hydra_oauth2_oidc",
        "hydra_oauth2_pkce",
        "hydra_oauth2_trusted_jwt_bearer_issuer",
    ],
    secrets: &[("system", 16, usize::MAX), ("cookie", 16, usize::MAX)],
    encrypts: Some("system"),
    ..KRATOS
};

const KETO: Facts = Facts {
    name: "keto",
    migrate: &["migrate", "up", "--yes"],
    status: &["migrate", "status", "--format", "json"],
    status_since: (0, 0, 0),
    migrate_reads_config: true,
    health: &[("read", 4466), ("write", 4467)],
    without_health: &[4468],
    default_config: Some("/home/ory/keto.yml"),
    tables: &["keto_relation_tuples", "keto_uuid_mappings"],
    more_tables: &["keto_namespace"],
    secrets: &[],
    encrypts: None,
};

impl Product {
    /// Every product, in the order of the migrations.
    pub const ALL: [Self; 3] = [Self::Kratos, Self::Hydra, Self::Keto];

    fn facts(self) -> &'static Facts {
        match self {
            Self::Kratos => &KRATOS,
            Self::Hydra => &HYDRA,
            Self::Keto => &KETO,
        }
    }

    /// The product's name in lower case, which is also its program's.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The product of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// The arguments of the migration. `configs` are the files the stack names; `dsn_in_config` tells
    /// that only they have the DSN. Otherwise Kratos and Hydra need no file to migrate.
    pub fn migrate(self, configs: &[String], dsn_in_config: bool) -> Vec<String> {
        self.arguments(self.facts().migrate, configs, dsn_in_config)
    }

    /// The arguments that print what the image carries as JSON; see [`Product::migrate`].
    pub fn status(self, configs: &[String], dsn_in_config: bool) -> Vec<String> {
        self.arguments(self.facts().status, configs, dsn_in_config)
    }

    fn arguments(self, words: &[&str], configs: &[String], dsn_in_config: bool) -> Vec<String> {
        let mut arguments: Vec<String> = words.iter().map(ToString::to_string).collect();
        if dsn_in_config || self.facts().migrate_reads_config {
            for file in configs {
                arguments.extend(["-c".into(), file.clone()]);
            }
        }
        arguments
    }

    /// Whether this release has the status command.
    pub fn has_status(self, release: Release) -> bool {
        release >= self.facts().status_since
    }

    /// Its listeners that answer `/health/ready`: name under `serve:` and default port.
    pub fn listeners(self) -> &'static [(&'static str, u16)] {
        self.facts().health
    }

    /// The configuration file it reads where none is named.
    pub fn default_config(self) -> Option<&'static str> {
        self.facts().default_config
    }

    /// Tables that each of its releases has, and no other product. `networks` is of all three.
    pub fn tables(self) -> &'static [&'static str] {
        self.facts().tables
    }

    /// Every table that is known to be its own in one of its releases. What another image makes, it tells itself.
    pub fn known_tables(self) -> impl Iterator<Item = &'static str> {
        let facts = self.facts();
        facts.tables.iter().chain(facts.more_tables).chain(&["networks", "schema_migration"]).copied()
    }

    /// Its secrets: the name under `secrets:`, and how short and how long one may be.
    pub fn secrets(self) -> &'static [(&'static str, usize, usize)] {
        self.facts().secrets
    }

    /// The secret that rows are encrypted with: Hydra's keys and sessions; Kratos's tokens of other providers, where an
    /// algorithm is set. Each value of a list decrypts, the first encrypts.
    /// Source: <https://www.ory.sh/docs/hydra/self-hosted/secrets-key-rotation>,
    /// <https://www.ory.sh/docs/kratos/guides/secret-key-rotation>.
    pub fn encrypts(self) -> Option<&'static str> {
        self.facts().encrypts
    }

    /// Whether a port of the container answers `/health/ready`.
    pub fn has_health(self, port: u16) -> bool {
        !self.facts().without_health.contains(&port)
    }
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Parses `v26.2.0`, `26.2.0-distroless` or `v0.11.1-alpha.0`; a pre-release counts as its release.
pub fn parse_release(text: &str) -> Option<Release> {
    let mut parts = text.trim().trim_start_matches('v').split(['-', '+']).next()?.splitn(3, '.');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_those_of_the_guide() {
        let files = ["/etc/config/keto/keto.yml".to_string()];
        let line = |p: Product| p.migrate(&files, false).join(" ");
        assert_eq!(line(Product::Kratos), "migrate sql -e --yes");
        assert_eq!(line(Product::Hydra), "migrate sql -e --yes");
        assert_eq!(line(Product::Keto), "migrate up --yes -c /etc/config/keto/keto.yml");
    }

    #[test]
    fn a_dsn_that_only_a_file_has_makes_each_file_an_argument_in_order() {
        let files = ["/etc/hydra.yml", "/run/secrets/hydra.yml"].map(String::from);
        let line = Product::Hydra.migrate(&files, true).join(" ");
        assert_eq!(line, "migrate sql -e --yes -c /etc/hydra.yml -c /run/secrets/hydra.yml");
    }

    #[test]
    fn releases_without_a_status_command_are_known() {
        assert!(!Product::Kratos.has_status((1, 3, 1)));
        assert!(Product::Kratos.has_status((25, 4, 0)));
        assert!(!Product::Hydra.has_status((2, 2, 0)));
        assert!(Product::Hydra.has_status((2, 3, 0)));
        assert!(Product::Keto.has_status((0, 11, 0)));
    }

    #[test]
    fn a_release_is_read_from_a_tag() {
        assert_eq!(parse_release("v26.2.0"), Some((26, 2, 0)));
        assert_eq!(parse_release("v0.11.1-alpha.0"), Some((0, 11, 1)));
        assert_eq!(parse_release("latest"), None);
    }
}
