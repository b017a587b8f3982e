//! Who owns what in a database, told by the server itself: what a restored copy gives back, and what of it the role that
//! loads it can't make.
//!
//! Source: <https://www.postgresql.org/docs/17/functions-info.html#FUNCTIONS-INFO-OBJECT>.

use serde_json::{Value, json};

use crate::sql::{block, literal};

/// An object that has an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// As `alter` names its kind.
    pub kind: String,
    /// Its name, quoted by the server, with its schema.
    pub identity: String,
    pub owner: String,
    /// A sum over the code that runs with its owner's rights; empty where it has none.
    pub code: String,
    /// What the product's role was allowed to do with it, as `grant` takes it, a line each. It is lost when what that role
    /// has loaded gets another owner.
    pub rights: Vec<String>,
}

/// The query for the objects of a database, or of one schema of it.
pub fn objects(schema: Option<&str>) -> String {
    let within = schema.map_or_else(String::new, |schema| {
        format!("where space = (select oid from pg_namespace where nspname = {})", literal(schema))
    });
    let named = |class: &str, owner: &str, space: &str| {
        format!("union all select '{class}'::regclass, oid, {owner}, {space}, null from {class}\n")
    };
    let more = [
        ("pg_namespace", "nspowner", "null"),
        ("pg_operator", "oprowner", "oprnamespace"),
        ("pg_opclass", "opcowner", "opcnamespace"),
        ("pg_opfamily", "opfowner", "opfnamespace"),
        ("pg_collation", "collowner", "collnamespace"),
        ("pg_conversion", "conowner", "connamespace"),
        ("pg_ts_dict", "dictowner", "dictnamespace"),
        ("pg_ts_config", "cfgowner", "cfgnamespace"),
        ("pg_statistic_ext", "stxowner", "stxnamespace"),
        ("pg_foreign_data_wrapper", "fdwowner", "null"),
        ("pg_foreign_server", "srvowner", "null"),
        ("pg_language", "lanowner", "null"),
        ("pg_publication", "pubowner", "null"),
        ("pg_event_trigger", "evtowner", "null"),
    ];
    let more = more.map(|(class, owner, space)| named(class, owner, space)).concat();
    // A sequence of a column goes with its table, an array with its type.
    format!(
        "select class, id, case i.type when 'statistics object' then 'statistics'
           when 'foreign-data wrapper' then 'foreign data wrapper' else i.type end as kind,
           i.identity, pg_get_userbyid(owner) as owner, coalesce(code, '') as code
         from (select 'pg_class'::regclass as class, oid as id, relowner as owner, relnamespace as space,
             case when relkind in ('v', 'm') then md5(pg_get_viewdef(oid)) end as code
           from pg_class c where relkind in ('r', 'p', 'v', 'm', 'S', 'f') and relpersistence <> 't'
             and not (relkind = 'S' and exists (select from pg_depend d where d.classid = 'pg_class'::regclass
               and d.objid = c.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')))
           union all select 'pg_proc'::regclass, oid, proowner, pronamespace,
             case when prokind = 'a' then null else md5(pg_get_functiondef(oid)) end
           from pg_proc where oid >= 16384
           union all select 'pg_type'::regclass, oid, typowner, typnamespace, null from pg_type t
           where typtype in ('b', 'c', 'd', 'e', 'r') and not exists (select from pg_type e where e.typarray = t.oid)
             and not exists (select from pg_class c where c.oid = typrelid and relkind <> 'c')
           {more}) own
         cross join lateral pg_identify_object(class, id, 0) i
         {within}{}(id >= 16384 or class = 'pg_namespace'::regclass
             and id in (select oid from pg_namespace where nspname = 'public'))
           and i.identity !~ '^(pg_|information_schema)'
           and not exists (select from pg_depend d where d.classid = class and d.objid = id and d.deptype = 'e')",
        if schema.is_some() { " and " } else { "where " },
    )
}

/// Asks for them, in a line for [`read`]. `role` is the product's.
pub fn query(schema: Option<&str>, role: &str) -> String {
    let role = literal(role);
    let of = |class: &str, acl: &str| {
        format!("when '{class}'::regclass then (select {acl} from {class} c where c.oid = own.id) ")
    };
    let acl = [
        of("pg_class", "relacl"),
        of("pg_proc", "proacl"),
        of("pg_namespace", "nspacl"),
        of("pg_type", "typacl"),
    ]
    .concat();
    format!(
        "select json_build_array('objects', coalesce(json_agg(json_build_array(kind, identity, owner, code,
           coalesce((select json_agg(format('grant %s on %s %s to %I%s', privilege_type, case
               when kind in ('view', 'materialized view', 'foreign table') then 'table'
               when kind = 'aggregate' then 'function' else kind end, identity, {role}::name,
               case when is_grantable then ' with grant option' else '' end))
             from aclexplode(case class {acl}end) where grantee =
               (select oid from pg_roles where rolname = {role}) and owner <> {role}), '[]'))), '[]'))
         from ({}) own;\n",
        objects(schema)
    )
}

/// Reads what psql printed.
pub fn read(text: &str) -> Option<Vec<Object>> {
    let json: Value = serde_json::from_str(text.trim()).ok()?;
    let object = |row: &Value| {
        let [kind, identity, owner, code] = [0, 1, 2, 3].map(|at| row[at].as_str().map(String::from));
        let rights = row[4].as_array().into_iter().flatten();
        let rights = rights.filter_map(|right| right.as_str().map(String::from)).collect();
        Some(Object { kind: kind?, identity: identity?, owner: owner?, code: code?, rights })
    };
    json[1].as_array()?.iter().map(object).collect()
}

