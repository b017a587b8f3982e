//! Every process that xtask starts: a command line that can be printed, captured or streamed.

use std::ffi::OsString;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::at_once::work;
pub use crate::command_error::CommandError;
use crate::failure::{Exit, Failure};
use crate::interrupt::TICK;
use crate::plain_file;
use crate::terms::{Afterwards, Reading, Terms};
use ory_facts::secrets::Secrets;

/// A command line as data. Printed, it can be pasted into a shell; the environment isn't printed, so
/// secrets travel there or on standard input.
#[derive(Debug, Clone)]
pub struct Invocation {
    program: OsString,
    args: Vec<String>,
    env: Vec<(String, String)>,
    dir: PathBuf,
    stdin: Input,
    /// What it reads first.
    opening: String,
    /// What stands before and after each request.
    frame: [String; 2],
    /// What an error calls it, where the command line is long and says little.
    name: Option<String>,
    terms: Terms,
}

/// What a program reads.
#[derive(Debug, Clone)]
enum Input {
    Text(String),
    File(PathBuf),
}

/// How long a program that was asked to end may take to do so.
#[cfg(unix)]
const GRACE: Duration = Duration::from_secs(3);

/// Finds a program on the PATH, so that the error can name the one that is missing.
pub fn find(program: &str) -> Option<PathBuf> {
    which::which(program).ok()
}

