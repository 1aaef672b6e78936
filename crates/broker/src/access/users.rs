//! Users: how the first one comes to be.
//!
//! There is no default password. The first user is stored by hand, while no broker runs on the folder; a running broker
//! takes further ones over its protocol (AlterUserScramCredentials).

use std::num::NonZeroU32;
use std::path::Path;

use commitlog::RealVfs;
use daemon::identity;

use super::scram::{Credential, Hash, ITERATIONS_DEFAULT};
use super::{Credentials, FILE, Kept, scram};
use crate::limits::USERS_MAX;
use crate::{Error, lock};

/// Shortest password that is taken; a shorter one is refused.
pub const PASSWORD_BYTES_MIN: usize = 8;
/// Longest name of a user, as SASL carries it.
const NAME_BYTES_MAX: usize = 255;

/// What is kept of a password, one credential for each mechanism.
pub(crate) fn credentials(password: &[u8]) -> Result<Credentials, Error> {
    let iterations = NonZeroU32::new(ITERATIONS_DEFAULT).expect("a constant above zero");
    let one = |hash| Ok((hash, Credential::derive(hash, password, scram::salt().ok_or(Error::Random)?, iterations)));
    Hash::ALL.into_iter().map(one).collect()
}

/// What is wrong with the name of a user.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err("a user has 1 to 255 bytes and no control characters");
    }
    if matches!(name, "ANONYMOUS" | "*") || name.starts_with(identity::PREFIX) {
        return Err("this name stands for others");
    }
    Ok(())
}

/// Stores a user in the folder of a broker that does not run. An existing one gets the new password.
pub async fn set(data_dir: &Path, name: &str, password: &str) -> Result<(), Error> {
    let wrong = |reason: &str| Error::Setting { name: "user", reason: reason.to_owned() };
    check_name(name).map_err(wrong)?;
    if password.len() < PASSWORD_BYTES_MIN {
        return Err(wrong("a password has 8 bytes at least"));
    }
    let credentials = credentials(password.as_bytes())?;
    change(data_dir, |kept| {
        kept.users.insert(name.to_owned(), credentials);
        if kept.users.len() > USERS_MAX { Err(wrong("there are too many users")) } else { Ok(()) }
    })
    .await
}

/// Removes a user from the folder of a broker that does not run; false when there was none.
pub async fn remove(data_dir: &Path, name: &str) -> Result<bool, Error> {
    change(data_dir, |kept| Ok(kept.users.remove(name).is_some())).await
}

async fn change<T>(data_dir: &Path, change: impl FnOnce(&mut Kept) -> Result<T, Error>) -> Result<T, Error> {
    crate::broker::own_folder(data_dir)?;
    let _lock = lock::acquire(data_dir).await?;
    let path = data_dir.join(FILE);
    let mut kept = Kept::read(&RealVfs, &path)?;
    let result = change(&mut kept)?;
    kept.write(&RealVfs, &path)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-14
    #[tokio::test]
    async fn a_user_is_stored_without_its_password() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("stream");
        set(&folder, "ada", "correct horse").await.unwrap();
        let bytes = std::fs::read(folder.join(FILE)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("correct horse"));
        let kept = Kept::read(&RealVfs, &folder.join(FILE)).unwrap();
        assert!(kept.users["ada"][&Hash::Sha256].fits(Hash::Sha256, b"correct horse"));
        assert!(set(&folder, "ada", "short").await.is_err());
        assert!(set(&folder, "ANONYMOUS", "correct horse").await.is_err());
        assert!(set(&folder, "sf-adapter/press", "correct horse").await.is_err(), "a component's");
        assert!(remove(&folder, "ada").await.unwrap());
        assert!(!remove(&folder, "ada").await.unwrap());
    }
}
