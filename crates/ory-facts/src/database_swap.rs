//! A database put in another one's place: the scripts for psql, run in the server's maintenance database by a role that
//! may create databases and owns both.
//!
//! Source: <https://www.postgresql.org/docs/17/sql-alterdatabase.html>.

use crate::names;
use crate::rows;
use crate::sql::{self, block, identifier, literal};

/// The settings whose value is a list that is kept with its quotes. Of these the session can take some over itself.
/// Source: `variable_is_guc_list_quote` in PostgreSQL's `src/bin/pg_dump/dumputils.c`.
const LISTS: &str = "('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries', \
                     'shared_preload_libraries', 'unix_socket_directories')";

/// How many replaced ones are kept at most: a run that is killed keeps one more.
const KEPT: usize = 9;

/// The databases of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// The one that the DSN names.
    pub current: String,
    /// The one that takes its place.
    pub new: String,
    /// What the replaced one is called, until the next success; and where a run was killed, those that it has replaced.
    pub replaced: String,
    /// What the one is called that is replaced now, until that is a success.
    pub before: String,
    /// What all of them are of.
    of: Vec<String>,
}

impl Swap {
    /// The names are always the same, so that what a killed run has left is found by the next.
    pub fn of(database: &str) -> Self {
        Self::among(database, &[database])
    }

    /// The names of a database, or a schema, that is told from others by all of this.
    pub fn among(current: &str, of: &[&str]) -> Self {
        Self {
            current: current.into(),
            new: names::object("new", of),
            replaced: names::object("replaced", of),
            before: names::object("before", of),
            of: of.iter().map(ToString::to_string).collect(),
        }
    }

    /// A new database beside one whose place it doesn't take.
    pub fn beside(current: &str, new: &str) -> Self {
        Self { new: new.into(), ..Self::of(current) }
    }

