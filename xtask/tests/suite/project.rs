//! What the tests share: a project in a folder of its own, and what a command printed and returned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use xshell::{Shell, TempDir};

/// A copy of a stack, in a temporary folder.
pub struct Project {
    pub dir: PathBuf,
    shell: Shell,
    _temporary: TempDir,
}

/// What a command ended with. Printed, it is compared whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Project {
    /// The recommended stacks as they are in the repository, without `.env`.
    pub fn new() -> Self {
        let project = Self::empty();
        let files = ["docker-compose.yml", "docker-compose.production.yml", ".env.example"];
        let folders = ["ory/kratos", "ory/hydra", "ory/keto", "secrets.example"];
        for part in files.iter().chain(&folders) {
            project.copy(&workspace().join(part), &project.dir.join(part));
        }
        project
    }

    /// A stack of somebody else: the folder `stacks/NAME`.
    pub fn of_others(name: &str) -> Self {
        let project = Self::empty();
        project.copy(&workspace().join("xtask/tests/suite/stacks").join(name), &project.dir);
        project
    }

    fn empty() -> Self {
        let shell = Shell::new().expect("a shell");
        let temporary = shell.create_temp_dir().expect("a temporary folder");
        Self { dir: temporary.path().join("stack"), shell, _temporary: temporary }
    }

    /// Copies a file, or a folder with all that is in it.
    fn copy(&self, from: &Path, to: &Path) {
        if from.is_dir() {
            self.shell.create_dir(to).expect("a folder");
            for entry in self.shell.read_dir(from).expect("a folder") {
                self.copy(&entry, &to.join(entry.file_name().expect("a name")));
            }
        } else {
            self.shell.create_dir(to.parent().expect("a folder")).expect("a folder");
            self.shell.copy_file(from, to).expect("a copy");
        }
    }

    /// Every file with its content, to be compared before and after.
    pub fn files(&self) -> BTreeMap<PathBuf, String> {
        let text = |path: &PathBuf| if path.is_dir() { String::new() } else { self.read_at(path) };
        self.paths().into_iter().map(|path| (path.clone(), text(&path))).collect()
    }

    /// Every file and folder.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            for path in self.shell.read_dir(&folder).expect("a folder") {
                folders.extend(path.is_dir().then(|| path.clone()));
                found.push(path);
            }
        }
        found
    }

    fn read_at(&self, path: &Path) -> String {
        self.shell.read_file(path).expect("a file")
    }

    pub fn read(&self, file: &str) -> String {
        self.read_at(&self.dir.join(file))
    }

    pub fn write(&self, file: &str, text: &str) {
        self.shell.write_file(self.dir.join(file), text).expect("a file written");
    }

    /// Changes a file; fails where there is nothing to change.
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "{file} has no {from}");
        self.write(file, &text.replace(from, to));
    }

    pub fn remove(&self, file: &str) {
        self.shell.remove_path(self.dir.join(file)).expect("a file removed");
    }

    /// A program of our own: a shell script.
    #[cfg(unix)]
    pub fn write_program(&self, file: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(file, script);
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.dir.join(file), executable).expect("an executable");
    }

    /// `cargo xtask` in this project, without a terminal, with nothing of the caller's settings.
    pub fn xtask(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_xtask"))
    }

    /// A program in this project, as [`Self::xtask`].
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let settings = ["COMPOSE_", "XTASK_", "KRATOS_", "HYDRA_", "KETO_", "GITHUB_"];
            if settings.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.env_remove("CI");
        command.current_dir(&self.dir).env("XTASK_DIRECTORY", &self.dir).stdin(Stdio::null());
        command
    }
}

/// Runs a command to its end.
pub fn outcome(command: &mut Command) -> Outcome {
    Outcome::of(command.output().expect("the command starts"))
}

/// Runs a command that has a terminal to its end, and answers its prompts in order.
#[cfg(target_os = "linux")]
pub fn answered(command: &mut Command, answers: &[(&str, String)]) -> Outcome {
    use std::io::{Read, Write};
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script starts");
    let (mut input, mut output) = (child.stdin.take().expect("input"), child.stdout.take().expect("output"));
    let (mut seen, mut byte) = (Vec::new(), [0]);
    let mut left = answers.iter();
    let mut next = left.next();
    while output.read(&mut byte).expect("output") == 1 {
        seen.push(byte[0]);
        let ends = |prompt: &str| String::from_utf8_lossy(&seen).contains(prompt) && seen.ends_with(b" ");
        if let Some((_, answer)) = next.filter(|(prompt, _)| ends(prompt)) {
            input.write_all(answer.as_bytes()).expect("an answer");
            next = left.next();
        }
    }
    assert!(next.is_none(), "it did not ask: {}", String::from_utf8_lossy(&seen));
    let code = child.wait().expect("an end").code();
    Outcome { code, stdout: String::from_utf8_lossy(&seen).into_owned(), stderr: String::new() }
}

pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

impl Outcome {
    /// What a command ended with, but for the lines that tell of a wait from five seconds on.
    pub fn of(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines = stderr.split_inclusive('\n').filter(|line| !line.ends_with(" ...\n"));
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: lines.collect(),
        }
    }

    /// Fails unless the command ended with this code; shows all it printed.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails unless standard error has this text; shows all it printed.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "it doesn't say: {text}\n{self}");
        self
    }

    /// Fails if anything printed has this text.
    #[track_caller]
    pub fn hides(self, text: &str) -> Self {
        assert!(!self.to_string().contains(text), "it shows: {text}\n{self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        writeln!(f, "exit {}", self.code.map_or("by a signal".to_string(), |code| code.to_string()))?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "--- {name}\n{text}")?;
            }
        }
        Ok(())
    }
}

/// Compares an outcome whole with `golden/NAME.txt`; UPDATE_GOLDEN=1 writes it instead.
#[track_caller]
pub fn golden(name: &str, outcome: &Outcome) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/suite/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, outcome.to_string()).expect("a golden file written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(outcome.to_string(), expected, "{name} differs from its golden file");
}
