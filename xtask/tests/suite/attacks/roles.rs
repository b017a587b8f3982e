//! A product's role that wants to become more than it is: code of its own, names of its own, settings of its own. After
//! every command that connects as the administrator it is what it was.

use crate::shared::Shared;
use crate::stack::{Compose, Stack, docker};
use crate::tiers::scenarios_once;

scenarios_once! {
    first: [
        no_code_in_a_dump_runs_as_the_administrator
        no_name_in_a_catalog_is_taken_for_a_statement
    ]
    full: [
        no_setting_of_a_database_becomes_sql
        no_function_operator_or_cast_of_a_product_is_called_by_the_administrator
        no_code_in_a_schema_runs_as_the_administrator
        no_code_runs_as_the_administrator_while_a_schema_is_split
    ]
}

/// Where code would leave its mark that runs as somebody who may.
const CANARY: &str = "/tmp/canary";

/// A function that takes every right it can, and keeps a place in a signature free.
fn evil(schema: &str, name: &str, signature: &str, returns: &str) -> String {
    format!(
        "create or replace function {schema}.{name}({signature}) returns {returns} language plpgsql as $evil$
         begin
           begin execute 'reset role'; exception when others then null; end;
           begin execute 'set session authorization default'; exception when others then null; end;
           begin execute 'alter role keto superuser'; exception when others then null; end;
           begin execute 'alter role mallory superuser'; exception when others then null; end;
           begin execute $$copy (select 1) to program 'touch {CANARY}'$$; exception when others then null; end;
           begin
             insert into public.seen values (current_user::text, session_user::text);
           exception when others then null; end;
           return {};
         end $evil$;",
        match returns {
            "trigger" => "new",
            "boolean" => "true",
            "text" => "'x'::pg_catalog.text",
            "json" | "jsonb" => "'{}'",
            _ => "null",
        }
    )
}

/// Fails where keto's role has become more than it was.
#[track_caller]
fn assert_ordinary(stack: &Stack, after: &str) {
    let rights = "select string_agg(rolname, ' ') from pg_roles where rolname in ('kratos', 'hydra', 'keto', 'mallory')
                  and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)";
    assert_eq!(stack.sql("postgres", rights).trim(), "", "after `{after}`");
    let canary =
        docker(&["exec", &stack.container("db").1, "sh", "-c", &format!("ls {CANARY} 2>/dev/null || :")]);
    assert_eq!(canary.trim(), "", "after `{after}`");
}

/// Every command that connects as the administrator, most of them with success.
#[track_caller]
fn run_all(stack: &Stack, may_fail: &[&str]) {
    for command in [
        "doctor",
        "status --drift",
        "up",
        "backup",
        "backup --verify",
        "repair keto --yes",
        "restore latest keto --yes --force",
        "reset keto --yes --force",
        "restore latest keto --yes --force",
    ] {
        let outcome = stack.run(command);
        if !may_fail.contains(&command) && command != "doctor" {
            outcome.exits(0);
        }
        assert_ordinary(stack, command);
    }
}

/// By its own login: who has only set it could leave it again.
fn as_keto(stack: &Stack, sql: &str) {
    stack.sql("dbname=keto user=keto", sql);
}

fn no_setting_of_a_database_becomes_sql(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    for (is_usable, setting) in [
        (
            false,
            "select set_config('search_path', 'public;alter/**/role/**/keto/**/superuser;--', false);
             alter database keto set search_path from current",
        ),
        (true, "alter database keto set search_path = 'public', 'x\";alter role keto superuser;--', 'it''s'"),
        (true, "alter database keto set application_name = 'x''; alter role keto superuser; --'"),
        (
            true,
            r"alter database keto set standard_conforming_strings = off;
              alter database keto set client_encoding = 'SJIS';
              comment on database keto is e'\\''; alter role keto superuser; --'",
        ),
    ] {
        as_keto(&stack, setting);
        let of_database =
            "select s.setconfig from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
                           where datname = 'keto' and setrole = 0";
        let before = stack.sql("postgres", of_database);
        for command in ["backup --verify keto", "restore latest keto --yes", "reset keto --yes"] {
            let outcome = stack.run(command);
            // Where its search_path leads nowhere, no image can make its tables.
            if is_usable || command.starts_with("backup") {
                outcome.exits(0);
            }
            assert_ordinary(&stack, command);
        }
        assert_eq!(stack.sql("postgres", of_database), before, "the settings stay what they are");
        as_keto(&stack, "alter database keto reset all; comment on database keto is null");
    }
}

