//! A database of its own for each product of a shared schema: copied and compared while nothing can write, and the old
//! tables put away in the same transaction. Until its end, and after any failure, all is as it was.

use anyhow::{Context as _, Result, bail};
use ory_facts::catalog::Catalog;
use ory_facts::difference;
use ory_facts::dsn::Dsn;
use ory_facts::next::XTASK;
use ory_facts::product::Product;
use ory_facts::scram;
use ory_facts::split::databases;
use ory_facts::split::dependents::Dependent;
use ory_facts::split::{Division, Part, Way};
use ory_facts::sql;
use ory_runner::failure::{Exit, Failure};
use ory_runner::output::counted;
use ory_runner::process::Invocation;
use ory_runner::session::Session;
use ory_stack::random::random;
use ory_stack::stack::Deployment;

use crate::client::Place;
use crate::context::Context;
use crate::lock::Locked;
use crate::pooler;
use crate::postgres;
use crate::split::new_dsns::NewDsn;
use crate::split::shared::{self, Shared};
use crate::temporary_dump::WorkDump;

/// A split that is under way.
pub struct Databases<'a> {
    pub cx: &'a Locked,
    pub shared: &'a Shared<'a>,
    pub division: &'a Division,
    pub dependents: &'a [Dependent],
    pub new: &'a [NewDsn],
}

impl Databases<'_> {
    /// Splits. The services are stopped.
    pub fn run(&self) -> Result<()> {
        let Self { cx, shared, division, .. } = self;
        let main = shared.target.main()?;
        let lock = shared.begin(cx)?;
        for part in &division.parts {
            make_role(cx, &shared.place, main, &self.dsn(part)?)?;
        }
        let name = shared::application(cx);
        let owner = postgres::as_owner(cx, &shared.place, main, &[("PGAPPNAME", &name)]);
        let mut session = Session::start(owner)?;
        self.hold(&mut session)?;
        shared.refuse_changed(cx, division, Way::Databases)?;
        for part in &division.parts {
            self.copy(part, &mut session).with_context(|| format!("{} can't be copied", part.product))?;
        }
        lock.check()?;
        let put_away = division.put_away_and_commit(self.dependents);
        session.ask(&put_away).map_err(|error| shared.explain_lock(cx, error))?;
        give_names(cx, &shared.place, main, division.parts.iter().map(|part| part.product))
    }

    fn dsn(&self, part: &Part) -> Result<Dsn> {
        let new = self.new.iter().find(|new| new.product == part.product);
        Ok(new.context("a product has no new DSN")?.dsn.clone())
    }

    fn hold(&self, session: &mut Session) -> Result<()> {
        let cx = self.cx;
        let limit = cx.options.db_lock_timeout.unwrap_or(cx.options.wait());
        let _progress = cx.out.progress("waiting for the last writes to end");
        let hold = self.division.hold(limit);
        session.ask(&hold).map(|_| ()).map_err(|error| self.shared.explain_lock(cx, error))
    }

    /// Copies a part, and compares: each row, and the schema.
    fn copy(&self, part: &Part, session: &mut Session) -> Result<()> {
        let Self { cx, shared, division, .. } = self;
        let product = part.product;
        let (main, place) = (shared.target.main()?, &shared.place);
        let dsn = self.dsn(part)?;
        let create = databases::create(&main.dsn.database, product, &dsn.user);
        postgres::maintain(cx, place, main, create).read()?;
        if !part.is_there() {
            return Ok(());
        }
        let dsn = dsn.with_database(&databases::unfinished(product));
        let ask = |script: String| {
            let long = postgres::change(cx, place, &dsn, script);
            long.within(cx.options.timeout).read()
        };
        ask(division.prepare(part))?;
        let dump = WorkDump::take(cx, product.name(), &dump_command(cx, shared, division, part)?)?;
        {
            let _progress = cx.out.progress(format!("restoring {product} into a database of its own"));
            let database = format!("--dbname={}", sql::database(&dsn.database));
            let words = [&postgres::RESTORE[..], &["--no-owner", "--no-acl", &database]].concat();
            postgres::tool(cx, place, &dsn, &[], &words).stdin_file(dump.path()).read()?;
        }
        let versions = session.ask(&division.versions(part))?.join("");
        ask(division.complete(part, &versions))?;
        let _progress = cx.out.progress(format!("comparing {product} with its copy"));
        let sums = session.ask(&division.sums(part))?;
        let copied = ask(format!("{};\n{}", ory_facts::split::SETTINGS, division.sums(part)))?;
        if !copied.lines().eq(sums.iter().map(String::as_str)) {
            bail!("its copy has other rows");
        }
        self.compare_schema(product, &ask(ory_facts::catalog::QUERY.into())?)?;
        // Else the first questions would be answered slowly.
        ask("analyze;\n".into())?;
        let rows = sums.iter().filter_map(|line| line.split('\t').nth(1)?.parse::<usize>().ok()).sum();
        let (rows, tables) = (counted(rows, "row"), counted(part.tables.len(), "table"));
        cx.out.say(format!("{product}: copied {rows} in {tables}, and compared them"));
        Ok(())
    }

    /// A copy differs from what the image makes in nothing that the original doesn't differ in too.
    fn compare_schema(&self, product: Product, copied: &str) -> Result<()> {
        let copied = Catalog::parse(copied).context("failed to read PostgreSQL's catalog")?;
        let (expected, actual) = self.shared.schemas(product)?;
        let known = difference::compare(expected, actual);
        let new = difference::compare(expected, &copied).into_iter().find(|found| !known.contains(found));
        match new {
            Some(difference) => bail!("in its copy {}", difference.text),
            None => Ok(()),
        }
    }
}

