//! A database put in another one's place: the scripts for psql, run in the server's maintenance database by a role that
//! may create databases and owns both.
//!
//! Source: <https://www.postgresql.org/docs/17/sql-alterdatabase.html>.

use crate::sql::{self, identifier, literal};

/// The settings whose value is a list that is kept with its quotes.
/// Source: `variable_is_guc_list_quote` in PostgreSQL's `src/bin/pg_dump/dumputils.c`.
const LISTS: &str = "('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries', \
                     'shared_preload_libraries', 'unix_socket_directories')";

/// Prints the statements that give a schema, in an empty database or beside this one, the rights of this one: those on
/// itself, and those that what roles make there gets by default. A dump has them too, but a reset restores none.
/// Source: <https://www.postgresql.org/docs/17/catalog-pg-default-acl.html>.
pub fn rights(schema: &str, to: &str) -> String {
    let [schema, to] = [schema, to].map(literal);
    format!(
        "with given as (
  select acl.*, format('on schema %I', {to}) as whereon, '' as beginning
  from pg_namespace, aclexplode(nspacl) acl
  where nspname = {schema} and acl.grantee <> nspowner
  union all
  select acl.*, 'on ' || case defaclobjtype when 'r' then 'tables' when 'S' then 'sequences'
      when 'f' then 'functions' when 'T' then 'types' else 'schemas' end,
    format('alter default privileges for role %I%s ', pg_get_userbyid(defaclrole),
      case when nspname is null then '' else format(' in schema %I', {to}) end)
  from pg_default_acl left join pg_namespace n on n.oid = defaclnamespace, aclexplode(defaclacl) acl
  where acl.grantee <> defaclrole and coalesce(nspname, {schema}) = {schema} and pg_has_role(defaclrole, 'usage')
)
select format('revoke all on schema %I from public;', {to}) from pg_namespace
where nspname = {schema} and nspacl is not null
union all
select format('%sgrant %s %s to %s%s;', beginning, privilege_type, whereon,
  case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
  case when is_grantable then ' with grant option' else '' end)
from given;
"
    )
}

/// The databases of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// The one that the DSN names.
    pub current: String,
    /// The one that takes its place.
    pub new: String,
    /// What the replaced one is called, until the next success.
    pub replaced: String,
    /// What the one is called that is replaced now, until that is a success.
    pub before: String,
    /// Whether a run was killed between its swap and its success: what it replaced must stay, whatever it was replaced
    /// with.
    pub is_unfinished: bool,
}

impl Swap {
    /// The names are always the same, so that what a killed run has left is found by the next.
    pub fn of(database: &str) -> Self {
        let named = |purpose: &str| {
            let mut name = format!("xtask_{purpose}_{database}");
            // PostgreSQL would cut it there.
            let end = (0..=name.len().min(63)).rfind(|end| name.is_char_boundary(*end)).unwrap_or(0);
            name.truncate(end);
            name
        };
        Self {
            current: database.into(),
            new: named("new"),
            replaced: named("replaced"),
            before: named("before"),
            is_unfinished: false,
        }
    }

    /// What the current one is called once it is replaced.
    pub fn aside(&self) -> &str {
        if self.is_unfinished { &self.replaced } else { &self.before }
    }

    /// A line where a run was killed before its success.
    pub fn unfinished(&self) -> String {
        format!("select 'unfinished' from pg_database where datname = {};\n", literal(&self.before))
    }

    /// Makes the new database, empty, as the current one is made; where there is none, for this role. What a killed
    /// run has left of it goes first.
    pub fn create(&self, role: &str) -> String {
        self.create_owned("pg_get_userbyid(d.datdba)", role)
    }

    /// The same for this role in any case.
    pub fn create_for(&self, role: &str) -> String {
        self.create_owned(&literal(role), role)
    }

    fn create_owned(&self, owner: &str, role: &str) -> String {
        let (new, current) = (literal(&self.new), literal(&self.current));
        let plain = format!(
            "create database {} owner {} template template0",
            identifier(&self.new),
            identifier(role)
        );
        format!(
            "{}select exists (select from pg_database where datname = {current}) as is_there \\gset\n\
             \\if :is_there\n\
             select format('create database %I owner %I template template0 encoding %L lc_collate %L lc_ctype %L\
             %s%s connection limit %s', {new}, {owner},\n\
             pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,\n\
             case to_jsonb(d)->>'datlocprovider'\n\
             when 'i' then format(' locale_provider icu icu_locale %L',\n\
             coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'))\n\
             when 'b' then format(' locale_provider builtin builtin_locale %L', to_jsonb(d)->>'datlocale')\n\
             else '' end,\n\
             -- To name it takes a right that hardly any role has, and it is the usual one.\n\
             case t.spcname when 'pg_default' then '' else format(' tablespace %I', t.spcname) end, d.datconnlimit)\n\
             from pg_database d join pg_tablespace t on t.oid = d.dattablespace where datname = {current} \\gexec\n\
             \\else\n{plain};\n\\endif\n",
            self.remove_new(),
        )
    }

