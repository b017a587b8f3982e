//! What the database is asked where a text fits several causes.

use std::collections::{BTreeMap, BTreeSet};

use super::failed::{Failed, Speaker, version};
use super::words;
use crate::product::Product;

/// What a schema looks like after a failure. Empty where it couldn't be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The tables of the schema.
    pub tables: BTreeSet<String>,
    /// The rows of `schema_migration`; none where there is no such table, or it may not be read.
    pub versions: BTreeSet<String>,
    /// The tables of the schema that the product's role may not change, each with its owner.
    pub owners: BTreeMap<String, String>,
    /// What is set on the database or the role, each with where: what counts most comes first.
    pub settings: Vec<(Setting, String)>,
    /// The server follows another one.
    pub is_standby: bool,
    /// Who changes the schema at this moment: a session, or a container that migrates.
    pub others: Vec<String>,
}

impl Evidence {
    /// What psql is asked, as the product: it prints what [`Evidence::read`] reads.
    pub const SCRIPT: &str = r"
    select 'standby yes' where pg_is_in_recovery();
    select 'set ' || case when setrole = 0 then 'database' when setdatabase = 0 then 'role' else 'both' end || ' '
        || translate(s, e'\n\r', '  ')
      from pg_db_role_setting, unnest(setconfig) s
      where setrole in (0, (select oid from pg_roles where rolname = current_user))
        and setdatabase in (0, (select oid from pg_database where datname = current_database()))
        and s ~ '^(statement_timeout|default_transaction_read_only)='
      order by setrole <> 0 desc, setdatabase <> 0 desc;
    select 'set server ' || name || '=' || setting from pg_settings
      where name = 'default_transaction_read_only' and setting = 'on' and source in ('configuration file', 'command line');
    select coalesce(has_table_privilege(nullif(:own_oid, 0)::oid, 'select'), true) as may_read \gset
    \if :may_read
      select 'version ' || translate(format('%s', version), e'\n\r', '  ') from :own_versions own;
    \endif
    select 'table ' || translate(relname, e'\n\r', '  ') from pg_class join pg_namespace n on n.oid = relnamespace
      where relkind = 'r' and nspname = any (:'own_schemas');
    select 'owner ' || translate(relname || ' ' || pg_get_userbyid(relowner), e'\n\r', '  ')
      from pg_class join pg_namespace n on n.oid = relnamespace
      where relkind = 'r' and nspname = any (:'own_schemas') and not pg_has_role(relowner, 'usage');
    select 'session ' || pid || ' of ' || usename from pg_stat_activity
      where pid <> pg_backend_pid() and pid in (select l.pid from pg_locks l join pg_database d on d.oid = l.database
        where d.datname = current_database() and l.mode ~ 'AccessExclusive|ShareUpdate|ShareRow|^ShareLock');
";

    /// Reads the lines that psql printed: a word for what it is, and its name.
    pub fn read(lines: &str) -> Self {
        let mut evidence = Self::default();
        for (kind, name) in lines.lines().filter_map(|line| line.split_once(' ')) {
            let name = name.to_string();
            match kind {
                "table" => _ = evidence.tables.insert(name),
                "version" => _ = evidence.versions.insert(name),
                "owner" => {
                    let (table, owner) = name.split_once(' ').unwrap_or((&name, "another role"));
                    evidence.owners.insert(table.into(), owner.into());
                }
                "standby" => evidence.is_standby = true,
                "set" => {
                    let (place, setting) = name.split_once(' ').unwrap_or((&name, ""));
                    let place = match place {
                        "database" => Setting::Database,
                        "role" => Setting::Role,
                        "server" => Setting::Server,
                        _ => Setting::Both,
                    };
                    let setting = setting.split('=').next().unwrap_or_default();
                    evidence.settings.push((place, setting.into()));
                }
                "session" => evidence.others.push(format!("the session {name}")),
                _ => {}
            }
        }
        evidence
    }

    /// A text with what was found in place of `{owner}`, `{other}` and `{products}`.
    pub(super) fn fill(&self, text: &str, found: &[&str]) -> String {
        let named = |table: &&str| self.owners.get(*table);
        let owner = found.iter().find_map(named).or(self.owners.values().next());
        let owner = owner.map_or("another role", String::as_str);
        let other = self.others.first().map_or("another run", String::as_str);
        let products = self.products();
        let products: Vec<_> = products.iter().map(|product| product.name()).collect();
        // A failure is about one setting; which one, its row has asked.
        let setting = ["statement_timeout", "default_transaction_read_only"].into_iter();
        let mut setting = setting.filter(|name| text.contains(name)).filter_map(|name| self.setting(name));
        let [set, alter] = setting.next().map(Setting::in_words).unwrap_or_default();
        let text = words::fill(text, "owner", owner).replace("{other}", other);
        text.replace("{products}", &products.join(" and "))
            .replace("{setting}", set)
            .replace("{alter}", alter)
    }

