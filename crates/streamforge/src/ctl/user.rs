//! `ctl user`: users of the embedded stream, stored while its broker does not run.
//!
//! A running broker takes users over its own protocol; this is how the first one comes to be, since none is there by default.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::{roles, say};

/// A longer password is cut off here, and then refused as too long for a login.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// Options of `ctl user`.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Store a user, or give it a new password; the password is read from standard input
    Set {
        /// As in its login
        name: String,
        #[command(flatten)]
        folder: Folder,
    },
    /// Remove a user
    Remove {
        /// As in its login
        name: String,
        #[command(flatten)]
        folder: Folder,
    },
}

/// Whose users.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// Data folder of the local gateway
    #[arg(long, env = "SF_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Data folder of a broker that runs alone; goes before that of a gateway
    #[arg(long, env = "SF_BROKER_DATA_DIR")]
    broker_data_dir: Option<PathBuf>,
}

/// Stores or removes a user.
pub(crate) fn user(options: User) -> Result<(), Failure> {
    let runtime = roles::runtime(1)?;
    match options {
        User::Set { name, folder } => {
            let folder = stream(folder)?;
            let mut password = String::new();
            let read = std::io::stdin().lock().take(PASSWORD_BYTES_MAX).read_to_string(&mut password);
            read.map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
            let stored = runtime.block_on(broker::users::set(&folder, &name, password.trim_end_matches(['\r', '\n'])));
            stored.map_err(|error| failure(&error))?;
            say::line(&format!("user {name} is stored in {}", folder.display()));
        }
        User::Remove { name, folder } => {
            let folder = stream(folder)?;
            if !runtime.block_on(broker::users::remove(&folder, &name)).map_err(|error| failure(&error))? {
                return Err(Failure::new(USAGE, format!("there is no user {name:?} in {}", folder.display())));
            }
            say::line(&format!("user {name} is removed from {}", folder.display()));
        }
    }
    Ok(())
}

/// The folder of the broker.
fn stream(folder: Folder) -> Result<PathBuf, Failure> {
    match folder.broker_data_dir {
        Some(alone) => Ok(alone),
        None => Ok(gateway::children::Folders::new(&crate::up::data_dir(folder.data_dir, false)?).stream()),
    }
}

fn failure(error: &broker::Error) -> Failure {
    let code = if matches!(error, broker::Error::Setting { .. }) { USAGE } else { TRY_AGAIN };
    let hint = match error {
        broker::Error::Locked { .. } => "; a running broker takes users over the Kafka protocol, or stop it first",
        _ => "",
    };
    Failure::new(code, format!("{}{hint}", daemon::report(error)))
}
