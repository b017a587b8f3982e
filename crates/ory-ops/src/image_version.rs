//! What an image is: its program is asked `version`, once, and the answer is kept by the image's id. A name and a tag are
//! only what somebody calls it.

use std::time::Duration;

use ory_facts::product::Product;
use ory_runner::at_once::each;
use ory_stack::container::Image;
use ory_stack::random::random;
use ory_stack::stack::Stack;

use crate::engine::Engine;
use crate::folders::work_file;
use crate::options::Options;

/// How long a program may take to say its version. Something else may do whatever it does.
const WAIT: Duration = Duration::from_secs(20);

/// What stands for the version of what isn't Ory's.
const OTHER: &str = "-";

/// What an image says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The product, of this version: a release, or what somebody called a build of his own.
    Version(String),
    /// Something else.
    Other,
}

impl Identity {
    /// Reads what Ory's programs print: a version, and what it was built from.
    fn read(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_string())
        };
        let built = value("Build Commit").or(value("Git Hash"));
        match value("Version").filter(|_| built.is_some()) {
            Some(version) => Self::Version(version),
            None => Self::Other,
        }
    }
}

/// Takes out of the stack what only is called as a product of Ory's.
pub fn learn(engine: &Engine, options: &Options, stack: &mut Stack, images: &[Image]) {
    let claims = stack.claims().into_iter().filter_map(|(product, service)| {
        let image = images.iter().find(|image| Some(&image.name) == service.image.as_ref())?;
        let is_known = image.stand_in.is_some();
        (!is_known).then(|| (product, service.name.clone(), service.program(product), image))
    });
    let others = each(claims, |(product, service, program, image)| {
        let identity = of(engine, options, product, image, &program)?;
        (identity == Identity::Other).then_some((service, product))
    });
    others.into_iter().flatten().for_each(|(service, product)| stack.deny(&service, product));
}

/// What an image said before.
pub fn kept(options: &Options, product: Product, id: &str) -> Option<Identity> {
    let text = std::fs::read_to_string(work_file(options, &file(product, id)).ok()?).ok()?;
    let version = text.trim();
    Some(if version == OTHER { Identity::Other } else { Identity::Version(version.into()) })
}

fn file(product: Product, id: &str) -> String {
    format!("images/{product}-{id}.release")
}

/// What an image says, asked where that isn't kept. None where it can't be told now.
pub fn of(
    engine: &Engine,
    options: &Options,
    product: Product,
    image: &Image,
    program: &str,
) -> Option<Identity> {
    if let Some(identity) = kept(options, product, &image.id) {
        return Some(identity);
    }
    if options.dry_run {
        return None;
    }
    let identity = ask(engine, options, &format!("sha256:{}", image.id), program)?;
    let version = match &identity {
        Identity::Version(version) => version,
        Identity::Other => OTHER,
    };
    // It is asked again where it can't be kept.
    let _ = work_file(options, &file(product, &image.id))
        .map(|path| std::fs::write(path, format!("{version}\n")));
    Some(identity)
}

fn ask(engine: &Engine, options: &Options, id: &str, program: &str) -> Option<Identity> {
    let name = format!("xtask-version-{}", random(8).ok()?);
    let run = ["run", "--rm", "--name", &name, "--network", "none", "--entrypoint", program, id, "version"];
    let output = engine.docker(run).within(WAIT).output();
    match output {
        // 125: the engine itself failed. 126: the program can't be run here. 127: there is none.
        Ok(output) => match output.status.code() {
            Some(125 | 126) | None => None,
            Some(_) if String::from_utf8_lossy(&output.stderr).contains("exec format error") => None,
            Some(0) => Some(Identity::read(&String::from_utf8_lossy(&output.stdout))),
            Some(_) => Some(Identity::Other),
        },
        Err(_) => {
            let _ = engine.docker(["rm", "--force", &name]).read();
            // What takes so long to say its version isn't Ory's.
            options.interrupt.failure().is_none().then_some(Identity::Other)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_answers_as_ory_does_is_orys() {
        let kratos = "Version:\t\t\tv1.3.1\nBuild Commit:\tabc\nBuild Timestamp:\t2026-01-01\n";
        let hydra = "Version:    v2.2.0\nGit Hash:   abc\nBuild Time: 2026-01-01\n";
        assert_eq!(Identity::read(kratos), Identity::Version("v1.3.1".into()));
        assert_eq!(Identity::read(hydra), Identity::Version("v2.2.0".into()));
        for other in
            ["", "Hydra v9.5 (c) 2023 by van Hauser/THC\n", "kratos version v2.7.0\n", "Version: 1.0\n"]
        {
            assert_eq!(Identity::read(other), Identity::Other, "{other}");
        }
    }
}
