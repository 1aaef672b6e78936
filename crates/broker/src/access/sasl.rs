//! The steps of a SASL login: a mechanism is chosen, messages go to and fro, somebody is known or refused.
//!
//! Pure. Looking up credentials, random nonces and the slow check of a password are the caller's.
//! Look next at `scram.rs` for what SCRAM's messages say and at `handlers/sasl.rs` for the requests that carry them.

use super::scram::{self, ClientFirst, Credential, Failed, Hash, Pending};

/// Longest name or password of PLAIN; a longer one is malformed.
const PART_BYTES_MAX: usize = 1_024;

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    Scram(Hash),
}

impl Mechanism {
    pub(crate) const ALL: [Self; 3] = [Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512), Self::Plain];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
        }
    }
}

/// Where a login stands.
#[derive(Debug, Default)]
pub(crate) enum Exchange {
    /// No mechanism was chosen.
    #[default]
    Begin,
    Chosen(Mechanism),
    /// The proof of this user is awaited.
    Proof {
        user: String,
        pending: Box<Pending>,
    },
}

/// What a message of the client leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this and wait for more.
    Challenge(Vec<u8>),
    /// This user is who it says; send this last message.
    Known { user: String, last: Vec<u8> },
    /// The password is to be verified.
    Password { user: String, password: Vec<u8> },
    /// It failed; the user is empty when it was not yet known.
    Failed { user: String, why: Failed },
    /// A message came before a mechanism was chosen.
    OutOfTurn,
}

impl Exchange {
    /// Takes the next message. `find` gives the credential of a user, or a decoy.
    pub(crate) fn step(&mut self, message: &[u8], nonce: &str, find: impl FnOnce(Hash, &str) -> Credential) -> Step {
        match std::mem::take(self) {
            Self::Begin => Step::OutOfTurn,
            Self::Chosen(Mechanism::Plain) => match plain(message) {
                Ok((user, password)) => Step::Password { user, password },
                Err(why) => Step::Failed { user: String::new(), why },
            },
            Self::Chosen(Mechanism::Scram(hash)) => match ClientFirst::parse(message) {
                Ok(first) => {
                    let (pending, message) = scram::challenge(hash, &first, nonce, find(hash, &first.user));
                    *self = Self::Proof { user: first.user, pending: Box::new(pending) };
                    Step::Challenge(message.into_bytes())
                }
                Err(why) => Step::Failed { user: String::new(), why },
            },
            Self::Proof { user, pending } => match pending.finish(message) {
                Ok(last) => Step::Known { user, last: last.into_bytes() },
                Err(why) => Step::Failed { user, why },
            },
        }
    }
}

/// User and password of PLAIN (RFC 4616).
fn plain(message: &[u8]) -> Result<(String, Vec<u8>), Failed> {
    let mut parts = message.split(|byte| *byte == 0);
    let (Some(acting_for), Some(user), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failed::Malformed("PLAIN has three parts"));
    };
    if user.is_empty() || password.is_empty() || user.len() > PART_BYTES_MAX || password.len() > PART_BYTES_MAX {
        return Err(Failed::Malformed("a part of it is empty or too long"));
    }
    if !acting_for.is_empty() && acting_for != user {
        return Err(Failed::Malformed("nobody may act for another here"));
    }
    let user = std::str::from_utf8(user).map_err(|_| Failed::Malformed("the user is no UTF-8"))?;
    Ok((user.to_owned(), password.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoy(hash: Hash, user: &str) -> Credential {
        Credential::decoy(hash, b"secret", user)
    }

    // STR-14
    #[test]
    fn plain_hands_out_a_password_once() {
        let mut exchange = Exchange::Chosen(Mechanism::Plain);
        let step = exchange.step(b"\0ada\0pencil", "", decoy);
        assert_eq!(step, Step::Password { user: "ada".to_owned(), password: b"pencil".to_vec() });
        assert_eq!(exchange.step(b"\0ada\0pencil", "", decoy), Step::OutOfTurn);
        for wrong in [&b""[..], b"ada\0pencil", b"\0ada\0", b"\0\0x", b"bob\0ada\0x", b"\0a\0b\0c", b"\0\xff\0b"] {
            let step = Exchange::Chosen(Mechanism::Plain).step(wrong, "", decoy);
            assert!(matches!(step, Step::Failed { why: Failed::Malformed(_), .. }), "{wrong:?}");
        }
        assert_eq!(plain(b"ada\0ada\0x").unwrap().0, "ada");
    }

    #[test]
    fn scram_takes_two_messages_and_a_failed_one_begins_anew() {
        let mut exchange = Exchange::Chosen(Mechanism::Scram(Hash::Sha512));
        let step = exchange.step(b"n,,n=ada,r=abc", "xyz", decoy);
        let Step::Challenge(challenge) = step else { panic!("{step:?}") };
        assert!(challenge.starts_with(b"r=abcxyz,s="));
        let step = exchange.step(b"c=biws,r=abcxyz,p=AAAA", "", decoy);
        assert!(matches!(&step, Step::Failed { user, .. } if user == "ada"), "{step:?}");
        assert_eq!(exchange.step(b"c=biws,r=abcxyz,p=AAAA", "", decoy), Step::OutOfTurn);
    }

    proptest! {
        // security D.4 38: whatever a stranger sends is answered, refused or out of turn, and nobody is let in
        #[test]
        fn whatever_comes_lets_nobody_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
            texts in prop::collection::vec("[nya=,rcp.A-Za-z0-9+/]{0,60}", 1..4),
        ) {
            for mechanism in Mechanism::ALL {
                for script in [&messages, &texts.iter().map(|text| text.clone().into_bytes()).collect()] {
                    let mut exchange = Exchange::Chosen(mechanism);
                    for message in script {
                        let step = exchange.step(message, "xyz", decoy);
                        prop_assert!(!matches!(step, Step::Known { .. }), "{step:?}");
                    }
                }
            }
        }
    }
}
