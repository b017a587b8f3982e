//! The command line: words and flags in any order, as Ory's command line library takes them.

use crate::product::Product;

#[derive(Default)]
pub struct Arguments {
    /// Everything that is no flag: the command, then a DSN.
    pub words: Vec<String>,
    pub configs: Vec<String>,
    pub format: String,
    pub read_from_env: bool,
    pub yes: bool,
    pub block: bool,
    pub help: bool,
    /// What couldn't be understood; reported later, because the real ones print other lines first.
    pub error: Option<String>,
}

impl Arguments {
    pub fn parse(product: Product, typed: &[String]) -> Self {
        let mut arguments = Self::default();
        let mut rest = typed.iter();
        while let Some(word) = rest.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) =
                    long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                if !arguments.flag(product, name, value, &mut rest) {
                    arguments.error.get_or_insert(format!("unknown flag: --{name}"));
                }
            } else if word.len() > 1 && word.starts_with('-') {
                arguments.letters(product, word, &mut rest);
            } else {
                arguments.words.push(word.clone());
            }
        }
        arguments
    }

    /// The word at `place`, or nothing.
    pub fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }

    /// `-ey`, `-c FILE`, `-cFILE`, `-c=FILE`.
    fn letters(&mut self, product: Product, word: &str, rest: &mut std::slice::Iter<'_, String>) {
        for (place, letter) in word.char_indices().skip(1) {
            let name = match letter {
                'c' => "config",
                'e' => "read-from-env",
                'h' => "help",
                'q' => "quiet",
                'y' => "yes",
                _ => "",
            };
            let attached = word.get(place + 1..).map(|value| value.strip_prefix('=').unwrap_or(value));
            let value = attached.filter(|value| name == "config" && !value.is_empty());
            if !self.flag(product, name, value, rest) {
                self.error.get_or_insert(format!("unknown shorthand flag: '{letter}' in {word}"));
            }
            if name == "config" {
                return;
            }
        }
    }

    /// Takes one flag; false if there is no such flag.
    fn flag(
        &mut self,
        product: Product,
        name: &str,
        value: Option<&str>,
        rest: &mut std::slice::Iter<'_, String>,
    ) -> bool {
        let on = value.is_none_or(|value| value == "true");
        match name {
            "config" | "format" => {
                let Some(value) = value.or_else(|| rest.next().map(String::as_str)) else {
                    self.error.get_or_insert(format!("flag needs an argument: --{name}"));
                    return true;
                };
                if name == "config" {
                    self.configs.extend(value.split(',').map(str::to_owned));
                } else {
                    self.format = value.to_owned();
                }
            }
            "read-from-env" if product != Product::Keto => self.read_from_env = on,
            "yes" => self.yes = on,
            "block" => self.block = on,
            "help" => self.help = on,
            "dev" | "quiet" | "sqa-opt-out" | "watch-courier" => {}
            _ => return false,
        }
        true
    }
}