    /// Gives the new database the rights and settings that belong to the current one, not to what is in it.
    pub fn copy_settings(&self) -> String {
        let (new, current) = (literal(&self.new), literal(&self.current));
        format!(
            "select format('revoke all on database %I from public', {new})\n\
             from pg_database where datname = {current} and datacl is not null \\gexec\n\
             select format('grant %s on database %I to %s%s', a.privilege_type, {new},\n\
             case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,\n\
             case when a.is_grantable then ' with grant option' else '' end)\n\
             from pg_database d, aclexplode(d.datacl) a where d.datname = {current} \\gexec\n\
             select format('%s set %I to %s', case s.setrole when 0 then format('alter database %I', {new})\n\
             else format('alter role %I in database %I', pg_get_userbyid(s.setrole), {new}) end, kept.name,\n\
             case when kept.name in {LISTS} then kept.value else quote_literal(kept.value) end)\n\
             from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) as one,\n\
             lateral (select split_part(one, '=', 1) as name,\n\
             substr(one, strpos(one, '=') + 1) as value) as kept\n\
             where d.datname = {current} \\gexec\n\
             select format('comment on database %I is %L', {new}, shobj_description(oid, 'pg_database'))\n\
             from pg_database where datname = {current}\n\
             and shobj_description(oid, 'pg_database') is not null \\gexec\n",
        )
    }

    /// Puts the new database in the current one's place: connections refused, sessions ended, all renamed at once.
    pub fn swap(&self) -> String {
        // What it was replaced with is not what was replaced.
        let room = if self.is_unfinished { remove(&self.replaced) } else { String::new() };
        format!(
            "set application_name = {};\n{room}{}{}begin;\n{}{}commit;\n",
            literal(&self.session()),
            allow_connections(&self.current, false),
            end_sessions(&self.current),
            rename(&self.current, self.aside(), &self.current),
            rename(&self.new, &self.current, &self.new),
        )
    }

    /// Takes [`Swap::swap`] back where it was done, and lets the current one be connected to. `had_current`: there was
    /// one to be replaced.
    pub fn swap_back(&self, had_current: bool) -> String {
        let mut back = rename(&self.current, &self.new, &self.current);
        if had_current {
            back += &rename(self.aside(), &self.current, self.aside());
        }
        format!(
            "{}select not exists (select from pg_database where datname = {}) as is_swapped \\gset\n\
             \\if :is_swapped\n{}{}begin;\n{back}commit;\n\\endif\n{}",
            self.end_swap(),
            literal(&self.new),
            allow_connections(&self.current, false),
            end_sessions(&self.current),
            allow_connections(&self.current, true),
        )
    }

    /// Removes what was kept until now, once what replaces the current one is a success.
    pub fn remove_kept(&self) -> String {
        remove(&self.replaced)
    }

    /// Then keeps what was replaced, to be looked at.
    pub fn keep(&self) -> String {
        rename(&self.before, &self.replaced, &self.before) + &allow_connections(&self.replaced, true)
    }

    /// Or removes it.
    pub fn remove_before(&self) -> String {
        remove(&self.before)
    }

    /// Ends what a run has left that was killed after it had begun to swap: a database that refuses to be connected to.
    pub fn heal(&self) -> String {
        self.end_swap() + &allow_connections(&self.current, true)
    }

    /// Ends what a run that was ended has left of [`Swap::swap`]: else it would swap later, whatever is there then.
    fn end_swap(&self) -> String {
        let is_its = format!("application_name = {}", literal(&self.session()));
        sql::end_sessions(&is_its, &format!("that swaps the database {}", self.current))
    }

    /// What the session is called that swaps. Of letters that aren't ASCII PostgreSQL would make something else there.
    fn session(&self) -> String {
        let name = format!("xtask_swap_{}", self.current);
        name.chars().take(63).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
    }

    /// Removes the new one, which did not get to its place.
    pub fn remove_new(&self) -> String {
        remove(&self.new)
    }
}

/// Removes a database that may be there, whoever is connected to it.
pub fn remove(name: &str) -> String {
    format!("{}drop database if exists {};\n", end_sessions(name), identifier(name))
}

/// Renames a database that may be there, where another one is too.
fn rename(from: &str, to: &str, other: &str) -> String {
    let rename = format!("alter database {} rename to {}", identifier(from), identifier(to));
    format!(
        "select {} from pg_database a, pg_database b where a.datname = {} and b.datname = {} \\gexec\n",
        literal(&rename),
        literal(from),
        literal(other)
    )
}

fn allow_connections(name: &str, allow: bool) -> String {
    let alter = format!("alter database {} allow_connections {allow}", identifier(name));
    format!(
        "select {} where exists (select from pg_database where datname = {} and datallowconn <> {allow}) \\gexec\n",
        literal(&alter),
        literal(name)
    )
}

/// Ends every session in a database, and waits until they are gone.
fn end_sessions(name: &str) -> String {
    sql::end_sessions(&format!("datname = {}", literal(name)), &format!("in the database {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_as_long_as_postgresql_lets_them_be() {
        let swap = Swap::of(&"é".repeat(40));
        assert!(swap.new.len() <= 63 && swap.new.starts_with("xtask_new_é"));
        assert_eq!(Swap::of("kratos").replaced, "xtask_replaced_kratos");
    }

    #[test]
    fn a_quote_in_a_name_stays_inside() {
        let swap = Swap::of("o'r\"y").swap();
        assert!(swap.contains(r#"'alter database "o''r""y" rename to "xtask_before_o''r""y"'"#), "{swap}");
    }
}