    fn setting(&self, name: &str) -> Option<Setting> {
        self.settings.iter().find(|(_, known)| known == name).map(|(setting, _)| *setting)
    }

    /// The products that have tables here which no other has.
    fn products(&self) -> Vec<Product> {
        let has = |product: &Product| product.tables().iter().any(|table| self.tables.contains(*table));
        Product::ALL.into_iter().filter(has).collect()
    }
}

/// What a setting is set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    Database,
    Role,
    /// A role, in one database.
    Both,
    /// The server's configuration, over which what is set on a database goes.
    Server,
}

impl Setting {
    /// What is set, and what sets it, with names to be filled in.
    fn in_words(self) -> [&'static str; 2] {
        match self {
            Self::Database => ["database {database}", "alter database \"{database}\""],
            Self::Server => ["server", "alter database \"{database}\""],
            Self::Role => ["role {role}", "alter role \"{role}\""],
            Self::Both => {
                ["role {role} in the database {database}", "alter role \"{role}\" in database \"{database}\""]
            }
        }
    }
}

/// A failure together with what the database says.
pub(super) struct Asked<'a> {
    pub failed: &'a Failed<'a>,
    pub evidence: &'a Evidence,
    /// What the stars of the row's pattern stood for.
    pub found: &'a [&'a str],
}

fn product(asked: &Asked) -> Option<Product> {
    match asked.failed.speaker {
        Speaker::Product(product) => Some(product),
        _ => None,
    }
}

/// How long a statement may take is set on the role or the database.
pub(super) fn has_timeout(asked: &Asked) -> bool {
    asked.evidence.setting("statement_timeout").is_some()
}

/// That nothing is written is set on the role or the database.
pub(super) fn is_set_read_only(asked: &Asked) -> bool {
    asked.evidence.setting("default_transaction_read_only").is_some()
}

/// The server follows another one.
pub(super) fn is_standby(asked: &Asked) -> bool {
    asked.evidence.is_standby
}

/// Another run works on the schema now, or has meanwhile applied what failed here.
pub(super) fn is_doubled(asked: &Asked) -> bool {
    let is_applied = version(asked.failed.text).is_some_and(|v| asked.evidence.versions.contains(v));
    is_applied || !asked.evidence.others.is_empty() || asked.found.contains(&"schema_migration")
}

/// Only other products have tables here.
pub(super) fn is_of_others(asked: &Asked) -> bool {
    let products = asked.evidence.products();
    product(asked).is_some_and(|own| !products.contains(&own)) && !products.is_empty()
}

/// Nobody's tables that are known are here: those of an application are.
pub(super) fn is_of_an_application(asked: &Asked) -> bool {
    !asked.evidence.tables.is_empty() && asked.evidence.products().is_empty()
}

/// Later migrations than the one that failed were applied, and they build on it.
pub(super) fn lost_a_row(asked: &Asked) -> bool {
    let last = asked.evidence.versions.last();
    version(asked.failed.text).zip(last).is_some_and(|(failed, last)| failed < last.as_str())
}

/// The tables are all here, and nothing is left of what was applied.
pub(super) fn lost_its_rows(asked: &Asked) -> bool {
    asked.evidence.versions.is_empty() && has_all_tables(asked)
}

/// Some of the product's tables are here, and some aren't.
pub(super) fn is_half_there(asked: &Asked) -> bool {
    !asked.evidence.tables.is_empty() && !has_all_tables(asked)
}

fn has_all_tables(asked: &Asked) -> bool {
    let tables = product(asked).map(Product::tables).unwrap_or_default();
    tables.iter().chain(&["networks"]).all(|table| asked.evidence.tables.contains(*table))
}

/// Migrations were applied here.
pub(super) fn is_migrated(asked: &Asked) -> bool {
    !asked.evidence.versions.is_empty() && !asked.evidence.tables.contains("networks")
}

/// A table belongs to a role that the product's own isn't.
pub(super) fn has_another_owner(asked: &Asked) -> bool {
    !asked.evidence.owners.is_empty()
}