impl Invocation {
    /// A command to run in a folder. Standard input is empty unless [`Invocation::stdin`] says otherwise.
    pub fn new(program: impl Into<OsString>, dir: &Path) -> Self {
        Self {
            program: program.into(),
            args: vec![],
            env: vec![],
            dir: dir.into(),
            stdin: Input::Text(String::new()),
            opening: String::new(),
            frame: Default::default(),
            name: None,
            terms: Terms::default(),
        }
    }

    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.args.push(arg.into());
        }
        self
    }

    /// An option, once with each of these values.
    pub fn options<S: Into<String>>(mut self, option: &str, values: impl IntoIterator<Item = S>) -> Self {
        for value in values {
            self.args.extend([option.to_string(), value.into()]);
        }
        self
    }

    pub fn envs(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env.extend(env);
        self
    }

    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = Input::Text(text.into());
        self
    }

    /// What goes in first on standard input, whoever sets that later, after what was to go in first before.
    pub fn opens_with(mut self, text: impl AsRef<str>) -> Self {
        self.opening += text.as_ref();
        self
    }

    /// What stands before and after each request that goes in, likewise.
    pub fn framed(mut self, frame: [String; 2]) -> Self {
        self.frame = frame;
        self
    }

    pub(crate) fn opening(&self) -> &str {
        &self.opening
    }

    /// A request as it goes in.
    pub(crate) fn in_frame(&self, text: &str) -> String {
        let [before, after] = &self.frame;
        format!("{before}{text}{after}")
    }

    /// A file as standard input, for a command that has limits.
    pub fn stdin_file(mut self, path: &Path) -> Self {
        self.stdin = Input::File(path.into());
        self
    }

    /// What an error calls this command instead of its command line.
    pub fn called(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Starts it on these terms.
    pub fn on(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// Ends it after this long, instead of after the time in its terms; none: it may take as long as it takes.
    pub fn within(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.terms.deadline = deadline.into();
        self
    }

    /// Lets it come to its end when xtask is asked to end: what it has begun must be known to be done.
    pub fn uninterrupted(mut self) -> Self {
        self.terms.interrupt = None;
        self
    }

    /// Masks these in what it prints, instead of what its terms say.
    pub fn hiding(mut self, secrets: Secrets) -> Self {
        self.terms.set_secrets(secrets);
        self
    }

    /// Does this too once it has ended.
    pub fn then(mut self, afterwards: Afterwards) -> Self {
        self.terms.add(afterwards);
        self
    }

    pub(crate) fn ended(&self, complaint: Option<&str>) {
        self.terms.ended(complaint);
    }

    /// A line that it printed, as it may be seen.
    pub(crate) fn mask(&self, line: &str) -> String {
        self.terms.mask(line)
    }

    /// How its failure is read.
    pub(crate) fn reading(&self) -> Reading {
        self.terms.reading
    }

    /// What an error calls it.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("`{self}`"))
    }

    /// Runs to the end and returns status and output, whatever the status is.
    pub fn output(&self) -> anyhow::Result<Output> {
        let output = self.run();
        match &output {
            Ok(output) if output.status.success() => self.ended(None),
            Ok(output) => self.ended(Some(&String::from_utf8_lossy(&output.stderr))),
            Err(error) => self.ended(Some(&error.to_string())),
        }
        output
    }

    fn run(&self) -> anyhow::Result<Output> {
        // A program that ends before it has read all its input tells by its status whether that is a failure.
        let running = self.with_input()?.stdout_capture().stderr_capture().start();
        let running = running.with_context(|| format!("failed to start `{self}`"))?;
        let start = Instant::now();
        while self.has_limits() {
            if let Some(output) = running.wait_timeout(TICK)? {
                return Ok(output.clone());
            }
            if let Err(error) = self.check_limits(start) {
                end(&running)?;
                return Err(error);
            }
        }
        Ok(running.into_output()?)
    }

    /// Runs to the end and returns standard output; a failure is a [`CommandError`].
    pub fn read(&self) -> anyhow::Result<String> {
        let output = self.output()?;
        if !output.status.success() {
            return Err(self.error(&output).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs on the caller's own terminal, as a script would; for a nested cargo, without what the outer one put into the
    /// environment.
    pub fn inherit(&self) -> anyhow::Result<()> {
        let shell = xshell::Shell::new()?;
        shell.change_dir(&self.dir);
        let mut command = shell.cmd(&self.program).args(&self.args);
        let of_cargo =
            ["CARGO_MANIFEST", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY", "RUST_RECURSION"];
        for (name, _) in std::env::vars_os() {
            if of_cargo.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command = command.env_remove(name);
            }
        }
        let status = std::process::Command::from(command).status();
        let status = status.with_context(|| format!("failed to start `{self}`"))?;
        if status.success() { Ok(()) } else { Err(CommandError::new(self.name(), status.code(), "").into()) }
    }

    /// The error for a captured run.
    pub fn error(&self, output: &Output) -> CommandError {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines = text.lines().filter_map(|line| Some(self.mask(&(self.reading().line)(line)?)));
        let lines: Vec<_> = lines.collect();
        self.error_of(output.status.code(), lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    /// The error that shows these lines, which are masked.
    pub(crate) fn error_of(&self, status: Option<i32>, stderr: String) -> CommandError {
        CommandError::new(self.name(), status, stderr).read_by(self.reading())
    }

    fn has_limits(&self) -> bool {
        self.terms.interrupt.is_some() || self.terms.deadline.is_some()
    }

    /// The program with its environment, in a group of its own where it can take long.
    pub fn expression(&self) -> duct::Expression {
        let mut expression = duct::cmd(&self.program, &self.args).dir(&self.dir).unchecked();
        for (name, value) in &self.env {
            expression = expression.env(name, value);
        }
        #[cfg(unix)]
        if self.has_limits() {
            // The terminal sends Ctrl-C to a whole group of processes. In one of its own, a program isn't ended
            // behind the back of xtask, which ends it in order.
            use std::os::unix::process::CommandExt;
            expression = expression.before_spawn(|command| {
                command.process_group(0);
                Ok(())
            });
        }
        expression
    }

    /// The same with its standard input.
    pub(crate) fn with_input(&self) -> anyhow::Result<duct::Expression> {
        Ok(match &self.stdin {
            Input::Text(text) => self.expression().stdin_bytes(self.opening.clone() + &self.in_frame(text)),
            Input::File(path) => {
                let file = plain_file::open(path);
                let mut file = file.with_context(|| format!("failed to read {}", path.display()))?;
                if self.opening.is_empty() {
                    return Ok(self.expression().stdin_file(file));
                }
                let (before, (reader, mut writer)) = (self.opening.clone(), os_pipe::pipe()?);
                // A program that ends before it has read all says itself why.
                std::thread::spawn(work(move || {
                    let opened = writer.write_all(before.as_bytes());
                    let _ = opened.and_then(|()| std::io::copy(&mut file, &mut writer));
                }));
                self.expression().stdin_file(reader)
            }
        })
    }

    /// Fails once it is to be ended: xtask was asked to end, or it has taken too long since `start`.
    pub fn check_limits(&self, start: Instant) -> anyhow::Result<()> {
        self.terms.interrupt.as_ref().map_or(Ok(()), |interrupt| interrupt.check())?;
        match &self.terms.deadline {
            Some(deadline) if start.elapsed() > *deadline => {
                let message = format!("{} did not end in {} s", self.name(), deadline.as_secs());
                let docker = Path::new(&self.program).file_stem().is_some_and(|name| name == "docker");
                let hint = if docker { "see whether Docker answers: docker info; or wait" } else { "wait" };
                let hint = format!("{hint} longer: --timeout {}", deadline.as_secs().saturating_mul(5));
                Err(Failure::new(Exit::Failed, message).hint(hint).into())
            }
            _ => Ok(()),
        }
    }
}

/// Asks a program to end, and ends it where it doesn't. `docker` hands a signal on to its plugins; killed, it
/// would leave them behind.
pub(crate) fn end(running: &duct::Handle) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        duct::unix::HandleExt::send_signal(running, signal_hook::consts::SIGTERM)?;
        if running.wait_timeout(GRACE)?.is_some() {
            return Ok(());
        }
    }
    running.kill()
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let program = Path::new(&self.program).file_stem().unwrap_or(&self.program).to_string_lossy();
        f.write_str(&quote(&program))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quote(arg)))
    }
}