/// Makes the role of a new DSN where it isn't there.
pub fn make_role(cx: &Locked, place: &Place, main: &Deployment, dsn: &Dsn) -> Result<()> {
    if pooler::server_of(cx, main).is_some() {
        let script = databases::role(&dsn.user, &scram::secret(&dsn.password, &random(16)?));
        postgres::maintain(cx, place, main, script).read()?;
    }
    Ok(())
}

/// Whether a product's new database belongs to the role of its old DSN.
pub fn keeps_role(cx: &Context, deployment: &Deployment) -> Result<bool> {
    let place = postgres::running_place(cx, deployment)?;
    let script = databases::owner(deployment.product.kind);
    let owner = postgres::maintain(cx, &place, deployment, script).read()?;
    Ok(owner.lines().any(|owner| owner == deployment.dsn.user))
}

/// Gives the new databases their names, once the old tables are put away.
pub fn give_names(
    cx: &Locked,
    place: &Place,
    main: &Deployment,
    products: impl IntoIterator<Item = Product>,
) -> Result<()> {
    let script: String = products.into_iter().map(databases::name).collect();
    postgres::maintain(cx, place, main, script).read().map(|_| ())
}

/// Removes what didn't get to its name. Not where the old tables are put away: then it is all there is.
pub fn undo(cx: &Locked, shared: &Shared, division: &Division) -> Result<bool> {
    let main = shared.target.main()?;
    shared::end_leftovers(cx, &shared.place, main)?;
    if shared::memory(cx, main)?.note.is_some() {
        return Ok(false);
    }
    let script: String = division.parts.iter().map(|part| databases::remove(part.product)).collect();
    postgres::maintain(cx, &shared.place, main, script).read()?;
    Ok(true)
}

/// Fails with what the role may not do, and with a database that is somebody else's, before anything is done. Returns the
/// products whose names are roles already, of somebody else.
pub fn check(cx: &Context, shared: &Shared, division: &Division) -> Result<Vec<Product>> {
    let main = shared.target.main()?;
    let mut taken = Vec::new();
    for part in &division.parts {
        let product = part.product;
        let user = &shared.deployment(product)?.dsn.user;
        let names = databases::names(product, user);
        let said = postgres::maintain(cx, &shared.place, main, names).read()?;
        let has = |key: &str| said.lines().any(|line| line.starts_with(key));
        if !has("may|") {
            let role = &main.dsn.user;
            let message = format!("the role {role} may not create a database for {product}");
            let hint = "have an administrator run: alter role ... createdb; or: {XTASK} split --in-place";
            bail!(Failure::new(Exit::Failed, message).hint(hint.replace("...", role)));
        }
        if has("database|") && !is_empty(cx, shared, product)? {
            let message = format!("there is a database {product} already, and it isn't empty");
            let hint =
                format!("rename it (alter database {product} rename to ...), or: {XTASK} split --in-place");
            bail!(Failure::new(Exit::Failed, message).hint(hint));
        }
        taken.extend(has("role|").then_some(product));
    }
    Ok(taken)
}

fn is_empty(cx: &Context, shared: &Shared, product: Product) -> Result<bool> {
    let main = shared.target.main()?;
    let database = [("PGDATABASE", product.name())];
    let script = "select 1 from pg_class c join pg_namespace n on n.oid = relnamespace
        where nspname <> 'information_schema' and nspname !~ '^pg_' limit 1;\n";
    let ask = postgres::as_owner(cx, &shared.place, main, &database).stdin(script);
    Ok(ask.read()?.trim().is_empty())
}

/// The command that dumps a part.
pub fn dump_command(cx: &Context, shared: &Shared, division: &Division, part: &Part) -> Result<Invocation> {
    let tables = division.dump(part);
    let words = ["pg_dump", "-w", "-Fc"].into_iter().chain(tables.iter().map(String::as_str));
    let words: Vec<_> = words.collect();
    let name = shared::application(cx);
    let main = shared.target.main()?;
    Ok(postgres::owner_tool(cx, &shared.place, main, &[("PGAPPNAME", &name)], &words))
}
