//! What a whole server holds, so that two of different releases compare: roles, databases, settings and rights; of each
//! database, its objects, rows, sequences and large objects. How a release spells a definition isn't compared: what it
//! refers to is.

use std::collections::BTreeMap;

use crate::owners;
use crate::rows::{self, SUM, print};

/// What a server holds by the name of each thing. A secret is only there as a sum.
pub type Contents = BTreeMap<String, String>;

/// The last line: an answer that breaks off is none.
const END: &str = "end";

/// How values are printed, whatever a server's own settings say.
const ALIKE: &str = "\
set local timezone = 'UTC';
set local datestyle = 'ISO, MDY';
set local intervalstyle = 'postgres';
set local bytea_output = 'hex';
set local extra_float_digits = 1;
set local lc_monetary = 'C';
";

/// The rights in an ACL, for people: not who gave them. `maintain` says whether both releases know the right of that name.
fn rights(acl: &str, kind: &str, owner: &str, maintain: bool) -> String {
    let known = if maintain { "" } else { " where privilege_type <> 'MAINTAIN'" };
    format!(
        "(select coalesce(string_agg(own_right, ',' order by own_right), '') from (
           select concat(case grantee when 0 then 'public' else pg_get_userbyid(grantee)::text end, ' ',
             privilege_type, ' ', is_grantable) as own_right
           from aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))){known}) own_rights)"
    )
}

/// Asks for what isn't in one database.
pub fn of_server(maintain: bool) -> String {
    let locale = "coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale')";
    [
        ALIKE.to_string(),
        print(
            "select 'role ' || rolname, concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin,
               rolreplication, rolbypassrls, rolconnlimit, md5(rolpassword), rolvaliduntil,
               md5(shobj_description(oid, 'pg_authid')))
             from pg_authid where rolname !~ '^pg_'",
        ),
        print(
            "select 'member ' || pg_get_userbyid(member) || ' of ' || pg_get_userbyid(roleid), bool_or(admin_option)
             from pg_auth_members where member >= 16384 or roleid >= 16384 group by member, roleid",
        ),
        print(
            "select concat('settings of ', coalesce(pg_get_userbyid(nullif(setrole, 0))::text, 'all'), ' in ',
               coalesce(datname::text, 'all')), (select string_agg(one, ',' order by one) from unnest(setconfig) one)
             from pg_db_role_setting left join pg_database d on d.oid = setdatabase",
        ),
        print(&format!(
            "select 'database ' || datname, concat_ws(' ', pg_get_userbyid(datdba), pg_encoding_to_char(encoding),
               datcollate, datctype, coalesce(to_jsonb(d)->>'datlocprovider', 'c'), {locale}, datistemplate, datallowconn,
               datconnlimit, md5(shobj_description(oid, 'pg_database')), {})
             from pg_database d where datname <> 'template0'",
            rights("datacl", "d", "datdba", maintain)
        )),
        "select to_regclass('pg_catalog.pg_parameter_acl') is not null as own_has \\gset\n\\if :own_has\n".into(),
        print(&format!(
            "select 'parameter ' || parname, {} from pg_parameter_acl",
            rights("paracl", "p", "10::oid", maintain)
        )),
        "\\endif\n".into(),
        print(&format!("select '{END}'")),
    ]
    .concat()
}

/// Asks for what the settings' files say.
pub const FILES: &str = "\
copy (select concat('setting ', name, ' in ', regexp_replace(sourcefile, '.*/', '')), setting
from pg_file_settings) to stdout;
copy (select 'end') to stdout;
";

/// Asks for a sum over what PostgreSQL itself brings: functions and what names them. Loading a dump runs code of those who
/// may make tables, as in a check, with an administrator's rights: what that could hide in here, no list of objects has.
pub const BUILT_IN: &str = "\
copy (select sum(hashtextextended(own_row, 0)::numeric) from (
  select concat_ws('|', 1, oid, proname, pronamespace, proowner, prolang, prosrc, probin, prosecdef, proconfig::text,
    prorettype, proargtypes::text) from pg_proc where oid < 16384
  union all select concat_ws('|', 2, oid, oprname, oprnamespace, oprowner, oprcode::oid) from pg_operator where oid < 16384
  union all select concat_ws('|', 3, oid, castsource, casttarget, castfunc, castcontext) from pg_cast where oid < 16384
  union all select concat_ws('|', 4, oid, typname, typnamespace, typowner, typinput::oid, typoutput::oid) from pg_type
    where oid < 16384
  union all select concat_ws('|', 5, oid, ev_class, ev_type, is_instead, md5(ev_action::text)) from pg_rewrite
    where oid < 16384
  union all select concat_ws('|', 6, oid, lanname, lanowner, lanplcallfoid, laninline, lanvalidator, lanpltrusted)
    from pg_language where oid < 16384
  union all select concat_ws('|', 7, oid, relname, relnamespace, relowner, relkind) from pg_class
    where oid < 16384 and relnamespace <> 'pg_toast'::regnamespace
) own (own_row)) to stdout;
";

