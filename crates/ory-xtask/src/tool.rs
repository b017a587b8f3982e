//! The tool as a program calls it: as a whole, with tasks beside its commands, or below a command of another one.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{ArgMatches, Command};

use crate::cli::{Cli, Task};
use crate::global;
use ory_ops::context::Options;
use ory_runner::failure::{Exit, Failure};
use ory_runner::interrupt::Interrupt;
use ory_runner::output::{Output, Verbosity};
use ory_runner::program::Program;

/// The commands, under the name that a program gives them.
pub struct Tool {
    program: Program,
    tasks: Vec<Task>,
}

impl Tool {
    /// A tool that is called so: hints and messages name the next command by these words.
    ///
    /// `ory_xtask::Tool::called("cargo xtask ory")`
    pub fn called(words: impl Into<String>) -> Self {
        Self { program: Program::called(words), tasks: vec![] }
    }

    /// A tool that Cargo's alias calls, named after its package.
    pub fn of_package() -> Self {
        Self { program: Program::of_package(), tasks: vec![] }
    }

    /// Adds a task of one's own beside the commands. An error that it ends with is printed with its causes, exit code 1.
    ///
    /// ```no_run
    /// use clap::Command;
    ///
    /// fn main() -> std::process::ExitCode {
    ///     let codegen = Command::new("codegen").about("Generate the API's types");
    ///     ory_xtask::Tool::of_package().task(codegen, |_, _| Ok(())).main()
    /// }
    /// ```
    pub fn task(
        mut self,
        command: Command,
        run: impl Fn(&Options, &ArgMatches) -> Result<()> + 'static,
    ) -> Self {
        self.tasks.push((command, Box::new(run)));
        self
    }

    /// The whole command line, to be put below another one, named by the last of the words that call it.
    ///
    /// ```no_run
    /// use clap::Command;
    ///
    /// fn main() -> std::process::ExitCode {
    ///     let ory = ory_xtask::Tool::called("cargo xtask ory");
    ///     let typed = Command::new("xtask").subcommand(ory.command()).get_matches();
    ///     match typed.subcommand() {
    ///         Some(("ory", typed)) => ory.run(typed),
    ///         _ => std::process::ExitCode::SUCCESS,
    ///     }
    /// }
    /// ```
    pub fn command(&self) -> Command {
        self.cli().command()
    }

    /// Another command line with ours beside its own commands, and our global options.
    ///
    /// ```no_run
    /// use clap::{CommandFactory, FromArgMatches};
    /// # use clap::{ArgMatches, Command, Error};
    /// # struct Tasks;
    /// # impl CommandFactory for Tasks {
    /// #     fn command() -> Command { Command::new("xtask") }
    /// #     fn command_for_update() -> Command { Command::new("xtask") }
    /// # }
    /// # impl FromArgMatches for Tasks {
    /// #     fn from_arg_matches(_: &ArgMatches) -> Result<Self, Error> { Ok(Self) }
    /// #     fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), Error> { Ok(()) }
    /// # }
    ///
    /// fn main() -> std::process::ExitCode {
    ///     // Tasks is an enum that derives Parser.
    ///     let ory = ory_xtask::Tool::of_package();
    ///     let typed = ory.beside(Tasks::command()).get_matches();
    ///     match Tasks::from_arg_matches(&typed) {
    ///         Ok(_own) => std::process::ExitCode::SUCCESS,
    ///         Err(_) => ory.run(&typed),
    ///     }
    /// }
    /// ```
    pub fn beside(&self, command: Command) -> Command {
        let ours = self.command();
        command.args(ours.get_arguments()).subcommands(ours.get_subcommands())
    }

    /// Runs what was typed for [`Tool::command`], and prints how it ended.
    pub fn run(&self, typed: &ArgMatches) -> ExitCode {
        let cli = self.cli();
        global::apply_color(typed);
        let interrupt = match Interrupt::listen() {
            Ok(interrupt) => interrupt,
            Err(error) => {
                let output = Output { verbosity: Verbosity::Normal, program: self.program };
                return fail(output, &anyhow::Error::new(error).context("failed to listen for Ctrl-C"));
            }
        };
        let options = global::read(typed, interrupt, self.program);
        match cli.run(&options, typed) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => match options.interrupt.failure() {
                // Whatever failed, failed because of it.
                Some(interrupted)
                    if !Failure::of(&error).is_some_and(|failure| failure.exit == interrupted.exit) =>
                {
                    fail(options.output, &error.context(interrupted))
                }
                _ => fail(options.output, &error),
            },
        }
    }

    /// Reads the process's arguments and runs what they say. Wrong usage ends the process with exit code 2, help with 0.
    pub fn main(&self) -> ExitCode {
        let mut command = self.command();
        // No hint could name it, and nothing that is started could be told.
        if let Some(word) = std::env::args_os().find(|word: &OsString| word.to_str().is_none()) {
            let message = format!("an argument isn't UTF-8: {word:?}");
            command.error(ErrorKind::InvalidUtf8, message).exit();
        }
        self.run(&command.get_matches())
    }

    fn cli(&self) -> Cli<'_> {
        Cli { program: self.program, tasks: &self.tasks }
    }
}

fn fail(output: Output, error: &anyhow::Error) -> ExitCode {
    output.error(error, Failure::hint_of(error));
    ExitCode::from(Failure::of(error).map_or(Exit::Failed, |failure| failure.exit) as u8)
}
