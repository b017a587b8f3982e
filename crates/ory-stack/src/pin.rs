//! Where the stack's files say which image a service has, or where a volume of it is mounted: a variable, set in `.env`, or
//! a literal in a Compose file. Either is changed in its one place, and every other byte of the file stays as it is.
//!
//! What is found here is a proposal: whether Compose takes it as meant, Compose tells.

use std::ops::Range;
use std::path::{Path, PathBuf};

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

/// The place of a scalar in a Compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    pub file: PathBuf,
    /// Its bytes in the file's text, without quotes.
    pub place: Range<usize>,
    /// What stands there.
    pub text: String,
}

impl Scalar {
    /// The text of its file with another value there.
    pub fn replaced(&self, text: &str, value: &str) -> Option<String> {
        let (before, rest) = text.split_at_checked(self.place.start)?;
        let after = rest.strip_prefix(&self.text)?;
        Some(format!("{before}{value}{after}"))
    }

    /// The variables that it names, in order.
    pub fn variables(&self) -> Vec<&str> {
        let mut names = vec![];
        for part in self.text.replace("$$", "").split('$').skip(1) {
            let part = part.strip_prefix('{').unwrap_or(part);
            let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
            // Borrowed from the text itself.
            if let Some(start) = self.text.find(&part[..end]).filter(|_| end > 0) {
                names.push(&self.text[start..start + end]);
            }
        }
        names
    }

    /// The line that it is on, counted from 1.
    pub fn line(&self, text: &str) -> usize {
        text.get(..self.place.start).unwrap_or_default().lines().count().max(1)
    }
}

/// The scalar at a path of keys in a Compose file, such as `services`, `kratos`, `image`; the key of an item of a list is
/// its number. Nothing where it comes by an alias or a merge: it stands for others there too.
pub fn scalar_at(file: &Path, text: &str, path: &[&str]) -> Option<Scalar> {
    let mut search = Search { path, depth: vec![], found: vec![] };
    Parser::new(text.chars()).load(&mut search, false).ok()?;
    let [(index, value)] = &search.found[..] else { return None };
    // The marker counts characters.
    let start = text.char_indices().nth(*index).map(|(at, _)| at)?;
    let quoted = text[start..].starts_with(['"', '\'']);
    let start = start + usize::from(quoted);
    // What is written with escapes, or over several lines, isn't found.
    text[start..].starts_with(value.as_str()).then(|| Scalar {
        file: file.into(),
        place: start..start + value.len(),
        text: value.clone(),
    })
}

/// Walks through a document, and remembers the scalars at a path.
struct Search<'a> {
    path: &'a [&'a str],
    /// Each collection that is open.
    depth: Vec<Level>,
    found: Vec<(usize, String)>,
}

/// A collection on the way: what comes next in it, and whether that is on the path.
enum Level {
    /// A mapping; between a key and its value, whether the key is the path's.
    Mapping(Option<bool>),
    /// A list, and the number of its next item.
    List(usize),
}

impl Search<'_> {
    /// Whether what comes is a value at the end of the path.
    fn is_there(&self) -> bool {
        let is_on_path = |(level, wanted): (&Level, &&str)| match level {
            Level::Mapping(key) => *key == Some(true),
            Level::List(next) => next.to_string() == **wanted,
        };
        self.depth.len() == self.path.len() && self.depth.iter().zip(self.path).all(is_on_path)
    }

    /// Whether the next thing is a key; otherwise a value has come.
    fn takes_key(&mut self) -> bool {
        match self.depth.last_mut() {
            Some(Level::Mapping(key)) if key.is_none() => return true,
            Some(Level::Mapping(key)) => *key = None,
            Some(Level::List(next)) => *next += 1,
            None => {}
        }
        false
    }
}

impl MarkedEventReceiver for Search<'_> {
    fn on_event(&mut self, event: Event, mark: Marker) {
        match event {
            Event::Scalar(value, ..) => {
                let is_there = self.is_there();
                let level = self.depth.len();
                if self.takes_key() {
                    let is_on_path = self.path.get(level.wrapping_sub(1)) == Some(&value.as_str());
                    if let Some(Level::Mapping(key)) = self.depth.last_mut() {
                        *key = Some(is_on_path);
                    }
                } else if is_there {
                    self.found.push((mark.index(), value));
                }
            }
            Event::Alias(_) => _ = self.takes_key(),
            Event::MappingStart(..) => self.depth.push(Level::Mapping(None)),
            Event::SequenceStart(..) => self.depth.push(Level::List(0)),
            Event::MappingEnd | Event::SequenceEnd => {
                self.depth.pop();
                self.takes_key();
            }
            _ => {}
        }
    }
}

