//! `.env.split`: the new DSNs of products that were split off, for who puts them where the old ones are. The file is
//! written before anything is made with its passwords.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use ory_facts::dsn::Dsn;
use ory_facts::product::Product;
use ory_facts::split::{Division, Part, Way};
use ory_stack::checks::dsns;
use ory_stack::env_file;
use ory_stack::ignored;
use ory_stack::private_file::{self, Readers};
use ory_stack::random::random;
use ory_stack::stack::Deployment;

use crate::context::Context;
use crate::lock::Locked;

/// What the file is called. Git is told to ignore it.
pub const FILE: &str = ".env.split";

/// A place where an old DSN stands, and what is to stand there.
pub struct NewDsn {
    pub product: Product,
    pub service: String,
    /// Where it isn't in the environment.
    pub file: Option<String>,
    pub old: String,
    /// The variable in the file.
    pub variable: String,
    pub dsn: Dsn,
}

/// A password for each product that has none in the file yet.
pub struct Passwords(Vec<(Product, String)>);

impl Passwords {
    /// Makes them up. From then on neither they nor those in the file are ever shown.
    pub fn new(cx: &mut Locked) -> Result<Self> {
        let text = std::fs::read_to_string(path(cx)).unwrap_or_default();
        let values = text.lines().filter_map(|line| Some(line.split_once('=')?.1.trim_matches('\'')));
        let known = values.filter_map(|value| Some(Dsn::parse(value).ok()?.password));
        let mut new = vec![];
        for product in Product::ALL {
            new.push((product, random(32)?));
        }
        known.chain(new.iter().map(|(_, new)| new.clone())).for_each(|p| cx.engine.hide(&p));
        Ok(Self(new))
    }

    /// Without one, a product keeps the role that it has.
    pub fn remove(&mut self, product: Product) {
        self.0.retain(|(of, _)| *of != product);
    }

    fn of(&self, product: Product) -> Option<&String> {
        self.0.iter().find(|(of, _)| *of == product).map(|(_, password)| password)
    }
}

/// The new DSNs of a part, the migrating service's first.
pub fn of(
    cx: &Context,
    passwords: &Passwords,
    deployment: &Deployment,
    way: Way,
    division: Option<(&Division, &Part)>,
) -> Result<Vec<NewDsn>> {
    let product = deployment.product;
    let view = cx.stack.view();
    let written = view.products.iter().filter(|deployed| deployed.product == product).flat_map(dsns::written);
    let written: Vec<_> = written.collect();
    let own = variable(product.kind.name());
    let mut first = known(cx, &own).filter(|dsn| {
        dsn.database == product.kind.name() && written.iter().any(|written| written.dsn.host == dsn.host)
    });
    let are_equal = written.windows(2).all(|pair| pair[0].dsn.url() == pair[1].dsn.url());
    let mut all = Vec::new();
    for written in written {
        let (dsn, variable) = match way {
            Way::Databases => {
                let make = || in_database(deployment, passwords.of(product.kind), &written.dsn, division);
                (first.get_or_insert_with(make).clone(), own.clone())
            }
            Way::Schemas => {
                // Who migrates can have another role than who serves: each keeps its own.
                let variable = if are_equal { own.clone() } else { variable(&written.service.name) };
                let path = match division {
                    Some((_, part)) => Division::search_path(part),
                    None => known(cx, &variable)
                        .and_then(|dsn| dsn.search_path())
                        .unwrap_or_else(|| product.kind.name().into()),
                };
                (written.dsn.with_search_path(&path), variable)
            }
        };
        let (service, old) = (written.service.name.clone(), written.dsn.url().to_string());
        all.push(NewDsn { product: product.kind, service, file: written.file, old, variable, dsn });
    }
    Ok(all)
}

/// On a server that is a service, a product gets a role of its own; elsewhere it keeps the one it has.
fn in_database(
    deployment: &Deployment,
    password: Option<&String>,
    old: &Dsn,
    division: Option<(&Division, &Part)>,
) -> Dsn {
    let name = deployment.product.kind.name();
    let mut dsn = old.with_database(name);
    if let Some(password) = password.filter(|_| deployment.server.is_some() && dsn.user != name) {
        dsn = dsn.with_login(name, password);
    }
    let schema = division.map(|(division, _)| division.schema.as_str()).filter(|schema| *schema != "public");
    match schema.filter(|_| dsn.search_path().is_none()) {
        // The old role found it there by a setting of its own.
        Some(schema) => dsn.with_schemas(&[schema]),
        None => dsn,
    }
}

/// Adds DSNs to the file.
pub fn write(cx: &Locked, all: &[NewDsn]) -> Result<()> {
    let path = path(cx);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let is_new = |line: &&str| !all.iter().any(|new| line.starts_with(&format!("{}=", new.variable)));
    let mut lines: Vec<_> = text.lines().filter(is_new).map(String::from).collect();
    for new in all {
        let url = new.dsn.url();
        // Compose would expand a variable there.
        let line = if url.contains('$') {
            format!("{}='{url}'", new.variable)
        } else {
            format!("{}={url}", new.variable)
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    ignored::keep_out(&path);
    private_file::replace(&path, &(lines.join("\n") + "\n"), Readers::Chosen)
}

/// Removes the file, once each DSN is where it belongs: it has passwords, and is of no use any more. Whether it is there
/// still, because the stack reads it.
pub fn remove(cx: &Locked) -> Result<bool> {
    let path = path(cx);
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let named = std::env::var("COMPOSE_ENV_FILES").unwrap_or_default();
    let is_env = cx.dir.join(".env").canonicalize().ok() == path.canonicalize().ok();
    let is_named = |text: String| text.contains(FILE);
    let entries = std::fs::read_dir(&cx.dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_yaml = |file: &PathBuf| file.extension().is_some_and(|end| end == "yml" || end == "yaml");
    let files = entries.filter(is_yaml).chain(env_file::compose_files(&cx.dir));
    let is_read = is_env
        || cx.engine.env_files.iter().any(|file| file.ends_with(FILE))
        || is_named(named)
        || files.filter_map(|file| std::fs::read_to_string(file).ok()).any(is_named);
    if !is_read {
        std::fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
        cx.out.say(format!("{FILE}: removed"));
    }
    Ok(is_read)
}

fn path(cx: &Context) -> PathBuf {
    cx.dir.join(FILE)
}

fn known(cx: &Context, variable: &str) -> Option<Dsn> {
    Dsn::parse(&env_file::value_in(&path(cx), variable)?).ok()
}

fn variable(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("{name}_DSN")
}
