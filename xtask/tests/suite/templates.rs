//! Databases that begin again: each product's as it is without Ory's tables, after the release before, and up to
//! date, with rows that nothing may lose.

use std::fmt;

use crate::end_to_end::rows_of_a_user;
use crate::ground::{Ground, PRODUCTS};
use crate::stack::{OLD, docker};

/// What the databases begin with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// No databases: the command creates them.
    Nothing,
    /// Without Ory's tables; an application has its own there.
    Empty,
    /// Migrated by the release before, with rows.
    Old,
    /// Up to date, with rows.
    New,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// What each product's database has: versions of Ory, and rows, in words.
#[derive(Debug, Clone)]
struct Content {
    versions: Vec<String>,
    rows: Vec<String>,
}

/// What is in the templates of a stack.
pub struct Templates([(Start, [Content; 3]); 4]);

impl Templates {
    /// Makes them; nothing of Ory's runs afterwards.
    pub fn new(ground: &Ground) -> Self {
        let keep = |start: Start| {
            let keep = |product| copy(product, product, &format!("{product}_{start}"));
            ground.psql(&PRODUCTS.map(keep).concat());
        };
        ground.stack.run_release(OLD, "up").exits(0);
        rows_of_a_user(&ground.stack);
        remove_services(ground);
        let application = "create table application as select id, 'note ' || id as note from \
                           generate_series(1, 1000) id;\n";
        ground.psql(&PRODUCTS.map(|product| format!("\\connect {product}\n{application}")).concat());
        let old = contents(ground);
        keep(Start::Old);
        ground.stack.run("migrate-all").exits(0);
        let new = contents(ground);
        keep(Start::New);
        let empty = PRODUCTS.map(|product| {
            format!(
                "\\connect postgres\ndrop database {product};\ncreate database {product} owner {product};\n\
                 \\connect {product}\n{application}"
            )
        });
        ground.psql(&empty.concat());
        let empty = contents(ground);
        keep(Start::Empty);
        let nothing = [(); 3].map(|()| Content { versions: vec![], rows: vec![] });
        Self([(Start::Nothing, nothing), (Start::Empty, empty), (Start::Old, old), (Start::New, new)])
    }

    /// SQL after which every database begins again.
    pub fn begin_sql(start: Start) -> String {
        let begin = |product| {
            let drop = format!("drop database if exists {product} with (force);\n");
            let from = format!("{product}_{start}");
            drop + &if start == Start::Nothing { String::new() } else { copy(product, &from, product) }
        };
        PRODUCTS.map(begin).concat()
    }

    /// How many versions of a product a template has.
    pub fn versions(&self, start: Start, product: &str) -> usize {
        let place = PRODUCTS.iter().position(|known| *known == product).expect("a product");
        self.of(start)[place].versions.len()
    }

    /// What isn't as it must be once products that began with `start` are up to date, in words.
    pub fn wrong(&self, ground: &Ground, start: Start, is_up_to_date: impl Fn(&str) -> bool) -> Vec<String> {
        let mut wrong = vec![];
        for (place, found) in contents(ground).into_iter().enumerate() {
            let product = PRODUCTS[place];
            let expected = if is_up_to_date(product) { Start::New } else { start };
            let expected = &self.of(expected)[place].versions;
            if found.versions != *expected {
                let (has, all) = (found.versions.len(), expected.len());
                wrong.push(format!("{product} has {has} versions instead of {all}, or others"));
            }
            let lost = self.of(start)[place].rows.iter().filter(|row| !found.rows.contains(row));
            wrong.extend(lost.map(|row| format!("{product} has lost: {row}")));
        }
        wrong
    }

    fn of(&self, start: Start) -> &[Content; 3] {
        &self.0.iter().find(|(known, _)| *known == start).expect("a start").1
    }
}

/// SQL that copies a product's database.
fn copy(product: &str, from: &str, to: &str) -> String {
    format!("create database {to} template {from} owner {product};\n")
}

/// What each product's database has now.
fn contents(ground: &Ground) -> [Content; 3] {
    let tables = [("kratos", "identities"), ("hydra", "hydra_client"), ("keto", "keto_relation_tuples")];
    let script = tables.map(|(product, table)| {
        format!(
            "\\connect {product}
             select '{product} row ' || md5(string_agg(a::text, ',' order by id)) || ' of the application'
               from application a;
             select to_regclass('schema_migration') is not null as migrated \\gset
             \\if :migrated
             select '{product} version ' || version from schema_migration order by version;
             select '{product} row ' || id || ' of networks' from networks;
             select '{product} row ' || count(*) || ' of {table}' from {table};
             \\endif\n"
        )
    });
    let lines = ground.psql(&script.concat());
    PRODUCTS.map(|product| {
        let of = |kind| {
            let prefix = format!("{product} {kind} ");
            lines.lines().filter_map(|line| line.strip_prefix(&prefix)).map(String::from).collect()
        };
        Content { versions: of("version"), rows: of("row") }
    })
}

/// Removes the servers of Ory.
pub fn remove_services(ground: &Ground) {
    let project = format!("label=com.docker.compose.project={}", ground.stack.name);
    let format = "{{.ID}} {{.Label \"com.docker.compose.service\"}}";
    let all = docker(&["ps", "--all", "--filter", &project, "--format", format]);
    let pairs = all.lines().filter_map(|line| line.split_once(' '));
    let ids: Vec<_> = pairs.filter(|(_, name)| PRODUCTS.contains(name)).map(|(id, _)| id).collect();
    if !ids.is_empty() {
        docker(&[&["rm", "--force"], &ids[..]].concat());
    }
}