/// Quotes a word for a POSIX shell; what such a shell takes as it is stays readable.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    // Only a NUL can't be quoted, and no argument can hold one.
    shlex::try_quote(word).map_or_else(|_| word.into(), Into::into)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    #[cfg(unix)]
    fn what_a_program_leaves_unread_is_no_failure() {
        let sh = Invocation::new("sh", Path::new(".")).args(["-c", "echo done; exit 3"]);
        let output = sh.stdin("x".repeat(1 << 20)).output().expect("it ran");
        assert_eq!((output.status.code(), &*output.stdout), (Some(3), &b"done\n"[..]));
    }

    #[test]
    #[cfg(unix)]
    fn who_waits_for_the_end_of_a_program_is_told_however_it_ends() {
        let told = Arc::new(Mutex::new(vec![]));
        let note = |complaint: Option<&str>| Some(complaint.map(|text| text.trim().to_string()));
        let kept = Arc::clone(&told);
        let after = Afterwards::new(move |complaint| kept.lock().expect("no panic").extend(note(complaint)));
        let sh = |script| Invocation::new("sh", Path::new(".")).args(["-c", script]).then(after.clone());
        sh("true").read().expect("it is done");
        sh("echo no >&2; exit 3").read().expect_err("exit code 3");
        sh("exec sleep 60").within(Duration::ZERO).read().expect_err("it takes too long");
        sh("echo no >&2; exit 3").stream(|_| Ok(())).expect_err("exit code 3");
        let told = told.lock().expect("no panic").clone();
        assert_eq!([&told[0], &told[1], &told[3]], [&None, &Some("no".into()), &Some("no".into())]);
        assert!(told[2].as_deref().is_some_and(|text| text.contains("did not end")), "{told:?}");
    }

    #[test]
    #[cfg(unix)]
    fn what_goes_in_first_is_read_before_the_text_or_the_file_and_is_not_printed() {
        let path = std::env::temp_dir().join(format!("xtask-opening-{}", std::process::id()));
        std::fs::write(&path, "rest").expect("a file");
        let script = "read -r first; printf '%s|' \"$first\"; exec cat";
        let sh = Invocation::new("sh", Path::new(".")).args(["-c", script]).opens_with("secret\n");
        for sh in [sh.clone().stdin("rest"), sh.clone().stdin_file(&path)] {
            assert_eq!(sh.read().expect("read"), "secret|rest");
            assert!(!sh.to_string().contains("secret"));
        }
        let missing = sh.stdin_file(Path::new("/nowhere")).output().expect_err("no file");
        assert!(missing.to_string().contains("/nowhere"), "{missing}");
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn a_printed_command_line_can_be_pasted() {
        let line = Invocation::new("/usr/bin/docker", Path::new(".")).args(["exec", "-e", "A=b c", "it's"]);
        assert_eq!(line.to_string(), "docker exec -e 'A=b c' \"it's\"");
    }
}