    /// A name for one more purpose.
    pub fn named(&self, purpose: &str) -> String {
        names::object(purpose, &self.of.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What replaced ones can be called, in order.
    pub fn kept(&self) -> Vec<String> {
        let more = (2..=KEPT).map(|number| self.named(&format!("replaced{number}")));
        [self.replaced.clone()].into_iter().chain(more).collect()
    }

    /// The places of replaced ones that stay, each with its name now, beside those that are there all the same.
    pub fn places(&self, there: &[String], stay: &[String]) -> Vec<(String, String)> {
        let free = self.kept().into_iter().filter(|name| !there.contains(name));
        stay.iter().cloned().zip(free).filter(|(from, to)| from != to).collect()
    }

    /// Ends what a run has left that was killed after it had begun to swap: a database that refuses to be connected to;
    /// one that was replaced, which is kept from then on. Prints what was kept before, and what is now.
    pub fn heal(&self) -> String {
        let before = literal(&self.before);
        let kept = list(&self.kept());
        let there = |what: &str| {
            rows::print(&format!(
                "select '{what}', datname from pg_database where datname = any ({kept}) order by datname"
            ))
        };
        format!(
            "{}{}{}{}select format('alter database %I rename to %I', datname, (select name \
             from unnest({kept}) with ordinality as kept (name, place) \
             where not exists (select from pg_database d where d.datname = name) order by place limit 1)) \
             from pg_database where datname = {before} \\gexec\n{}",
            self.end_swap(),
            allow_connections(&self.current, true),
            allow_connections(&self.before, true),
            there("kept"),
            there("now"),
        )
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
             %s%s', {new}, {owner},\n\
             pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,\n\
             case to_jsonb(d)->>'datlocprovider'\n\
             when 'i' then format(' locale_provider icu icu_locale %L',\n\
             coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'))\n\
             when 'b' then format(' locale_provider builtin builtin_locale %L', to_jsonb(d)->>'datlocale')\n\
             else '' end,\n\
             -- To name it takes a right that hardly any role has, and it is the usual one.\n\
             case t.spcname when 'pg_default' then '' else format(' tablespace %I', t.spcname) end)\n\
             from pg_database d join pg_tablespace t on t.oid = d.dattablespace where datname = {current} \\gexec\n\
             \\else\n{plain};\n\\endif\n{}",
            self.remove_new(),
            self.copy_rights() + &self.copy_settings(),
        )
    }

    /// Gives the new database the rights of the current one.
    fn copy_rights(&self) -> String {
        let (new, current) = (literal(&self.new), literal(&self.current));
        format!(
            "select format('revoke all on database %I from public', {new})\n\
             from pg_database where datname = {current} and datacl is not null \\gexec\n\
             select format('grant %s on database %I to %s%s', a.privilege_type, {new},\n\
             case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,\n\
             case when a.is_grantable then ' with grant option' else '' end)\n\
             from pg_database d, aclexplode(d.datacl) a where d.datname = {current} \\gexec\n"
        )
    }

    /// Gives it the settings that belong to the current one, not to what is in it. No value becomes SQL but by the server
    /// itself: a list is set in this session and taken from there, with nothing looked up meanwhile; of those that no
    /// session can set, each element is quoted.
    fn copy_settings(&self) -> String {
        let (new, current) = (literal(&self.new), literal(&self.current));
        let each = format!(
            "declare kept record; statement text; begin for kept in
               select case s.setrole when 0 then format('alter database %I', {new})
                   else format('alter role %I in database %I', pg_get_userbyid(s.setrole), {new}) end as whose,
                 own.name, own.value, own.name in {LISTS} as is_list,
                 own.name in ('search_path', 'temp_tablespaces') as is_settable
               from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) as one,
                 lateral (select split_part(one, '=', 1) as name, substr(one, strpos(one, '=') + 1) as value) as own
               where d.datname = {current}
             loop
               if kept.is_settable then
                 statement := format('%s set %I from current', kept.whose, kept.name);
                 perform set_config(kept.name, kept.value, true);
                 execute statement;
                 perform pg_catalog.set_config(kept.name, '', true);
               elsif kept.is_list then
                 execute format('%s set %I to %s', kept.whose, kept.name, coalesce((select string_agg(quote_literal(
                   coalesce(replace(part[1], '\"\"', '\"'), btrim(part[2]))), ', ')
                   from regexp_matches(kept.value, '\"((?:[^\"]|\"\")*)\"|([^\",[:space:]][^\",]*)', 'g') part), ''''''));
               else
                 execute format('%s set %I to %L', kept.whose, kept.name, kept.value);
               end if;
             end loop; end"
        );
        format!(
            "{}select format('comment on database %I is %L', {new}, shobj_description(oid, 'pg_database'))\n\
             from pg_database where datname = {current}\n\
             and shobj_description(oid, 'pg_database') is not null \\gexec\n",
            block(&each)
        )
    }

    /// What would be in the way while it is filled: how many may connect, and that others may copy it.
    pub fn copy_limits(&self) -> String {
        let (new, current) = (literal(&self.new), literal(&self.current));
        format!(
            "select format('alter database %I connection limit %s is_template %s', {new}, datconnlimit, datistemplate::text)\n\
             from pg_database where datname = {current} \\gexec\n"
        )
    }

    /// A line for what couldn't come along, and would be in the way of every later replacement.
    pub fn obstacles(&self) -> String {
        let current = literal(&self.current);
        rows::print(&format!(
            "select format('the subscription %I', subname) from pg_subscription s join pg_database d on d.oid = subdbid \
             where datname = {current} \
             union all select format('the replication slot %I', slot_name) from pg_replication_slots \
             where database = {current}"
        ))
    }

    /// Puts the new database in the current one's place: connections refused, sessions ended, all renamed at once.
    pub fn swap(&self) -> String {
        format!(
            "set application_name = {};\n{}{}begin;\n{}{}commit;\n",
            literal(&self.session()),
            allow_connections(&self.current, false),
            end_sessions(&self.current),
            rename(&self.current, &self.before, &self.current),
            rename(&self.new, &self.current, &self.new),
        )
    }

    /// Takes [`Swap::swap`] back where it was done, and lets the current one be connected to. `had_current`: there was
    /// one to be replaced.
    pub fn swap_back(&self, had_current: bool) -> String {
        let mut back = rename(&self.current, &self.new, &self.current);
        if had_current {
            back += &rename(&self.before, &self.current, &self.before);
        }
        format!(
            "{}select not exists (select from pg_database where datname = {}) as is_swapped \\gset\n\
             \\if :is_swapped\n{}{}begin;\n{back}commit;\n\\endif\n{}",
            self.end_swap(),
            literal(&self.new),
            allow_connections(&self.current, false),
            end_sessions(&self.current),
            allow_connections(&self.current, true) + &allow_connections(&self.new, true),
        )
    }

    /// Lets the replaced one be looked at, under the name it has until the end.
    pub fn open_before(&self) -> String {
        allow_connections(&self.before, true)
    }

    /// Keeps something under another name.
    pub fn keep_as(from: &str, to: &str) -> String {
        rename(from, to, from)
    }

    /// Ends what a run that was ended has left of [`Swap::swap`]: else it would swap later, whatever is there then.
    fn end_swap(&self) -> String {
        let is_its = format!("application_name = {}", literal(&self.session()));
        sql::end_sessions(&is_its, &format!("that swaps the database {}", self.current))
    }

    /// What the session is called that swaps.
    fn session(&self) -> String {
        names::session(&format!("xtask_swap_{}", self.current))
    }

    /// Removes the new one, which did not get to its place.
    pub fn remove_new(&self) -> String {
        remove(&self.new)
    }
}

