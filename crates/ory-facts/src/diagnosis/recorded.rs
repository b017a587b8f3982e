//! Every cause on what real servers, psql and Docker printed: `tests/recorded`. The first line of a file names the
//! cause, what was run, and how it ended; lines with `? ` are what the database said afterwards.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::secrets::Secrets;

/// Causes whose text is that of the sources or the manuals: nothing here provokes them.
const NOT_RECORDED: [&str; 11] = [
    "client-too-old",
    "configuration-invalid",
    "duplicates",
    "external-network",
    "external-volume",
    "let-in",
    "networks-used-up",
    "no-space",
    "pull-limit",
    "right",
    "volume-rights",
];

struct Recorded {
    name: String,
    id: String,
    speaker: Speaker,
    exit: Option<i64>,
    evidence: Evidence,
    text: String,
}

fn all() -> Vec<Recorded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.map(|path| read(&path)).collect()
}

fn read(path: &Path) -> Recorded {
    let text = std::fs::read_to_string(path).expect("a text");
    let (first, rest) = text.split_once('\n').expect("a first line");
    let (id, run) = first.split_once(": ").expect("a cause");
    let program = run.split(' ').next().expect("a program");
    let speaker = match program {
        "docker" => Speaker::Engine,
        "postgres" => Speaker::Database,
        "psql" => Speaker::Product(Product::Kratos),
        name => Speaker::Product(Product::named(name).expect("a product")),
    };
    let (said, text): (Vec<_>, Vec<_>) = rest.lines().partition(|line| line.starts_with("? "));
    let said: Vec<_> = said.iter().filter_map(|line| line.strip_prefix("? ")).collect();
    Recorded {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        id: id.into(),
        speaker,
        exit: run.rsplit_once("exit ").and_then(|(_, code)| code.parse().ok()),
        evidence: Evidence::read(&said.join("\n")),
        text: text.join("\n"),
    }
}

impl Recorded {
    fn failed(&self) -> Failed<'_> {
        Failed { speaker: self.speaker, exit: self.exit, text: &self.text }
    }

    /// The rows that fit some line.
    fn rows(&self) -> Vec<&'static Row> {
        let table = tables(self.speaker);
        let rows = |line| fitting(table.iter().copied().flatten(), line).map(|(row, _)| row);
        self.text.lines().flat_map(rows).collect()
    }
}

#[test]
fn each_recorded_failure_has_its_cause() {
    for recorded in all() {
        let cause = cause(&recorded.failed(), || recorded.evidence.clone());
        let cause = cause.unwrap_or_else(|| panic!("{} has no cause", recorded.name));
        assert_eq!(cause.id, recorded.id, "{}: {}", recorded.name, cause.message);
        let left = |text: &str| text.contains("{1}") || text.contains("{version}") || text.contains("{}");
        assert!(!left(&cause.message) && !left(&cause.hint), "{}: {cause:?}", recorded.name);
    }
}

/// A line as a server prints it in a language that nobody here reads: names and the code are the same, the words aren't.
fn translated(line: &str) -> String {
    let Some(end) = line.find("(SQLSTATE ") else { return line.into() };
    let begin = ["ERROR: ", "FATAL: "].iter().find_map(|word| Some(line[..end].rfind(word)? + word.len()));
    let Some(begin) = begin else { return line.into() };
    let mut is_name = false;
    let words = line[begin..end].split('"').map(|part| {
        is_name = !is_name;
        if is_name {
            "mots ".repeat(part.split_whitespace().count())
        } else {
            format!("\u{ab} {part} \u{bb}")
        }
    });
    format!("{}{}{}", &line[..begin], words.collect::<String>(), &line[end..])
}

#[test]
fn each_failure_of_the_database_has_its_cause_in_another_language_too() {
    let mut others = BTreeSet::new();
    for recorded in all().into_iter().filter(|recorded| recorded.text.contains("(SQLSTATE ")) {
        let text = recorded.text.lines().map(translated).collect::<Vec<_>>().join("\n");
        let failed = Failed { text: &text, ..recorded.failed() };
        let cause = cause(&failed, || recorded.evidence.clone());
        let id = cause.map_or("none", |cause| cause.id);
        if id != recorded.id {
            others.insert(format!("{} {id}", recorded.id));
        }
    }
    // What only its words tell apart has a cause of a wider sense.
    let wider = [
        "connect-right right",
        "extension-right right",
        "login let-in",
        "password let-in",
        "pg_hba let-in",
        "schema-right right",
    ];
    assert_eq!(others.iter().map(String::as_str).collect::<Vec<_>>(), wider);
}

/// Rows that only what the database says can tell apart have the same patterns.
#[test]
fn no_recorded_failure_fits_the_text_of_another_cause() {
    for recorded in all() {
        let rows = recorded.rows();
        let own: Vec<_> = rows.iter().filter(|row| row.id == recorded.id).map(|row| row.any).collect();
        for row in rows.iter().filter(|row| row.when.is_none() && row.id != recorded.id) {
            assert!(own.contains(&row.any), "{} is {}, and fits {}", recorded.name, recorded.id, row.id);
        }
    }
}

#[test]
fn each_cause_was_recorded_or_is_said_not_to_be() {
    let recorded: BTreeSet<_> = all().into_iter().map(|recorded| recorded.id).collect();
    for row in every_row().filter(|row| !NOT_RECORDED.contains(&row.id)) {
        assert!(recorded.contains(row.id), "{} has no recorded text", row.id);
    }
}

#[test]
fn no_recorded_failure_shows_a_password() {
    for recorded in all() {
        let masked: Vec<_> = recorded.text.lines().map(|line| Secrets::default().mask(line)).collect();
        assert!(!masked.join("\n").contains("geheim"), "{}: {}", recorded.name, masked.join("\n"));
    }
}

#[test]
fn what_of_a_recorded_failure_is_shown_fits_a_screen() {
    for recorded in all() {
        let lines = error_lines(&recorded.text).lines().count();
        assert!(lines <= 6, "{}: {lines}", recorded.name);
    }
}

#[test]
fn a_message_is_lower_case_and_names_only_what_is_known() {
    let of_a_row =
        ["1", "2", "3", "4", "version", "address", "owner", "other", "products", "setting", "alter"];
    for row in every_row() {
        for text in [row.message, row.hint] {
            assert!(!text.ends_with('.') && !text.starts_with(char::is_uppercase), "{text}");
            for word in text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(word, _)| word)
            {
                let is_known = word == "XTASK"
                    || WORDS.contains(&word.trim_end_matches(":name"))
                    || of_a_row.contains(&word)
                    || word.contains(' ');
                assert!(is_known, "{}: {word}", row.id);
            }
        }
    }
}

fn every_row() -> impl Iterator<Item = &'static Row> {
    let speakers = [Speaker::Product(Product::Kratos), Speaker::Engine, Speaker::Database];
    speakers.into_iter().flat_map(|s| tables(s).into_iter().chain(last_resorts(s))).flatten()
}
