//! The gateway's secrets: one file each, readable by the owner alone, handed to children over their pipe.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use config::secret::is_secret_name;
use daemon::launch::Secret;

/// Reads the secrets a component refers to; a missing one is an error that says what to do.
pub fn load(folder: &Path, names: &[String]) -> io::Result<BTreeMap<String, Secret>> {
    let mut secrets = BTreeMap::new();
    for name in names {
        if !is_secret_name(name) {
            return Err(io::Error::other(format!("{name:?} is not the name of a secret")));
        }
        let path = folder.join(name);
        let mode = fs::metadata(&path).map_err(|error| explain(name, &error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!("secret {name} is readable by others: chmod 600 {}", path.display())));
        }
        let value = fs::read_to_string(&path).map_err(|error| explain(name, &error))?;
        secrets.insert(name.clone(), Secret::new(value.trim_end_matches('\n')));
    }
    Ok(secrets)
}

fn explain(name: &str, error: &io::Error) -> io::Error {
    io::Error::other(format!(
        "secret {name} cannot be read ({error}): store it with `streamforge ctl secret set {name}`"
    ))
}

/// Stores a secret.
pub fn store(folder: &Path, name: &str, value: &str) -> io::Result<()> {
    if !is_secret_name(name) {
        return Err(io::Error::other("the name of a secret has 1 to 64 characters of a-z, 0-9, - and _"));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = folder.join(format!(".{name}.new"));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(value.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_secrets_are_the_owners_alone() {
        // G-10
        let dir = std::env::temp_dir().join(format!("sf-secrets-{}", std::process::id()));
        store(&dir, "pg", "hunter2").unwrap();
        let secrets = load(&dir, &["pg".to_owned()]).unwrap();
        assert_eq!(secrets["pg"].reveal(), "hunter2");
        assert_eq!(format!("{secrets:?}"), "{\"pg\": ***}");
        fs::set_permissions(dir.join("pg"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(&dir, &["pg".to_owned()]).unwrap_err().to_string().contains("chmod 600"));
        assert!(load(&dir, &["absent".to_owned()]).unwrap_err().to_string().contains("ctl secret set absent"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
