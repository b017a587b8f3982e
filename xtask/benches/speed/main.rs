//! How fast `cargo xtask` is, against the commands that it replaces, on a real engine: docs/speed.md.
//!
//! Both sides are measured in turns, on a stack of the benchmark's own. The arguments are parts of rows'
//! names; XTASK_BENCH_REPETITIONS says how often each side runs, XTASK_TEST_IMAGES=real takes Ory's images.

// What the tests know of a stack is more than is needed here.
#[allow(dead_code)]
#[path = "../../tests/suite/project.rs"]
mod project;
mod side;
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../../tests/suite/stack.rs"]
mod stack;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use project::{outcome, workspace};
use side::Side;
use stack::{Compose, is_real};

const PRODUCTS: [&str; 3] = ["kratos", "hydra", "keto"];
const RUNS: [&str; 3] = [
    "run --rm kratos migrate sql -e --yes",
    "run --rm hydra migrate sql -e --yes",
    "run --rm keto migrate up --yes -c /etc/config/keto/keto.yml",
];
const STATUS_RUNS: [&str; 3] = [
    "run --rm kratos migrate sql status -e",
    "run --rm hydra migrate sql status -e",
    "run --rm keto migrate status -c /etc/config/keto/keto.yml",
];

fn main() {
    let filter: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let repetitions = std::env::var("XTASK_BENCH_REPETITIONS").ok().and_then(|text| text.parse().ok());
    let bench = Bench { filter, repetitions: repetitions.unwrap_or(5) };
    print_machine();
    println!(
        "\n| work | xtask, min / median | without, min / median | ratio of medians | at most | reached |"
    );
    println!("|-|-|-|-|-|-|");
    bench.everyday(Compose::V2);
    bench.everyday(Compose::V1);
    bench.first_time();
    bench.backup();
    bench.builds();
    bench.growth();
}

/// What is measured, and how often.
struct Bench {
    filter: Vec<String>,
    repetitions: usize,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|part| name.contains(part.as_str()))
    }

    /// Measures both sides in turns, and prints the row.
    fn row(
        &self,
        name: &str,
        at_most: f64,
        mut ours: impl FnMut() -> Duration,
        mut theirs: impl FnMut() -> Duration,
    ) {
        if !self.wants(name) {
            return;
        }
        let (mut our_times, mut their_times) = (vec![], vec![]);
        for _ in 0..self.repetitions {
            our_times.push(ours());
            their_times.push(theirs());
        }
        let ratio = median(&mut our_times).as_secs_f64() / median(&mut their_times).as_secs_f64();
        let reached = if ratio <= at_most { "yes" } else { "no" };
        let (ours, theirs) = (min_and_median(our_times), min_and_median(their_times));
        println!("| {name} | {ours} | {theirs} | {ratio:.2} | {at_most:.2} | {reached} |");
    }

    /// What runs every day, with nothing to do: the stack is up and migrated.
    fn everyday(&self, compose: Compose) {
        let rows = match compose {
            Compose::V1 => vec!["migrate-all, nothing pending, docker-compose 1.29"],
            Compose::V2 => {
                vec!["migrate-all, nothing pending", "up, everything up", "restart until ready", "status"]
            }
        };
        if !rows.iter().any(|name| self.wants(name)) {
            return;
        }
        let stack = Side::new(compose);
        let migrate = || timed(|| stack.xtask("migrate-all"));
        let runs = || timed(|| RUNS.iter().for_each(|run| stack.compose(run)));
        if let Compose::V1 = compose {
            return self.row(rows[0], 0.5, migrate, runs);
        }
        self.row(rows[0], 0.15, migrate, runs);
        self.row(
            rows[1],
            0.2,
            || timed(|| stack.xtask("up")),
            || timed(|| ["up -d"].iter().chain(&RUNS).for_each(|command| stack.compose(command))),
        );
        self.row(
            rows[2],
            1.0,
            || timed(|| stack.until_ready(|| stack.xtask("restart"))),
            || timed(|| stack.until_ready(|| stack.compose("restart kratos hydra keto"))),
        );
        self.row(
            rows[3],
            0.15,
            || timed(|| stack.xtask("status")),
            || timed(|| STATUS_RUNS.iter().for_each(|run| stack.compose(run))),
        );
    }

    /// What starts from nothing. What the images carry isn't known yet.
    fn first_time(&self) {
        let names = ["first migrate-all", "fresh up until ready"];
        if !names.iter().any(|name| self.wants(name)) {
            return;
        }
        let stack = Side::new(Compose::V2);
        stack.compose("stop kratos hydra keto");
        self.row(
            names[0],
            0.95,
            || {
                stack.empty_databases();
                forget_images();
                timed(|| stack.xtask("migrate-all"))
            },
            || {
                stack.empty_databases();
                timed(|| RUNS.iter().for_each(|run| stack.compose(run)))
            },
        );
        self.row(
            names[1],
            0.8,
            || {
                stack.compose("down --volumes");
                forget_images();
                timed(|| stack.until_ready(|| stack.xtask("up")))
            },
            || {
                stack.compose("down --volumes");
                let server = timed(|| {
                    stack.compose("up -d db");
                    stack.wait_for_server();
                });
                // Not counted: the commands that are replaced didn't create databases.
                stack.create_databases();
                let rest = || RUNS.iter().chain(&["up -d"]).for_each(|command| stack.compose(command));
                server + timed(|| stack.until_ready(rest))
            },
        );
    }

    /// A large database, of rows that compress to about half, as tokens and JSON do.
    fn backup(&self) {
        let name = "backup, 500 MB";
        if !self.wants(name) {
            return;
        }
        let side = Side::new(Compose::V2);
        let text = (0..16).map(|part| format!("md5((n + {part}000000)::text)")).collect::<Vec<_>>();
        let rows = format!("select n, {} from generate_series(1, 850000) n", text.join(" || "));
        side.stack.sql("kratos", &format!("create table filler as {rows}"));
        side.stack.sql("kratos", "alter table filler owner to kratos; analyze; checkpoint");
        let size = side.stack.sql("kratos", "select pg_size_pretty(pg_database_size('kratos'))");
        println!("the database of 500 MB has {}", size.trim());
        let raw = "docker compose exec -T db pg_dump -U postgres -Fc kratos > raw.dump";
        self.row(
            name,
            1.15,
            || {
                let time = timed(|| side.xtask("backup kratos"));
                std::fs::remove_dir_all(side.stack.project.dir.join("backups")).expect("a backup");
                time
            },
            || timed(|| run(side.stack.project.command("sh").args(["-c", raw]))),
        );
    }

    /// The program itself: how long it takes to be built, and to be started.
    fn builds(&self) {
        let names = ["cold build", "cargo xtask --help"];
        if !names.iter().any(|name| self.wants(name)) {
            return;
        }
        let shell = xshell::Shell::new().expect("a shell");
        let folder = shell.create_temp_dir().expect("a temporary folder");
        let packages = "anyhow = \"1\"\nclap = { version = \"4.5\", features = [\"derive\"] }\nduct = \"1\"\n\
                        which = \"8\"\nxshell = \"0.2.7\"\n";
        let card = small_crate(&folder.path().join("card"), packages);
        let empty = small_crate(&folder.path().join("empty"), "");
        let target = folder.path().join("target");
        let cold = |folder: &Path, package: &str| {
            _ = std::fs::remove_dir_all(&target);
            let build = ["build", "--quiet", "--offline", "--profile", "xtask", "--package", package];
            let mut command = cargo(folder, &build);
            timed(|| run(command.arg("--target-dir").arg(&target)))
        };
        let few = Self { filter: self.filter.clone(), repetitions: self.repetitions.min(3) };
        few.row(names[0], 2.0, || cold(workspace(), "xtask"), || cold(&card, "small"));
        let start = ["run", "--quiet", "--offline", "--profile", "xtask"];
        if self.wants(names[1]) {
            run(&mut cargo(&empty, &start));
        }
        let help = || timed(|| run(&mut cargo(workspace(), &["xtask", "--help"])));
        self.row(names[1], 1.5, help, || timed(|| run(&mut cargo(&empty, &start))));
    }

    /// Nothing pending and `status`, with more versions and with a bigger database.
    fn growth(&self) {
        if !self.wants("growth") {
            return;
        }
        let stack = Side::new(Compose::V2);
        println!("\n| growth | migrate-all, min / median | status, min / median |\n|-|-|-|");
        let line = |name: &str| {
            let [mut migrate, mut status] = [vec![], vec![]];
            for _ in 0..self.repetitions {
                migrate.push(timed(|| stack.xtask("migrate-all")));
                status.push(timed(|| stack.xtask("status")));
            }
            println!("| {name} | {} | {} |", min_and_median(migrate), min_and_median(status));
        };
        line("as released");
        for versions in [20, 340, 2000] {
            PRODUCTS.iter().for_each(|product| stack.pretend_versions(product, versions));
            line(&format!("{versions} versions of each product"));
        }
        let filler =
            "create table filler as select n, repeat(md5(n::text), 30) from generate_series(1, 1000000) n";
        stack.stack.sql("kratos", filler);
        let size = stack.stack.sql("kratos", "select pg_size_pretty(pg_database_size('kratos'))");
        line(&format!("the same, Kratos's database of {}", size.trim()));
        forget_images();
    }
}

