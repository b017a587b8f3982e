//! Stand-ins: small images for tests and offline trials, built here, without a registry.
//!
//! Asked for by `--stand-in`, labelled in every summary, never chosen silently. They are built from PostgreSQL's
//! image, for its psql; where not even that one can be pulled, a Debian host makes one from Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use ory_facts::digest;
use ory_facts::product::Product;
use ory_ops::context::Context;
use ory_ops::folders::work_file;
use ory_runner::failure::{Exit, Failure};
use ory_runner::file_lock::{self, FileLock};
use ory_runner::process::{self, Invocation};
use ory_stack::env_file;

/// The image variables of the recommended stack, and the stand-ins for them.
pub fn settings(release: &str) -> Vec<(String, String)> {
    let variable = |product: &Product| format!("{}_IMAGE", product.name().to_uppercase());
    Product::ALL.iter().map(|product| (variable(product), image(*product, release))).collect()
}

/// The stand-ins' images of a release.
pub fn images(release: &str) -> Vec<String> {
    Product::ALL.iter().map(|product| image(*product, release)).collect()
}

/// Whether an image is built here, so that it can't be pulled.
pub fn is_stand_in(image: &str) -> bool {
    image.starts_with("stand-in/")
}

fn image(product: Product, release: &str) -> String {
    format!("stand-in/{product}:{release}")
}

/// PostgreSQL from Debian's packages.
const POSTGRES: &str = "stand-in/postgres:debian";

/// Builds what isn't there yet, and returns the settings to keep in `.env`, so that later commands, and plain
/// Compose, use the same images.
pub fn prepare(cx: &Context, release: &str) -> Result<Vec<(String, String)>> {
    let mut settings = settings(release);
    for (product, (variable, image)) in Product::ALL.into_iter().zip(&settings) {
        let members = cx.stack.members(product)?;
        let mut serving = members.iter().flat_map(|members| &members.serve);
        if serving.any(|service| service.image.as_ref() != Some(image)) {
            let message = format!(
                "{product}'s image doesn't come from the variable {variable}, so no stand-in can be put in"
            );
            let hint = format!("image: ${{{variable}:-oryd/{product}:v26.2.0}}");
            bail!(Failure::new(Exit::Usage, message).hint(hint));
        }
        let written = env_file::value(&cx.dir, variable).filter(|written| !is_stand_in(written));
        if let Some(written) = written {
            let message = format!(".env sets {variable} to {written}, which isn't a stand-in");
            bail!(
                Failure::new(Exit::Usage, message)
                    .hint(format!("remove {variable} from .env, or leave --stand-in out"))
            );
        }
    }
    let base = build(cx, release)?;
    if base == POSTGRES {
        settings.push(("POSTGRES_IMAGE".into(), base));
    }
    Ok(settings)
}

/// Builds what isn't there yet, and returns the PostgreSQL image that it is built from.
pub fn build(cx: &Context, release: &str) -> Result<String> {
    let base = postgres(cx)?;
    build_products(cx, &base, release)?;
    Ok(base)
}

/// The PostgreSQL image to build from: the stack's where it is here or can be pulled, else one of Debian's.
fn postgres(cx: &Context) -> Result<String> {
    let mut wanted = "postgres:17-alpine".to_string();
    if let Some(first) = cx.stack.products()?.first()
        && let Some(deployment) = cx.stack.deployment(*first)?
    {
        wanted = deployment.server.and_then(|server| server.image.clone()).unwrap_or(wanted);
    }
    if !cx.engine.images([wanted.as_str()])?.is_empty() {
        return Ok(wanted);
    }
    let pulled = {
        let _progress = cx.out.progress(format!("pulling {wanted}"));
        let pull = cx.engine.docker(["pull", "--quiet", &wanted]).within(None);
        pull.output()?.status.success()
    };
    if pulled {
        return Ok(wanted);
    }
    build_postgres(cx, &wanted)?;
    Ok(POSTGRES.into())
}

