//! One file for each subcommand, each with one `run`.

pub mod archive;
pub mod backup;
pub mod compact;
pub mod deleted;
pub mod deliver;
pub mod diff;
pub mod erase;
pub mod extract;
pub mod find;
pub mod heal;
pub mod import;
pub mod init;
pub mod inspect;
pub mod list;
pub mod log;
pub mod mark;
pub mod repair;
pub mod replay;
pub mod restore;
pub mod serve;
pub mod show;
pub mod sources;
pub mod users;
pub mod verify;
pub mod version;