fn no_function_operator_or_cast_of_a_product_is_called_by_the_administrator(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let functions = [
        ("format", "text, text, text", "text"),
        ("format", "text, text", "text"),
        ("format", "text, name", "text"),
        ("format", "text, name, text", "text"),
        ("count", "text", "bigint"),
        ("quote_ident", "name", "text"),
        ("pg_get_userbyid", "oid", "text"),
        ("current_schema", "text", "text"),
        ("to_regclass", "text", "text"),
        ("has_schema_privilege", "oid, text", "boolean"),
        ("pg_has_role", "oid, text", "boolean"),
        ("obj_description", "oid, text", "text"),
        ("coalesce_text", "text", "text"),
    ];
    let mut sql = "create table public.seen (who text, session text);".to_string();
    for (name, signature, returns) in functions {
        sql += &evil("public", name, signature, returns);
    }
    // Operators that fit better than PostgreSQL's own, and casts of a row.
    sql += &evil("public", "name_is", "name, text", "boolean");
    sql += &evil("public", "char_is", "\"char\", text", "boolean");
    sql += &evil("public", "oid_is", "oid, regclass", "boolean");
    sql += "create operator public.= (leftarg = name, rightarg = text, function = public.name_is);
            create operator public.<> (leftarg = name, rightarg = text, function = public.name_is);
            create operator public.= (leftarg = \"char\", rightarg = text, function = public.char_is);
            create operator public.= (leftarg = oid, rightarg = regclass, function = public.oid_is);";
    for (table, kind) in [
        ("networks", "text"),
        ("networks", "json"),
        ("schema_migration", "jsonb"),
        ("schema_migration", "text"),
    ] {
        let name = format!("{table}_as_{kind}");
        sql += &evil("public", &name, &format!("r public.{table}"), kind);
        sql += &format!(
            "create cast (public.{table} as {kind}) with function public.{name}(public.{table}) as implicit;"
        );
    }
    sql += "alter database keto set search_path = public, pg_catalog; alter role keto set search_path = public, pg_catalog";
    as_keto(&stack, &sql);
    stack.sql("postgres", "grant create on schema public to keto");
    for (name, signature, returns) in functions {
        let sql = evil("public", name, signature, returns);
        stack.sql("dbname=postgres user=keto", &sql);
    }
    run_all(&stack, &["repair keto --yes"]);
    let seen = "select count(*) from public.seen where who <> 'keto' or session <> 'keto'";
    assert_eq!(stack.sql("keto", seen).trim(), "0", "who ran it");
}

fn no_code_in_a_dump_runs_as_the_administrator(compose: Compose) {
    let stack = Stack::new(compose);
    stack.run("up").exits(0);
    let mut sql = evil("public", "checked", "t text", "boolean");
    sql += &evil("public", "made", "", "text");
    sql += &evil("public", "fired", "", "trigger");
    sql += "alter function public.made() volatile;
            create or replace function public.indexed(t text) returns text immutable language plpgsql
              as $$ begin perform public.checked(t); return t; end $$;
            create domain public.watched as text check (public.checked(value));
            create table public.mine (id int primary key, t text check (public.checked(t)), w public.watched,
              d text default public.made(), g text generated always as (public.indexed(t)) stored);
            insert into public.mine (id, t, w) values (1, 'x', 'y');
            create index on public.mine (public.indexed(t));
            create trigger fires before insert or update or delete on public.mine
              for each row execute function public.fired();
            create constraint trigger fires_late after insert or delete on public.schema_migration
              deferrable initially deferred for each row execute function public.fired();
            create view public.looks as select public.checked('x');
            create materialized view public.keeps as select public.checked('x') as is_checked;
            alter table public.networks add column watched public.watched default 'w';";
    as_keto(&stack, &sql);
    // With a table of somebody else's, all was loaded by the administrator.
    stack.sql(
        "keto",
        "create role shop; create table public.orders (id int); insert into orders values (1), (2);
         alter table public.orders owner to shop; create function public.priced() returns int security definer
         language sql as 'select 1'; alter function public.priced() owner to shop; create schema shop authorization shop;
         create type shop.kind as enum ('a'); alter type shop.kind owner to shop",
    );
    let owners = "select 'orders', pg_get_userbyid(relowner) from pg_class where relname in ('orders', 'mine')
        union all select proname, pg_get_userbyid(proowner) from pg_proc where proname in ('priced', 'checked')
        union all select typname, pg_get_userbyid(typowner) from pg_type where typname = 'kind'
        union all select nspname, pg_get_userbyid(nspowner) from pg_namespace where nspname = 'shop' order by 1, 2";
    let before = stack.sql("keto", owners);
    assert!(before.contains("orders|shop") && before.contains("priced|shop"), "{before}");
    for command in [
        "backup --verify",
        "restore latest keto --yes --force",
        "reset keto --yes --force",
        "status --drift",
        "up",
    ] {
        stack.run(command).exits(0);
        assert_ordinary(&stack, command);
        if command.starts_with("restore") {
            assert_eq!(stack.sql("keto", owners), before, "each has its owner");
            assert_eq!(stack.sql("keto", "select count(*) from public.mine").trim(), "1");
        }
    }
    stack.run("restore latest keto --yes --force").exits(0);
    assert_eq!(stack.sql("keto", "select count(*) from public.orders").trim(), "2");
    assert_ordinary(&stack, "restore after reset");
}

/// The application and the products in one database, each product with a schema and a role of its own.
fn schemas(compose: Compose) -> Shared {
    let shared = Shared::new(compose);
    shared.stack.run("split --yes").exits(0);
    shared.goes_on(|product| format!("dbname=acme options=-csearch_path={product}"));
    shared.stack.run("split --finish --yes").exits(0);
    shared
}

/// Code of a role, in a table of its own that each product has.
fn plant(shared: &Shared, schema: &str, role: &str) {
    shared.sql(
        "create table if not exists public.seen (who text, session text); grant all on public.seen to public",
    );
    shared.sql(&evil(schema, "checked", "t text", "boolean"));
    shared.sql(&format!(
        "alter function {schema}.checked(text) owner to {role};
         alter table {schema}.networks add column planted text default 'x';
         alter table {schema}.networks add constraint planted check ({schema}.checked(planted)) not valid;
         update pg_constraint set convalidated = true where conname = 'planted';
         truncate public.seen"
    ));
}

fn no_code_in_a_schema_runs_as_the_administrator(compose: Compose) {
    let shared = schemas(compose);
    let stack = &shared.stack;
    shared.give_keto_a_role("alter schema keto owner to keto; grant create on database acme to keto");
    plant(&shared, "keto", "keto");
    for command in
        ["backup --verify keto", "restore latest keto --yes", "reset keto --yes", "restore latest keto --yes"]
    {
        stack.run(command).exits(0);
        assert_ordinary(stack, command);
        let seen = "select string_agg(distinct who || ' ' || session, ', ') from public.seen
                    where who <> 'keto' or session <> 'keto'";
        assert_eq!(shared.sql(seen).trim(), "", "after `{command}`");
    }
}

fn no_code_runs_as_the_administrator_while_a_schema_is_split(compose: Compose) {
    for way in ["--in-place", "--drop-foreign-keys"] {
        let shared = Shared::new(compose);
        let stack = &shared.stack;
        shared.sql(
            "create role mallory; alter table public.networks owner to mallory;
             alter table public.schema_migration owner to mallory; grant usage, create on schema public to mallory;
             create table public.seen (who text, session text); grant all on public.seen to public;
             insert into schema_migration values ('nobodys', 0)",
        );
        for (name, signature, returns) in [
            ("checked", "t text", "boolean"),
            ("fired", "", "trigger"),
            ("as_text", "r public.networks", "text"),
            ("as_json", "r public.schema_migration", "jsonb"),
        ] {
            shared.sql(&evil("public", name, signature, returns));
            let arguments = signature.split_once(' ').map_or("", |(_, kind)| kind);
            shared.sql(&format!("alter function public.{name}({arguments}) owner to mallory"));
        }
        shared.sql(
            "set session authorization mallory;
             create cast (public.networks as text) with function public.as_text(public.networks) as implicit;
             create cast (public.schema_migration as jsonb) with function public.as_json(public.schema_migration);
             create rule r as on delete to schema_migration do also select public.checked('x')",
        );
        if way == "--drop-foreign-keys" {
            let refused = stack.run(&format!("split {way} --yes")).exits(1);
            refused.says(
                "the rule r on public.schema_migration can't be in a database of its own with its table",
            );
            assert_ordinary(stack, "a refused split");
            shared.sql("drop rule r on schema_migration");
        } else {
            plant(&shared, "public", "mallory");
            shared.sql(
                "create constraint trigger fires after delete on schema_migration deferrable initially deferred
                 for each row execute function public.fired()",
            );
        }
        let split = stack.run(&format!("split {way} --yes")).exits(0);
        assert_ordinary(stack, way);
        let seen = "select string_agg(distinct who, ', ') from public.seen";
        assert!(["mallory", ""].contains(&shared.sql(seen).trim()), "{}: {split}", shared.sql(seen));
    }
}

fn no_name_in_a_catalog_is_taken_for_a_statement(compose: Compose) {
    let shared = Shared::new(compose);
    let stack = &shared.stack;
    shared.sql("create role mallory login");
    // What is dropped with a key was read from a line, up to the first bar.
    let name =
        "k|x\nkey|f|public.orders drop constraint if exists a; alter role mallory superuser; --|nothing";
    shared.sql(&format!(
        "alter table orders rename constraint orders_buyer_fkey to \"{name}\";
         create view \"v|\nview|f|public.other|x\" as select id from identities"
    ));
    let dry = stack.run("split --drop-foreign-keys --dry-run");
    assert_ordinary(stack, "split --dry-run");
    assert!(dry.stderr.contains("the view public.\"v|"), "{dry}");
    let split = stack.run("split --drop-foreign-keys --yes").exits(0);
    assert_ordinary(stack, "split");
    let left =
        "select count(*) from pg_constraint where conrelid = 'public.orders'::regclass and contype = 'f'";
    assert_eq!(shared.sql(left).trim(), "0", "{split}");
    let left = "select count(*) from pg_views where viewname like 'v|%'";
    assert_eq!(shared.sql(left).trim(), "0", "{split}");
}