/// Of a class: its objects that no extension has brought.
fn own(class: &str, oid: &str) -> String {
    format!(
        "{oid} >= 16384 and not exists (select from pg_depend e where e.classid = '{class}'::regclass
           and e.objid = {oid} and e.deptype = 'e')"
    )
}

/// Asks for what a database has.
pub fn of_database(maintain: bool) -> String {
    let with_rights = |class: &str, name: &str, acl: &str, owner: &str| {
        let kind = match class {
            "pg_class" => "r",
            "pg_proc" => "f",
            "pg_namespace" => "n",
            "pg_type" => "T",
            "pg_language" => "l",
            "pg_foreign_data_wrapper" => "F",
            _ => "S",
        };
        let is_own = match class {
            "pg_namespace" => format!("(nspname = 'public' or {})", own(class, "c.oid")),
            "pg_class" => format!("relkind in ('r', 'p', 'v', 'm', 'f') and {}", own(class, "c.oid")),
            // A row type has its table's.
            "pg_type" => {
                format!("typtype <> 'c' and typelem = 0 and typtype <> 'm' and {}", own(class, "c.oid"))
            }
            _ => own(class, "c.oid"),
        };
        print(&format!(
            "select 'rights on ' || i.type || ' ' || i.identity, {} from {class} c
             cross join lateral pg_identify_object('{class}'::regclass, c.oid, 0) i
             where {is_own} and {name} !~ '^(pg_toast|pg_temp)'",
            rights(acl, kind, owner, maintain)
        ))
    };
    let relations = format!(
        "pg_class c join pg_namespace n on n.oid = relnamespace where relpersistence <> 't' and {}",
        own("pg_class", "c.oid")
    );
    let sequence_rights = rights("relacl", "s", "relowner", maintain);
    let default_rights = rights("defaclacl", "r", "0::oid", maintain);
    let blob_rights = rights("lomacl", "L", "lomowner", maintain);
    let tables = "pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and c.relpersistence <> 't'
        and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and (not exists (select from pg_depend d
             where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
           or exists (select from pg_extension e where e.extcondition[array_position(e.extconfig, c.oid)] = ''))";
    let each = |of: &str, query: &str| {
        format!(
            "select format({}, name) from (select format('%I.%I', n.nspname, c.relname) as name from {of}) t \\gexec\n",
            crate::sql::literal(print(query).trim_end().trim_end_matches(';'))
        )
    };
    [
        ALIKE.to_string(),
        print(&format!("select concat(kind, ' ', identity), owner from ({}) own", owners::objects(None))),
        with_rights("pg_class", "c.relname", "c.relacl", "c.relowner"),
        with_rights("pg_proc", "c.proname", "c.proacl", "c.proowner"),
        with_rights("pg_namespace", "c.nspname", "c.nspacl", "c.nspowner"),
        with_rights("pg_type", "c.typname", "c.typacl", "c.typowner"),
        with_rights("pg_language", "c.lanname", "c.lanacl", "c.lanowner"),
        with_rights("pg_foreign_data_wrapper", "c.fdwname", "c.fdwacl", "c.fdwowner"),
        with_rights("pg_foreign_server", "c.srvname", "c.srvacl", "c.srvowner"),
        print(&format!(
            "select format('rights on sequence %I.%I', nspname, relname), {sequence_rights} from {relations}
               and relkind = 'S'"
        )),
        print(&format!(
            "select format('default rights of %s on %s in %s', pg_get_userbyid(defaclrole), defaclobjtype,
               coalesce(nspname::text, 'all')), {default_rights}
             from pg_default_acl left join pg_namespace n on n.oid = defaclnamespace"
        )),
        print(&format!(
            "select format('table %I.%I has', nspname, relname), concat_ws(' ', relkind, relpersistence,
               relrowsecurity, relforcerowsecurity, relreplident, reloptions::text, (select amname from pg_am
               where oid = relam and relkind in ('r', 'p')), pg_get_partkeydef(c.oid), pg_get_expr(relpartbound, c.oid),
               (select string_agg(inhparent::regclass::text, ',' order by inhseqno) from pg_inherits where inhrelid = c.oid))
             from {relations} and relkind in ('r', 'p', 'v', 'm', 'f')"
        )),
        print(&format!(
            "select format('column %I.%I.%I', nspname, relname, attname), concat_ws(' ', format_type(atttypid, atttypmod),
               attnotnull, nullif(attidentity, ''), nullif(attgenerated, ''), nullif(attcollation, 0)::regcollation,
               atthasdef, attstorage, (select string_agg(one, ',' order by one) from unnest(attoptions) one
                 where one ~ '^n_distinct'), coalesce(attstattarget, -1), attislocal,
               (select string_agg(concat(case grantee when 0 then 'public' else pg_get_userbyid(grantee)::text end, ' ',
                 privilege_type, ' ', is_grantable), ',' order by grantee::regrole::text, privilege_type)
                from aclexplode(attacl)))
             from pg_attribute a join (select c.oid as id, relname, nspname from {relations}
               and relkind in ('r', 'p', 'v', 'm', 'f', 'c')) r on r.id = attrelid
             where attnum > 0 and not attisdropped"
        )),
        // Servers keep notes of their own among a column's options. An index that couldn't be built isn't dumped.
        print(&format!(
            "select format('index %I.%I', nspname, relname), concat_ws(' ', indrelid::regclass, indisunique, indisprimary,
               indisexclusion, indisreplident, indisclustered, indnkeyatts, indnatts, indpred is not null,
               indexprs is not null, reloptions::text, (select amname from pg_am where oid = relam),
               (select string_agg(attname, ',' order by attnum) from pg_attribute where attrelid = indexrelid))
             from pg_index join pg_class c on c.oid = indexrelid join pg_namespace n on n.oid = relnamespace
             where (indisvalid or relkind = 'I') and nspname !~ '^pg_' and {}",
            own("pg_class", "indrelid")
        )),
        // Since 18, what can't be null is a constraint too; a column says so already.
        print(&format!(
            "select concat('constraint ', i.identity), concat_ws(' ', contype, condeferrable, condeferred, convalidated,
               case when contype in ('f', 'p', 'u') then pg_get_constraintdef(c.oid) end)
             from pg_constraint c cross join lateral pg_identify_object('pg_constraint'::regclass, c.oid, 0) i
             where contype <> 'n' and {}",
            own("pg_constraint", "c.oid")
        )),
        print(&format!(
            "select concat('trigger ', i.identity), concat_ws(' ', tgenabled, tgtype, tgfoid::regprocedure, tgdeferrable,
               tginitdeferred, tgqual is not null, md5(tgargs))
             from pg_trigger c cross join lateral pg_identify_object('pg_trigger'::regclass, c.oid, 0) i
             where not tgisinternal and {}",
            own("pg_trigger", "c.oid")
        )),
        print(
            "select concat('event trigger ', evtname), concat_ws(' ', evtevent, evtenabled, evttags::text,
               evtfoid::regprocedure) from pg_event_trigger where oid >= 16384",
        ),
        print(&format!(
            "select concat('rule ', i.identity), concat_ws(' ', ev_type, ev_enabled, is_instead)
             from pg_rewrite c cross join lateral pg_identify_object('pg_rewrite'::regclass, c.oid, 0) i where {}
               and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = ev_class
                 and d.deptype = 'e')",
            own("pg_rewrite", "c.oid")
        )),
        print(
            "select concat('policy ', i.identity), concat_ws(' ', polcmd, polpermissive, (select string_agg(case r when 0
               then 'public' else pg_get_userbyid(r)::text end, ',' order by r::regrole::text) from unnest(polroles) r),
               polqual is not null, polwithcheck is not null)
             from pg_policy c cross join lateral pg_identify_object('pg_policy'::regclass, c.oid, 0) i",
        ),
        print(&format!(
            "select concat('code of ', i.identity), concat_ws(' ', md5(prosrc), probin, prosecdef, provolatile, proisstrict,
               proleakproof, proparallel, procost, prorows, proconfig::text, (select lanname from pg_language where oid = prolang))
             from pg_proc c cross join lateral pg_identify_object('pg_proc'::regclass, c.oid, 0) i where {}",
            own("pg_proc", "c.oid")
        )),
        print(&format!(
            "select concat('type ', i.identity), concat_ws(' ', typtype, typnotnull, nullif(typbasetype, 0)::regtype,
               (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = c.oid))
             from pg_type c cross join lateral pg_identify_object('pg_type'::regclass, c.oid, 0) i
             where typtype in ('d', 'e', 'r') and {}",
            own("pg_type", "c.oid")
        )),
        print(&format!(
            "select concat('cast ', i.identity), concat_ws(' ', castcontext, castmethod)
             from pg_cast c cross join lateral pg_identify_object('pg_cast'::regclass, c.oid, 0) i where {}",
            own("pg_cast", "c.oid")
        )),
        print(
            "select 'extension ' || extname, nspname from pg_extension e join pg_namespace n on n.oid = extnamespace",
        ),
        print(
            "select concat('comment on ', i.type, ' ', i.identity), md5(description) from pg_description d
             cross join lateral pg_identify_object(classoid, objoid, objsubid) i where objoid >= 16384
               and not exists (select from pg_depend e where e.classid = classoid and e.objid = objoid and e.deptype = 'e')",
        ),
        print(
            "select format('published in %I: %s', pubname, prrelid::regclass), '' from pg_publication_rel r
             join pg_publication p on p.oid = prpubid
             union all select 'publication ' || pubname, concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete,
               pubtruncate, pubviaroot) from pg_publication",
        ),
        print(
            "select concat('user mapping of ', usename, ' for ', srvname), md5(umoptions::text) from pg_user_mappings",
        ),
        print(
            "select format('sequence %I.%I counts', nspname, relname), concat_ws(' ', format_type(seqtypid, null), seqstart,
               seqincrement, seqmin, seqmax, seqcache, seqcycle)
             from pg_sequence join pg_class c on c.oid = seqrelid join pg_namespace n on n.oid = relnamespace",
        ),
        each(
            &format!("{relations} and relkind = 'S'"),
            "select 'sequence ' || %1$L || ' is at', concat_ws(' ', last_value, is_called) from %1$s",
        ),
        print(&format!(
            "select 'large object ' || oid, concat_ws(' ', pg_get_userbyid(lomowner), {blob_rights})
             from pg_largeobject_metadata"
        )),
        // What was never written reads as zeros, and is dumped so.
        print(
            "select 'pages of large object ' || loid, concat_ws(' ', count(*), sum(hashtextextended(pageno || ' ' ||
               encode(btrim(data, '\\x00'), 'hex'), 0)::numeric))
             from pg_largeobject where octet_length(btrim(data, '\\x00')) > 0 group by loid",
        ),
        each(
            tables,
            &format!(
                "select 'rows of ' || %1$L, concat_ws(' ', count(*), {}) from only %1$s of_row",
                SUM.replace('%', "%%")
            ),
        ),
        print(&format!("select '{END}'")),
    ]
    .concat()
}