fn build_postgres(cx: &Context, wanted: &str) -> Result<()> {
    let stamp = stamp(ory_stand_in::POSTGRES, "");
    if is_built(cx, POSTGRES, &stamp)? {
        return Ok(());
    }
    let _alone = alone(cx)?;
    if is_built(cx, POSTGRES, &stamp)? {
        return Ok(());
    }
    cx.out.say(format!("{wanted} can't be pulled: {POSTGRES} is made from Debian's packages instead"));
    let base = "stand-in/debian-postgresql:base";
    if cx.engine.images([base])?.is_empty() {
        let suite = debian_suite()?;
        let mmdebstrap = mmdebstrap(cx)?;
        let archive = work_file(&cx.options, "stand-in/postgres.tar")?;
        let target = archive.display().to_string();
        let make = cx.engine.program(mmdebstrap).args(["--quiet", "--variant=minbase"]);
        let _progress = cx.out.progress("making a PostgreSQL image from Debian's packages");
        let made = make.args(["--include=postgresql", suite.as_str(), target.as_str()]).read();
        made.context("failed to make a PostgreSQL image from Debian's packages")?;
        let import = cx.engine.docker(["import", &target, base]).within(None);
        import.read()?;
        fs::remove_file(&archive).with_context(|| format!("failed to remove {target}"))?;
    }
    let argument = format!("BASE={base}");
    let folder = written(cx, ory_stand_in::POSTGRES, "postgres")?;
    build_image(cx, &folder, POSTGRES, &stamp, &["--build-arg", &argument])
}

fn build_products(cx: &Context, base: &str, release: &str) -> Result<()> {
    let stamp = stamp(ory_stand_in::PRODUCTS, base);
    let left = || -> Result<Vec<Product>> {
        let built = Product::ALL.iter().map(|product| is_built(cx, &image(*product, release), &stamp));
        let built = built.collect::<Result<Vec<_>>>()?;
        Ok(Product::ALL
            .into_iter()
            .zip(built)
            .filter(|(_, built)| !built)
            .map(|(product, _)| product)
            .collect())
    };
    if left()?.is_empty() {
        return Ok(());
    }
    let _alone = alone(cx)?;
    let left = left()?;
    if left.is_empty() {
        return Ok(());
    }
    let _progress = cx.out.progress("building the stand-ins");
    let context = work_file(&cx.options, "stand-in/image/ory-stand-in")?;
    let binary = context.display().to_string();
    if std::env::consts::OS != "linux" {
        bail!(
            Failure::new(Exit::Missing, "stand-ins can only be built on Linux")
                .hint("use Ory's images: {XTASK} up")
        );
    }
    let folder = written(cx, ory_stand_in::PRODUCTS, "products")?;
    let main = folder.join("main.rs").display().to_string();
    let flags =
        ["--edition", "2024", "-C", "opt-level=1", "-C", "target-feature=+crt-static", "-o", &binary, &main];
    if process::find("rustc").is_none() {
        bail!(
            Failure::new(Exit::Missing, "stand-ins are compiled with rustc, which is not on the PATH")
                .hint("install Rust: https://rustup.rs; or use Ory's images: {XTASK} up")
        );
    }
    let compile = cx.engine.program("rustc").args(flags);
    compile.read().context("failed to compile the stand-in")?;
    let context = context.parent().context("a file has a folder")?;
    fs::copy(folder.join("Dockerfile"), context.join("Dockerfile"))
        .context("failed to copy the stand-in's Dockerfile")?;
    for product in left {
        let arguments = [format!("POSTGRES_IMAGE={base}"), format!("VERSION={release}")];
        let mut options = vec!["--target", product.name()];
        for argument in &arguments {
            options.extend(["--build-arg", argument]);
        }
        build_image(cx, context, &image(product, release), &stamp, &options)?;
    }
    Ok(())
}

