//! What differs between Kratos, Hydra and Keto, and what each says about itself.

/// The exit code of a failure that has been reported.
pub struct Exit(pub u8);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Product {
    Kratos,
    Hydra,
    Keto,
}

impl Product {
    /// The product that `program`, a path or a bare name, was started as.
    pub fn named(program: &str) -> Option<Self> {
        let name = program.rsplit('/').next().unwrap_or(program);
        [Self::Kratos, Self::Hydra, Self::Keto].into_iter().find(|product| product.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Kratos => "kratos",
            Self::Hydra => "hydra",
            Self::Keto => "keto",
        }
    }

    /// The name in logs.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kratos => "Ory Kratos",
            Self::Hydra => "Ory Hydra",
            Self::Keto => "Ory Keto",
        }
    }

    /// The ports of `serve`.
    pub fn ports(self) -> &'static [u16] {
        match self {
            Self::Kratos => &[4433, 4434],
            Self::Hydra => &[4444, 4445],
            Self::Keto => &[4466, 4467, 4468, 4469],
        }
    }

    /// Secrets that `serve` checks: the key under `secrets`, the shortest and the longest value.
    pub fn secrets(self) -> &'static [(&'static str, usize, usize)] {
        match self {
            Self::Kratos => &[("cipher", 32, 32), ("cookie", 16, usize::MAX), ("default", 16, usize::MAX)],
            Self::Hydra => &[("cookie", 16, usize::MAX), ("system", 16, usize::MAX)],
            Self::Keto => &[],
        }
    }

    fn failure(self) -> u8 {
        if self == Self::Keto { 255 } else { 1 }
    }
}

/// This run: a product, its release, and the command as typed.
pub struct Program {
    pub product: Product,
    pub version: String,
    command: String,
}

impl Program {
    pub fn new(product: Product, typed: &[String]) -> Self {
        let version = std::env::var("STAND_IN_VERSION").unwrap_or_else(|_| "v26.2.0".into());
        // A positional DSN is no part of the command, and mustn't be printed.
        let words = typed.iter().filter(|word| !word.contains("://"));
        let command = words.fold(product.name().to_owned(), |command, word| command + " " + word);
        Self { product, version, command }
    }

    /// Whether this release is `version` or newer.
    pub fn at_least(&self, version: &str) -> bool {
        numbers(&self.version) >= numbers(version)
    }

    /// Whether `migrate sql` has the subcommands `up` and `status`.
    pub fn has_status(&self) -> bool {
        match self.product {
            Product::Kratos => self.at_least("v25.4.0"),
            Product::Hydra => self.at_least("v2.3.0"),
            Product::Keto => true,
        }
    }

    pub fn version(&self) {
        let version = &self.version;
        if self.product == Product::Hydra {
            println!("Version:    {version}\nGit Hash:   stand-in\nBuild Time: 1970-01-01T00:00:00Z");
        } else {
            println!(
                "Version:\t\t\t{version}\nBuild Commit:\tstand-in\nBuild Timestamp:\t1970-01-01T00:00:00Z"
            );
        }
    }

    pub fn help(&self) {
        println!("{}", self.usage());
    }

    /// Ends a run that asked for nothing that exists.
    pub fn unknown_command(&self, word: &str) -> Exit {
        let name = self.product.name();
        let message = format!("unknown command \"{word}\" for \"{name}\"");
        self.report(&message, &format!("Run '{name} --help' for usage."))
    }

    /// Ends a run with `message`, as every command of Ory's ends.
    pub fn fail(&self, message: &str) -> Exit {
        self.report(message, &self.usage())
    }

    /// Ends a run whose failure has been printed.
    pub fn failed(&self) -> Exit {
        Exit(self.product.failure())
    }

    fn report(&self, message: &str, usage: &str) -> Exit {
        eprintln!("Error: {message}\n{usage}");
        if self.product == Product::Keto {
            println!("{message}");
        } else {
            eprintln!("{message}");
        }
        self.failed()
    }

    fn usage(&self) -> String {
        let command = &self.command;
        format!(
            "Usage:\n  {command} [flags]\n\nA stand-in for {}: it knows serve, version and migrate.\n",
            self.product.title()
        )
    }
}

/// `v25.4.0` as numbers that compare.
fn numbers(version: &str) -> Vec<u32> {
    let digits = version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
    digits.map_while(|part| part.parse().ok()).collect()
}
