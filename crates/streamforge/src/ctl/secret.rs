//! `ctl secret`: secrets for the components of a gateway.

use std::io::Read;
use std::path::PathBuf;

use clap::Subcommand;

use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::say;

/// Options of `ctl secret`.
#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Store a secret; the value is read from standard input
    Set {
        /// 1 to 64 characters of a-z, 0-9, - and _
        name: String,
        /// Data folder of the gateway
        #[arg(long, env = "SF_DATA_DIR")]
        data_dir: Option<PathBuf>,
    },
}

/// Stores a secret read from standard input.
pub(crate) fn secret(options: Secret) -> Result<(), Failure> {
    let Secret::Set { name, data_dir } = options;
    let data = crate::up::data_dir(data_dir, false)?;
    let mut value = String::new();
    std::io::stdin()
        .lock()
        .take(64 * 1024)
        .read_to_string(&mut value)
        .map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
    let folders = gateway::children::Folders::new(&data);
    gateway::secrets::store(&folders.secrets(), &name, value.trim_end_matches(['\r', '\n']))
        .map_err(|error| Failure::new(USAGE, format!("secret {name} is not stored: {error}")))?;
    say::line(&format!("secret {name} is stored for the gateway in {}", data.display()));
    Ok(())
}