/// Names as an array of SQL.
pub fn list(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| literal(name)).collect();
    format!("array[{}]::name[]", names.join(", "))
}

/// Removes a database that may be there, whoever is connected to it.
pub fn remove(name: &str) -> String {
    format!(
        "{}{}drop database if exists {};\n",
        set(name, "is_template", false),
        end_sessions(name),
        identifier(name)
    )
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

/// Sets what a database may be, where it isn't so yet.
fn set(name: &str, what: &str, value: bool) -> String {
    let column = if what == "is_template" { "datistemplate" } else { "datallowconn" };
    let alter = format!("alter database {} {what} {value}", identifier(name));
    format!(
        "select {} where exists (select from pg_database where datname = {} and {column} <> {value}) \\gexec\n",
        literal(&alter),
        literal(name)
    )
}

fn allow_connections(name: &str, allow: bool) -> String {
    set(name, "allow_connections", allow)
}

/// Ends every session in a database, and waits until they are gone.
fn end_sessions(name: &str) -> String {
    sql::end_sessions(&format!("datname = {}", literal(name)), &format!("in the database {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_name_stays_inside() {
        let swap = Swap::of("o'r\"y").swap();
        assert!(swap.contains(r#"'alter database "o''r""y" rename to "xtask_before_o''r""y"'"#), "{swap}");
    }

    #[test]
    fn what_is_kept_gets_the_first_places_once_what_was_kept_is_gone() {
        let swap = Swap::of("k");
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let places = |kept: &[&str], stays: &[&str]| swap.places(&names(kept), &names(stays));
        let pair = |from: &str, to: &str| (from.to_string(), to.to_string());
        assert_eq!(places(&[], &["xtask_before_k"]), [pair("xtask_before_k", "xtask_replaced_k")]);
        assert_eq!(
            places(&["xtask_replaced_k"], &["xtask_before_k"]),
            [pair("xtask_before_k", "xtask_replaced2_k")]
        );
        assert_eq!(
            places(&[], &["xtask_replaced2_k", "xtask_before_k"]),
            [pair("xtask_replaced2_k", "xtask_replaced_k"), pair("xtask_before_k", "xtask_replaced2_k")]
        );
    }
}