/// Where xtask keeps what it knows of images.
fn images_folder() -> PathBuf {
    workspace().join("target/ory/images")
}

fn forget_images() {
    _ = std::fs::remove_dir_all(images_folder());
}

/// A crate in a folder of its own that needs these packages, of the versions that xtask is locked to.
fn small_crate(folder: &Path, packages: &str) -> PathBuf {
    let manifest =
        format!("[package]\nname = \"small\"\nedition = \"2024\"\n[dependencies]\n{packages}[workspace]\n");
    for (file, text) in [("Cargo.toml", manifest.as_str()), ("src/main.rs", "fn main() {}\n")] {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder made");
        std::fs::write(path, text).expect("a file written");
    }
    std::fs::create_dir_all(folder.join(".cargo")).expect("a folder made");
    for file in ["Cargo.lock", ".cargo/config.toml"] {
        std::fs::copy(workspace().join(file), folder.join(file)).expect("a file copied");
    }
    folder.into()
}

fn cargo(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(folder).args(args).stdin(Stdio::null());
    command
}

/// Runs a command that must end well.
fn run(command: &mut Command) {
    outcome(command).exits(0);
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn min_and_median(mut times: Vec<Duration>) -> String {
    let median = median(&mut times).as_secs_f64();
    format!("{:.3} / {median:.3} s", times[0].as_secs_f64())
}

fn print_machine() {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let said =
        |program: &str, args: &[&str]| outcome(Command::new(program).args(args)).stdout.trim().to_string();
    println!(
        "{cores} cores, {} GB of memory; {}",
        memory >> 20,
        if is_real() { "Ory's images" } else { "stand-ins" }
    );
    println!("engine {}", said("docker", &["version", "--format", "{{.Server.Version}}"]));
    println!(
        "Compose {}, {}",
        said("docker", &["compose", "version", "--short"]),
        said("docker-compose", &["version", "--short"])
    );
    println!("{}, {}", said("rustc", &["--version"]), said("cargo", &["--version"]));
}
