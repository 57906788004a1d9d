//! Cylinder's command line: options into a driver and a procedure of the core, and what came of it into words and an exit code.
//!
//! What must not come in: anything that another front end would need too.

// They panic where standard error or output cannot be written to: `output::complain!` and `output::line` do not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod alarm;
mod args;
mod cmd;
mod exit;
mod fleet;
mod headers;
mod host;
mod output;
mod server;
mod stop;
mod tape;
mod when;

use argh::FromArgs;
use args::{Args, Command};
use exit::Exit;
use host::{Outcome, Trouble};
use output::OutputError;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let args = match Args::from_args(&["cylinder"], words.get(1..).unwrap_or_default()) {
        Ok(args) => args,
        Err(early) => return early_exit(&early),
    };
    let outcome = run(args.command);
    let outcome = match outcome {
        Ok(exit) => output::flush().map(|()| exit).map_err(Trouble::from),
        other => other,
    };
    outcome.unwrap_or_else(|trouble| tell(&trouble)).of_command().into()
}

/// Help was asked for, or the words make no sense.
fn early_exit(early: &argh::EarlyExit) -> ExitCode {
    match early.status {
        Ok(()) => {
            // Help into a closed pipe is still help.
            let _ = output::line(early.output.trim_end()).and_then(|()| output::flush());
            Exit::Ok.into()
        }
        Err(()) => {
            output::complain!("{}", early.output.trim_end());
            Exit::Usage.into()
        }
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Acknowledge(args) => cmd::mark::acknowledge(&args),
        Command::Backup(args) => cmd::backup::run(&args),
        Command::Compact(args) => cmd::compact::run(&args),
        Command::Diff(args) => cmd::diff::run(&args),
        Command::Erase(args) => cmd::erase::run(&args),
        Command::Extract(args) => cmd::extract::run(&args),
        Command::Find(args) => cmd::find::run(&args),
        Command::Heal(args) => cmd::heal::run(&args),
        Command::Hold(args) => cmd::mark::hold(&args),
        Command::Import(args) => cmd::import::run(&args),
        Command::Init(args) => cmd::init::run(&args),
        Command::Inspect(args) => cmd::inspect::run(&args),
        Command::List(args) => cmd::list::run(&args),
        Command::Log(args) => cmd::log::run(&args),
        Command::Repair(args) => cmd::repair::run(&args),
        Command::Replay(args) => cmd::replay::run(&args),
        Command::Restore(args) => cmd::restore::run(&args),
        Command::Serve(args) => cmd::serve::run(&args),
        Command::Show(args) => cmd::show::run(&args),
        Command::Users(args) => cmd::users::run(&args),
        Command::Verify(args) => cmd::verify::run(&args),
        Command::Version(args) => cmd::version::run(&args),
    }
}

fn tell(trouble: &Trouble) -> Exit {
    match trouble {
        Trouble::Usage(text) => {
            output::complain!("cylinder: {text}");
            Exit::Usage
        }
        Trouble::Core(error) => {
            output::complain!("cylinder: {error}");
            Exit::of(error)
        }
        Trouble::Output(OutputError::Closed) => Exit::Ok,
        Trouble::Output(OutputError::Failed(error)) => {
            output::complain!("cylinder: standard output: {error}");
            Exit::Failed
        }
    }
}
