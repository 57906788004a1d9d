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
    let outcome = match Args::from_args(&["cylinder"], words.get(1..).unwrap_or_default()) {
        Ok(args) => {
            if is_work(&args.command) {
                output::only_reports();
            }
            run(args.command)
        }
        Err(early) => early_exit(&early),
    };
    ended(outcome).into()
}

/// Help was asked for, or the words make no sense.
fn early_exit(early: &argh::EarlyExit) -> Outcome {
    match early.status {
        Ok(()) => {
            output::line(early.output.trim_end())?;
            Ok(Exit::Ok)
        }
        Err(()) => {
            output::complain!("{}", early.output.trim_end());
            Ok(Exit::Usage)
        }
    }
}

/// The code of the whole command, once everything is written.
fn ended(outcome: Outcome) -> Exit {
    let flushed = output::flush().map_err(Trouble::from);
    let exit = outcome.and_then(|exit| flushed.map(|()| exit)).unwrap_or_else(|trouble| tell(&trouble)).of_command();
    match output::lost() {
        Some(error @ OutputError::Failed(_)) => {
            output::complain!("cylinder: {error}; the report is lost, the work was done");
            if exit == Exit::Ok { Exit::Partial } else { exit }
        }
        // Whoever has stopped reading has read enough.
        Some(OutputError::Closed) | None => exit,
    }
}

/// True if the command does something, and its output only reports on that. Of the others the output is all there is.
fn is_work(command: &Command) -> bool {
    match command {
        Command::Acknowledge(_) | Command::Backup(_) | Command::Extract(_) | Command::Heal(_) | Command::Hold(_) => true,
        Command::Import(_) | Command::Init(_) | Command::Serve(_) | Command::Verify(_) => true,
        Command::Compact(args) => !args.dry_run,
        Command::Erase(args) => args.yes,
        Command::Repair(args) => !args.dry_run,
        Command::Restore(args) => !args.dry_run && !args.zip && !args.tar,
        Command::Diff(_) | Command::Find(_) | Command::Inspect(_) | Command::List(_) | Command::Log(_) => false,
        Command::Replay(_) | Command::Show(_) | Command::Users(_) | Command::Version(_) => false,
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
        Trouble::Output(error) => {
            output::complain!("cylinder: {error}");
            Exit::Failed
        }
    }
}