/// Reads what psql printed; none where it breaks off.
pub fn read(text: &str) -> Option<Contents> {
    let mut contents = Contents::new();
    for fields in rows::read(text.lines()) {
        match <[String; 2]>::try_from(fields) {
            Ok([name, value]) => _ = contents.insert(name, value),
            Err(fields) => return (fields == [END]).then_some(contents),
        }
    }
    None
}

/// What one has otherwise than the other, by its name. Values aren't told: they may be secret.
pub fn differences(before: &Contents, after: &Contents) -> Vec<String> {
    let gone = before.iter().filter_map(|(name, value)| match after.get(name) {
        None => Some(format!("{name} is missing")),
        Some(other) if other != value => Some(match count(name, value).zip(count(name, other)) {
            Some((old, new)) if old != new => format!("{name}: {old} before, {new} after"),
            _ => format!("{name} differs"),
        }),
        Some(_) => None,
    });
    let new = after.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("{name} is new"));
    gone.chain(new).collect()
}

/// How many rows, where a thing is those of a table.
fn count<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    value.split(' ').next().filter(|_| name.starts_with("rows of "))
}

/// How many tables, and rows in them, a database has.
pub fn counted(contents: &Contents) -> (usize, u64) {
    let counts = contents.iter().filter_map(|(name, value)| count(name, value)?.parse::<u64>().ok());
    counts.fold((0, 0), |(tables, rows), count| (tables + 1, rows + count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_and_its_value_is_not() {
        let before =
            read("role app\tt secret\nrows of public.a\t3 17\nrows of public.b\t1 1\nend\n").expect("read");
        let after = read("role app\tt other\nrows of public.a\t2 9\nrole new\tt\nend\n").expect("read");
        let differences = differences(&before, &after);
        assert_eq!(
            differences,
            [
                "role app differs",
                "rows of public.a: 3 before, 2 after",
                "rows of public.b is missing",
                "role new is new"
            ]
        );
        assert_eq!(counted(&before), (2, 4));
        assert_eq!(read("role app\tt\n"), None, "it breaks off");
    }

    #[test]
    fn rights_that_only_one_release_knows_are_left_out() {
        assert!(of_database(false).contains("<> 'MAINTAIN'") && !of_database(true).contains("MAINTAIN"));
    }
}