/// The text of an env file in which a variable has another value: on the line that sets it, of two on the later one, which
/// counts; where there is none, on a new line at the end. None where the line has it otherwise than plainly.
pub fn set_variable(text: &str, name: &str, old: &str, value: &str) -> Option<String> {
    let is_its = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let Some(at) = lines.iter().rposition(|line| is_its(line)) else {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return Some(format!("{text}{end}{name}={value}\n"));
    };
    let (key, rest) = lines[at].split_once('=')?;
    let start = rest.find(old).filter(|_| !old.is_empty())?;
    // Before it may be a quote, and nothing else.
    let is_plain = rest[..start].trim().trim_matches(['"', '\'']).is_empty();
    let line = format!("{key}={}{value}{}", &rest[..start], &rest[start + old.len()..]);
    is_plain.then(|| [lines[..at].concat(), line, lines[at + 1..].concat()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# é\nservices:\n  kratos: # the image: below\n    image: \"oryd/kratos:v25.4.0\"  # pinned\n    \
                        build: {image: no}\n    labels: [image, a]\n  hydra:\n    image: oryd/hydra:${TAG:-v2.2.0}\n  keto: \
                        &k\n    image: 'oryd/keto:v1'\n  again: *k\n  merged: {<<: *k}\nx: {services: {kratos: {image: a}}}\n";

    fn found(service: &str) -> Option<Scalar> {
        scalar_at(Path::new("compose.yml"), FILE, &["services", service, "image"])
    }

    #[test]
    fn an_image_is_found_where_its_service_says_it_and_only_there() {
        let kratos = found("kratos").expect("a place");
        assert_eq!(kratos.text, "oryd/kratos:v25.4.0");
        assert_eq!(kratos.line(FILE), 4);
        assert_eq!(found("keto").expect("a place").text, "oryd/keto:v1");
        assert_eq!(found("again"), None, "an alias stands for another");
        assert_eq!(found("merged"), None);
        assert_eq!(found("other"), None);
    }

    #[test]
    fn an_item_of_a_list_is_found_by_its_number() {
        let file = "services:\n  db:\n    volumes:\n      - [x, y]\n      - 'db:/data' # é\n      - type: volume\n        target: \
                    /other\n  b: {volumes: ['x:/y', 'z:/w']}\n";
        let at = |service: &str, rest: &[&str]| {
            let path = [&["services", service, "volumes"], rest].concat();
            scalar_at(Path::new("compose.yml"), file, &path).map(|scalar| scalar.text)
        };
        assert_eq!(at("db", &["1"]).as_deref(), Some("db:/data"));
        assert_eq!(at("db", &["2", "target"]).as_deref(), Some("/other"));
        assert_eq!(at("b", &["1"]).as_deref(), Some("z:/w"));
        assert_eq!((at("db", &["0"]), at("db", &["3"]), at("b", &["2"])), (None, None, None));
    }

    #[test]
    fn another_image_leaves_every_other_byte() {
        let kratos = found("kratos").expect("a place");
        let changed = kratos.replaced(FILE, "oryd/kratos:v26.2.0").expect("a text");
        assert_eq!(changed, FILE.replace("kratos:v25.4.0", "kratos:v26.2.0"));
        assert_eq!(kratos.replaced("another text", "x"), None);
    }

    #[test]
    fn the_variables_of_an_image_are_known() {
        let scalar = |text: &str| Scalar { file: "f".into(), place: 0..text.len(), text: text.into() };
        assert_eq!(found("hydra").expect("a place").variables(), ["TAG"]);
        assert_eq!(scalar("$REGISTRY/kratos:${TAG}").variables(), ["REGISTRY", "TAG"]);
        assert_eq!(scalar("${KRATOS_IMAGE:-oryd/kratos:v26.2.0}").variables(), ["KRATOS_IMAGE"]);
        assert!(scalar("a$$b").variables().is_empty());
    }

    #[test]
    fn a_variable_is_set_on_its_line_or_on_a_new_one() {
        let set = |text: &str| set_variable(text, "TAG", "v1", "v2");
        assert_eq!(set("A=1\nTAG=v1 # note\nB=2\n").as_deref(), Some("A=1\nTAG=v2 # note\nB=2\n"));
        assert_eq!(set("export TAG=\"v1\"\n").as_deref(), Some("export TAG=\"v2\"\n"));
        assert_eq!(set("TAG=v0\nTAG=v1").as_deref(), Some("TAG=v0\nTAG=v2"));
        assert_eq!(set("A=1").as_deref(), Some("A=1\nTAG=v2\n"));
        assert_eq!(set("").as_deref(), Some("TAG=v2\n"));
        assert_eq!(set("TAG=${OTHER}\n"), None, "it has its value from elsewhere");
        assert_eq!(set("TAG=x${OTHER}v1\n"), None);
        assert_eq!(set("TAGS=v1\n").as_deref(), Some("TAGS=v1\nTAG=v2\n"));
    }
}