/// Gives objects of this database their owners, run by who may do so: whatever is named here is found by the server, which
/// makes the statements. What runs with its owner's rights goes only to who owns the very same code already.
pub fn give(schema: Option<&str>, owners: &[Object]) -> String {
    let rows = owners.iter().map(|Object { kind, identity, owner, code, rights }| {
        json!({ "kind": kind, "identity": identity, "owner": owner, "code": code, "rights": rights })
    });
    let rows = Value::Array(rows.collect()).to_string();
    block(&format!(
        "declare one record; own_right text; begin for one in
           select own.kind, own.identity, given.owner, given.rights from ({}) own
           join jsonb_to_recordset({}) as given (kind text, identity text, owner text, code text, rights text[])
             on given.kind = own.kind and given.identity = own.identity and given.code = own.code
           where given.owner <> own.owner and exists (select from pg_roles where rolname = given.owner)
         loop execute format('alter %s %s owner to %I', one.kind, one.identity, one.owner);
           foreach own_right in array one.rights loop execute own_right; end loop;
         end loop; end",
        objects(schema),
        literal(&rows),
    ))
}

/// The query for what a role can't make, with the numbers by which a dump names each thing.
pub fn beyond(role: &str) -> String {
    let role = literal(role);
    let has = |owner: &str| format!("pg_has_role({role}, {owner}, 'usage')");
    let superuser = ["pg_opclass", "pg_opfamily", "pg_am", "pg_transform", "pg_ts_template", "pg_ts_parser"];
    let superuser =
        superuser.map(|class| format!("union all select '{class}'::regclass, oid from {class}\n")).concat();
    format!(
        "select class::oid, id, pg_describe_object(class, id, 0) from (
           select 'pg_event_trigger'::regclass as class, oid as id from pg_event_trigger
           union all select 'pg_subscription'::regclass, s.oid from pg_subscription s
             join pg_database d on d.oid = subdbid where datname = current_database()
           union all select 'pg_publication'::regclass, oid from pg_publication
             where puballtables or not {}
           union all select 'pg_default_acl'::regclass, oid from pg_default_acl where not {}
           union all select 'pg_foreign_data_wrapper'::regclass, oid from pg_foreign_data_wrapper
           union all select 'pg_foreign_server'::regclass, oid from pg_foreign_server where not {}
           union all select 'pg_proc'::regclass, p.oid from pg_proc p join pg_language l on l.oid = prolang
             where not lanpltrusted
           union all select 'pg_language'::regclass, oid from pg_language where not lanpltrusted
           {superuser}) own
         where id >= 16384 and not (select rolsuper from pg_roles where rolname = {role})
           and not exists (select from pg_depend d where d.classid = class and d.objid = id and d.deptype = 'e')
         order by 3",
        has("pubowner"),
        has("defaclrole"),
        has("srvowner"),
    )
}

/// The query for what in a schema needs what is in another one, which isn't dumped with it.
pub fn outside(schema: &str) -> String {
    let own = format!("(select oid from pg_namespace where nspname = {})", literal(schema));
    let of_table = |class: &str, column: &str| {
        format!(
            "when '{class}'::regclass then (select relnamespace from {class} x join pg_class c on c.oid = x.{column} \
             where x.oid = d.objid)\n"
        )
    };
    format!(
        "select distinct pg_describe_object(d.classid, d.objid, 0) || ', which needs '
           || pg_describe_object(d.refclassid, d.refobjid, 0)
         from pg_depend d where d.deptype in ('n', 'a') and {own} = case d.classid
           {}{}{}{}when 'pg_constraint'::regclass then (select connamespace from pg_constraint where oid = d.objid)
           when 'pg_class'::regclass then (select relnamespace from pg_class where oid = d.objid)
           when 'pg_type'::regclass then (select typnamespace from pg_type where oid = d.objid)
           when 'pg_proc'::regclass then (select pronamespace from pg_proc where oid = d.objid) end
         and (select nspname !~ '^(pg_|information_schema)' and oid <> {own} from pg_namespace where oid =
           case d.refclassid when 'pg_class'::regclass then (select relnamespace from pg_class where oid = d.refobjid)
             when 'pg_type'::regclass then (select typnamespace from pg_type where oid = d.refobjid)
             when 'pg_proc'::regclass then (select pronamespace from pg_proc where oid = d.refobjid) end)
         and not exists (select from pg_depend e
           where e.classid = d.refclassid and e.objid = d.refobjid and e.deptype = 'e')
         order by 1",
        of_table("pg_rewrite", "ev_class"),
        of_table("pg_attrdef", "adrelid"),
        of_table("pg_trigger", "tgrelid"),
        of_table("pg_policy", "polrelid"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_said_goes_back_as_data() {
        let objects =
            read(r#"["objects", [["table", "public.\"o'r$xtask$y\"", "shop", "", ["grant SELECT on table a to b"]]]]"#)
                .expect("objects");
        assert_eq!(objects[0].rights, ["grant SELECT on table a to b"]);
        assert_eq!(objects[0].identity, "public.\"o'r$xtask$y\"");
        let script = give(None, &objects);
        assert!(script.starts_with("do $xtaskx$ ") && script.contains("o''r$xtask$y"), "{script}");
        assert_eq!(read(r#"["objects", [["table"]]]"#), None);
    }
}