/// Waits for another run that builds them too, in the same folder.
fn alone(cx: &Context) -> Result<FileLock> {
    let path = work_file(&cx.options, "locks/stand-in.lock")?;
    file_lock::take(&path, cx.options.lock_timeout, cx.out, &cx.options.interrupt)
}

fn build_image(cx: &Context, folder: &Path, image: &str, stamp: &str, arguments: &[&str]) -> Result<()> {
    let label = format!("{}={stamp}", ory_stack::container::STAND_IN_LABEL);
    let folder = folder.display().to_string();
    let command = cx.engine.docker(["build", "--quiet", "--tag", image, "--label", &label]);
    let command = command.args(arguments.iter().copied()).arg(folder).within(None);
    let built = command.read();
    built.with_context(|| format!("failed to build {image}"))?;
    Ok(())
}

fn is_built(cx: &Context, image: &str, stamp: &str) -> Result<bool> {
    Ok(cx.engine.images([image])?.first().is_some_and(|image| image.stand_in.as_deref() == Some(stamp)))
}

/// What an image is built from, as a label: another one is built when it changes.
fn stamp(sources: &[(&str, &str)], base: &str) -> String {
    let mut sum = digest::Sum::default();
    for text in sources.iter().flat_map(|(name, text)| [*name, *text]).chain([base]) {
        sum.add(format!("{}\n{text}", text.len()).as_bytes());
    }
    sum.finish()[..16].into()
}

/// The sources as files, in a folder of their own.
fn written(cx: &Context, sources: &[(&str, &str)], name: &str) -> Result<PathBuf> {
    let folder = work_file(&cx.options, &format!("stand-in/{name}/Dockerfile"))?.with_file_name("");
    // A file of an earlier release is no part of this one.
    fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    for (name, text) in sources {
        let path = folder.join(name);
        let write =
            fs::create_dir_all(path.parent().unwrap_or(&folder)).and_then(|()| fs::write(&path, text));
        write.with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(folder)
}

fn debian_suite() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_string())
    };
    match (value("ID").as_deref(), value("VERSION_CODENAME")) {
        (Some("debian"), Some(suite)) => Ok(suite),
        _ => {
            let message = "no PostgreSQL image can be pulled, and only a Debian host can make one";
            let hint = "load one with `docker load`, and name it in POSTGRES_IMAGE";
            bail!(Failure::new(Exit::Missing, message).hint(hint))
        }
    }
}

/// mmdebstrap, from the PATH or else taken out of its package, without installing anything.
fn mmdebstrap(cx: &Context) -> Result<PathBuf> {
    if let Some(found) = process::find("mmdebstrap") {
        return Ok(found);
    }
    let program = work_file(&cx.options, "stand-in/mmdebstrap/usr/bin/mmdebstrap")?;
    if program.exists() {
        return Ok(program);
    }
    let folder = work_file(&cx.options, "stand-in/package/mmdebstrap.deb")?;
    let folder = folder.parent().context("a file has a folder")?;
    let apt = |word: &str| Invocation::new("apt-get", folder).args(["-qq", word]);
    let download = || apt("download").arg("mmdebstrap").read();
    let unpack = || -> Result<()> {
        if download().is_err() {
            // The package lists may never have been loaded.
            apt("update").read()?;
            download()?;
        }
        let packages = fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let package = packages.filter(|path| path.extension().is_some_and(|e| e == "deb")).max();
        let package = package.context("apt-get downloaded nothing")?.display().to_string();
        let target = work_file(&cx.options, "stand-in/mmdebstrap/unpacked")?.with_file_name("");
        Invocation::new("dpkg-deb", folder)
            .args(["--extract", &package, &target.display().to_string()])
            .read()?;
        Ok(())
    };
    unpack().map_err(|error| {
        error.context(
            Failure::new(Exit::Missing, "mmdebstrap, which makes the PostgreSQL image, is missing")
                .hint("sudo apt-get install mmdebstrap"),
        )
    })?;
    Ok(program)
}
