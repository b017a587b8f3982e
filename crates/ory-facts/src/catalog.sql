-- Everything about a product's schema, a line an object; see catalog.rs. The schema is the one that
-- schema_migration is found in, else the one where tables would be made; see sql.rs for what finds it.
-- Printed by `copy`, whose fields can hold anything.
select coalesce((select relnamespace from pg_class where oid = :own_oid),
  (select oid from pg_namespace where nspname = :'own_schema'), 0) as space
\gset
-- With the empty search_path every name is printed with its schema; without it where the role would find it.
select coalesce('(^|[^[:alnum:]_"$])(?:'
  || string_agg(regexp_replace(quote_ident(schema), '([^[:alnum:]_])', '\\\1', 'g'), '|') || ')\.', '(?!)') as own_prefix
from unnest(:'own_schemas'::name[]) schema
\gset
copy (select 'server', current_setting('server_version_num')::int / 10000,
  (select nspname from pg_namespace where oid = :space)) to stdout;
copy (select 'version', format('%s', version) from :own_versions own order by 2) to stdout;
copy (select 'table', relname from pg_class where relnamespace = :space and relkind in ('r', 'p') order by 2) to stdout;
copy (select 'extension', extname, (select nspname from pg_namespace where oid = extnamespace)
from pg_extension where extname <> 'plpgsql' order by 2) to stdout;
copy (select 'column', t.relname, a.attname,
  regexp_replace(format_type(a.atttypid, a.atttypmod) || coalesce(
    (select ' collate ' || a.attcollation::regcollation
     from pg_type where oid = a.atttypid and typcollation <> a.attcollation), ''), :'own_prefix', '\1', 'g'),
  a.attnotnull,
  -- An identity is filled like one with a default.
  case when a.attidentity <> '' then 'identity'
    else regexp_replace(regexp_replace(pg_get_expr(d.adbin, d.adrelid), '\s+', ' ', 'g'),
      :'own_prefix', '\1', 'g') end
from pg_class t
join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
where t.relnamespace = :space and t.relkind in ('r', 'p')
order by 2, 3) to stdout;
-- From PostgreSQL 18 on, "not null" is a constraint too; here the columns tell it.
copy (select 'constraint', t.relname, c.conname,
  regexp_replace(regexp_replace(pg_get_constraintdef(c.oid), '\s+', ' ', 'g'), :'own_prefix', '\1', 'g'),
  -- What it goes with: its columns, and the table and columns that it references.
  (select string_agg(distinct o.relname || name, ',')
   from pg_class o
   join pg_attribute a on a.attrelid = o.oid
   cross join unnest(array['.' || a.attname, case when o.oid <> t.oid then '' end]) as name
   where o.oid = t.oid and a.attnum = any (c.conkey) or o.oid = c.confrelid and a.attnum = any (c.confkey))
from pg_constraint c
join pg_class t on t.oid = c.conrelid
where t.relnamespace = :space and c.contype in ('c', 'f', 'p', 'u', 'x')
order by 2, 3) to stdout;
copy (select 'index', t.relname, i.relname,
  -- Without the name of the schema, and without storage parameters.
  regexp_replace(regexp_replace(regexp_replace(replace(
    pg_get_indexdef(i.oid),
    format(' ON %I.', (select nspname from pg_namespace where oid = :space)), ' ON '),
    '\s+', ' ', 'g'), ' WITH \([^)]*\)', ''), :'own_prefix', '\1', 'g'),
  x.indisvalid and x.indisready, x.indisunique,
  (select string_agg(distinct e.extname, ',')
   from pg_depend uses
   join pg_depend owns on owns.classid = uses.refclassid and owns.objid = uses.refobjid and owns.deptype = 'e'
   join pg_extension e on e.oid = owns.refobjid
   where uses.classid = 'pg_class'::regclass and uses.objid = i.oid),
  -- Its columns, those in expressions and after `where` among them.
  (select string_agg(t.relname || '.' || a.attname, ',')
   from pg_depend uses
   join pg_attribute a on a.attrelid = uses.refobjid and a.attnum = uses.refobjsubid
   where uses.classid = 'pg_class'::regclass and uses.objid = i.oid and uses.refclassid = 'pg_class'::regclass
     and uses.refobjsubid > 0)
from pg_index x
join pg_class i on i.oid = x.indexrelid
join pg_class t on t.oid = x.indrelid
where t.relnamespace = :space and t.relkind in ('r', 'p')
order by 2, 3) to stdout;
copy (select 'end', 3) to stdout;
