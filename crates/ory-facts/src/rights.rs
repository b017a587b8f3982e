//! What a new database or schema gets beside what a dump has: rights that only others can give, extensions that only an
//! administrator can make. The statements are the server's own.

use crate::sql::{identifier, literal};

/// Prints the statements that give a schema, in an empty database or beside this one, the rights on this one. A dump has
/// them too, but a reset restores none, and a product gives none on what isn't its own.
pub fn schema_rights(schema: &str, to: &str) -> String {
    let [schema, to] = [schema, to].map(literal);
    format!(
        "select format('revoke all on schema %I from public;', {to}) from pg_namespace
where nspname = {schema} and nspacl is not null
union all
select format('grant %s on schema %I to %s%s;', privilege_type, {to},
  case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
  case when is_grantable then ' with grant option' else '' end)
from pg_namespace, aclexplode(nspacl) acl where nspname = {schema} and acl.grantee <> nspowner;
"
    )
}

/// Prints those that give what roles make, in a schema or anywhere, the rights that it gets here by default. `schema`: one
/// and what it is called there; none: all of them, under their own names, where they are there too.
/// Source: <https://www.postgresql.org/docs/17/catalog-pg-default-acl.html>.
pub fn default_rights(schema: Option<(&str, &str)>) -> String {
    let (within, to) = match schema {
        Some((schema, to)) => {
            let [schema, to] = [schema, to].map(literal);
            (format!("coalesce(nspname, {schema}) = {schema}"), to)
        }
        None => ("true".into(), "nspname".into()),
    };
    // A schema that was made since isn't in what was dumped before.
    format!(
        "select format('select %L where %L = '''' or exists (select from pg_namespace where nspname = %L) \\gexec',
  format('alter default privileges for role %I%s grant %s on %s to %s%s', pg_get_userbyid(defaclrole),
    case when nspname is null then '' else format(' in schema %I', {to}) end, privilege_type,
    case defaclobjtype when 'r' then 'tables' when 'S' then 'sequences'
      when 'f' then 'functions' when 'T' then 'types' else 'schemas' end,
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
    case when is_grantable then ' with grant option' else '' end),
  coalesce({to}, ''), coalesce({to}, ''))
from pg_default_acl left join pg_namespace n on n.oid = defaclnamespace, aclexplode(defaclacl) acl
where acl.grantee <> defaclrole and {within} and pg_has_role(defaclrole, 'usage');
"
    )
}

/// Lets a role load a dump into this database, which nobody uses yet: what is in it was made by others too. Prints what takes
/// that back.
pub fn to_load(role: &str) -> String {
    let (named, role) = (identifier(role), literal(role));
    let missing = format!(
        "from (values ('database ' || quote_ident(current_database()),
             has_database_privilege({role}, current_database(), 'create')),
           ('schema public', coalesce((select has_schema_privilege({role}, oid, 'create')
             from pg_namespace where nspname = 'public'), true))) own (place, may) where not may"
    );
    let [revoke, grant] = [format!(" from {named};"), format!(" to {named}")].map(|to| literal(&to));
    format!(
        "select 'revoke create on ' || place || {revoke} {missing};\n\
         select 'grant create on ' || place || {grant} {missing} \\gexec\n"
    )
}

/// Makes those extensions that a role may not make here, in their schemas. Prints how the entries of a dump begin that have
/// them, and can't be loaded any more.
pub fn missing_extensions<'a>(
    extensions: impl IntoIterator<Item = (&'a String, &'a String)>,
    role: &str,
) -> String {
    let (owner, role) = (identifier(role), literal(role));
    let mut sql = String::new();
    for (name, schema) in extensions {
        let [name_literal, schema_literal] = [name, schema].map(|text| literal(text));
        let create_schema = format!("create schema {} authorization {}", identifier(schema), owner);
        let create = format!("create extension {} schema {}", identifier(name), identifier(schema));
        sql += &format!(
            "select exists (select from pg_available_extensions where name = {name_literal})
               and not exists (select from pg_extension where extname = {name_literal})
               and not (has_database_privilege({role}, current_database(), 'create')
                 and exists (select from pg_available_extension_versions v, pg_available_extensions a
                   where v.name = {name_literal} and a.name = v.name and v.version = a.default_version
                   and to_jsonb(v)->>'trusted' = 'true')) as is_made,
               not exists (select from pg_namespace where nspname = {schema_literal}) as is_new \\gset
             \\if :is_made
             \\if :is_new
             {create_schema};
             select {};
             \\endif
             {create};
             select {};
             \\endif\n",
            literal(&format!("SCHEMA - {schema}")),
            literal(&format!("COMMENT - EXTENSION {name}")),
        );
    }
    sql
}
