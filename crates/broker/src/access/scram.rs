//! SCRAM (RFC 5802, 7677) as a server speaks it, and the credentials it keeps: salted, never the password.
//!
//! Nonces and salts are handed in, so the exchange is the same whenever it is run again. A client that names an unknown user gets a challenge that looks like any
//! other and fails at the end, so nobody learns which users exist.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// Rounds of hashing below which a credential is refused, as RFC 7677 asks for.
pub(crate) const ITERATIONS_MIN: u32 = 4_096;
/// Rounds above which it is refused: they are the client's and, for PLAIN, our own time.
pub(crate) const ITERATIONS_MAX: u32 = 16_384;
/// Rounds of credentials that are made here.
pub(crate) const ITERATIONS_DEFAULT: u32 = 15_000;
/// Longest user name, nonce or password; a longer one is malformed.
const PART_BYTES_MAX: usize = 1_024;

/// The hash a mechanism is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Hash {
    #[serde(rename = "SCRAM-SHA-256")]
    Sha256 = 1,
    #[serde(rename = "SCRAM-SHA-512")]
    Sha512 = 2,
}

impl Hash {
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub(crate) fn from_wire(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| *hash as i8 == number)
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::Sha256 => digest::SHA256_OUTPUT_LEN,
            Self::Sha512 => digest::SHA512_OUTPUT_LEN,
        }
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }

    fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), bytes).as_ref().to_vec()
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut salted = vec![0; self.size()];
        pbkdf2::derive(algorithm, iterations, salt, password, &mut salted);
        salted
    }
}

/// Bytes as base64 in the state file.
mod text {
    use base64::Engine;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::BASE64.decode(text).map_err(D::Error::custom)
    }
}

/// Random bytes from the operating system; `None` when it has none to give.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).ok().map(|()| bytes)
}

/// A salt of its own for each credential.
pub(crate) fn salt() -> Option<Vec<u8>> {
    random::<16>().map(|bytes| bytes.to_vec())
}

/// Our part of the nonce of one exchange.
pub(crate) fn nonce() -> Option<String> {
    random::<18>().map(|bytes| BASE64.encode(bytes))
}

/// What is kept of a user's password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credential {
    #[serde(with = "text")]
    salt: Vec<u8>,
    iterations: NonZeroU32,
    #[serde(with = "text")]
    stored_key: Vec<u8>,
    #[serde(with = "text")]
    server_key: Vec<u8>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Credential {
    pub(crate) fn derive(hash: Hash, password: &[u8], salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let salted = hash.salted(password, &salt, iterations);
        Self::from_salted(hash, &salted, salt, iterations)
    }

    /// From what an administrator's client has made of the password.
    pub(crate) fn from_salted(hash: Hash, salted: &[u8], salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let stored_key = hash.digest(&hash.hmac(salted, b"Client Key"));
        Self { salt, iterations, stored_key, server_key: hash.hmac(salted, b"Server Key") }
    }

    /// A credential that no password fits; the same name always gets the same salt.
    pub(crate) fn decoy(hash: Hash, secret: &[u8], user: &str) -> Self {
        let iterations = NonZeroU32::new(ITERATIONS_DEFAULT).expect("a constant above zero");
        let salt = hash.hmac(secret, user.as_bytes())[..16].to_vec();
        Self { salt, iterations, stored_key: vec![0; hash.size()], server_key: vec![0; hash.size()] }
    }

    pub(crate) fn iterations(&self) -> u32 {
        self.iterations.get()
    }

    /// Whether this is the password, in the time of the iterations.
    pub(crate) fn fits(&self, hash: Hash, password: &[u8]) -> bool {
        let salted = hash.salted(password, &self.salt, self.iterations);
        let stored_key = hash.digest(&hash.hmac(&salted, b"Client Key"));
        constant_time::verify_slices_are_equal(&stored_key, &self.stored_key).is_ok()
    }
}

/// Why an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    #[error("the message is malformed: {0}")]
    Malformed(&'static str),
    #[error("name and password do not fit")]
    Wrong,
}

/// The first message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    pub(crate) user: String,
    nonce: String,
    /// What the client says about channel binding, and must repeat.
    header: String,
    /// The message without it, as it is signed.
    bare: String,
}

impl ClientFirst {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failed> {
        let text = std::str::from_utf8(bytes).map_err(|_| Failed::Malformed("it is no UTF-8"))?;
        let (binding, rest) = text.split_once(',').ok_or(Failed::Malformed("its header is missing"))?;
        if !matches!(binding, "n" | "y") {
            return Err(Failed::Malformed("channel binding is not offered"));
        }
        let (acting_for, bare) = rest.split_once(',').ok_or(Failed::Malformed("its header is cut short"))?;
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|part| part.strip_prefix("n="));
        let user = unescape(user.ok_or(Failed::Malformed("the user is missing"))?)?;
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| !nonce.is_empty()).ok_or(Failed::Malformed("the nonce is missing"))?;
        if user.is_empty() || user.len() > PART_BYTES_MAX || nonce.len() > PART_BYTES_MAX {
            return Err(Failed::Malformed("a part of it is empty or too long"));
        }
        if attributes.any(|part| part == "tokenauth=true") {
            return Err(Failed::Malformed("delegation tokens are not offered"));
        }
        if !acting_for.is_empty() && acting_for.strip_prefix("a=").map(unescape) != Some(Ok(user.clone())) {
            return Err(Failed::Malformed("nobody may act for another here"));
        }
        let header = text[..text.len() - bare.len()].to_owned();
        Ok(Self { user, nonce: nonce.to_owned(), header, bare: bare.to_owned() })
    }
}

/// `=2C` and `=3D` stand for comma and equals sign.
fn unescape(name: &str) -> Result<String, Failed> {
    let mut parts = name.split('=');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).ok_or(Failed::Malformed("the user holds a bare ="))?;
        plain.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return Err(Failed::Malformed("the user holds a bare =")),
        });
        plain.push_str(rest);
    }
    Ok(plain)
}

/// An exchange that waits for the client's proof.
#[derive(Debug)]
pub(crate) struct Pending {
    hash: Hash,
    credential: Credential,
    nonce: String,
    header: String,
    /// Both first messages, as they are signed.
    signed: String,
}

/// Answers the first message.
pub(crate) fn challenge(
    hash: Hash,
    first: &ClientFirst,
    server_nonce: &str,
    credential: Credential,
) -> (Pending, String) {
    let nonce = format!("{}{server_nonce}", first.nonce);
    let message = format!("r={nonce},s={},i={}", BASE64.encode(&credential.salt), credential.iterations);
    let signed = format!("{},{message}", first.bare);
    (Pending { hash, credential, nonce, header: first.header.clone(), signed }, message)
}

impl Pending {
    /// Checks the client's proof; the answer proves to the client that we know the user, too.
    pub(crate) fn finish(self, bytes: &[u8]) -> Result<String, Failed> {
        let text = std::str::from_utf8(bytes).map_err(|_| Failed::Malformed("it is no UTF-8"))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Failed::Malformed("the proof is missing"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|part| part.strip_prefix("c="));
        let binding = binding.and_then(|binding| BASE64.decode(binding).ok());
        if binding.as_deref() != Some(self.header.as_bytes()) {
            return Err(Failed::Malformed("the channel binding is not the one it began with"));
        }
        if attributes.next().and_then(|part| part.strip_prefix("r=")) != Some(self.nonce.as_str()) {
            return Err(Failed::Malformed("the nonce is not ours"));
        }
        let proof = BASE64.decode(proof).map_err(|_| Failed::Malformed("the proof is no base64"))?;
        if proof.len() != self.hash.size() {
            return Err(Failed::Malformed("the proof has the wrong size"));
        }
        let signed = format!("{},{without_proof}", self.signed);
        let signature = self.hash.hmac(&self.credential.stored_key, signed.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        let stored_key = self.hash.digest(&client_key);
        if constant_time::verify_slices_are_equal(&stored_key, &self.credential.stored_key).is_err() {
            return Err(Failed::Wrong);
        }
        Ok(format!("v={}", BASE64.encode(self.hash.hmac(&self.credential.server_key, signed.as_bytes()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Credential {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        Credential::derive(Hash::Sha256, b"pencil", salt, NonZeroU32::new(4096).unwrap())
    }

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    // STR-14: the example of RFC 7677, section 3
    #[test]
    fn the_exchange_of_the_standard_succeeds() {
        let first = ClientFirst::parse(FIRST).unwrap();
        assert_eq!(first.user, "user");
        let (pending, message) = challenge(Hash::Sha256, &first, SERVER_NONCE, known());
        assert_eq!(message, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        assert_eq!(pending.finish(PROOF.as_bytes()).unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_wrong_proof_another_nonce_and_an_unknown_user_fail_alike() {
        let pending =
            |credential| challenge(Hash::Sha256, &ClientFirst::parse(FIRST).unwrap(), SERVER_NONCE, credential).0;
        let wrong = PROOF.replace("dHzb", "eHzb");
        assert_eq!(pending(known()).finish(wrong.as_bytes()), Err(Failed::Wrong));
        let decoy = Credential::decoy(Hash::Sha256, b"secret", "user");
        assert_eq!(pending(decoy).finish(PROOF.as_bytes()), Err(Failed::Wrong));
        let replayed = PROOF.replace("NlF$k0", "NlF$k1");
        assert!(matches!(pending(known()).finish(replayed.as_bytes()), Err(Failed::Malformed(_))));
        let bound = PROOF.replace("c=biws", "c=cD10bHM=");
        assert!(matches!(pending(known()).finish(bound.as_bytes()), Err(Failed::Malformed(_))));
        for garbage in [&b"c=biws"[..], b"", b"\xff\xff", b",p=", b"c=biws,r=,p=AAAA"] {
            assert!(pending(known()).finish(garbage).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn decoys_look_like_credentials_and_are_stable() {
        let of = |user| Credential::decoy(Hash::Sha512, b"secret", user);
        assert_eq!(of("ada"), of("ada"));
        assert_ne!(of("ada").salt, of("bob").salt);
        assert_eq!((of("ada").salt.len(), of("ada").iterations()), (16, ITERATIONS_DEFAULT));
        assert!(!of("ada").fits(Hash::Sha512, b""));
    }

    #[test]
    fn passwords_are_verified_against_what_is_kept() {
        for hash in Hash::ALL {
            let credential = Credential::derive(hash, b"pencil", vec![1; 16], NonZeroU32::new(4096).unwrap());
            assert!(credential.fits(hash, b"pencil"));
            assert!(!credential.fits(hash, b"pen"));
            let kept = serde_json::to_string(&credential).unwrap();
            assert_eq!(serde_json::from_str::<Credential>(&kept).unwrap(), credential);
            assert!(!kept.contains("pencil") && !format!("{credential:?}").contains("key"));
        }
    }

    #[test]
    fn first_messages_are_read_with_care() {
        let user = |text: &str| ClientFirst::parse(text.as_bytes()).map(|first| first.user);
        assert_eq!(user("n,,n=a=2Cb=3Dc,r=x").unwrap(), "a,b=c");
        assert_eq!(user("n,a=ada,n=ada,r=x").unwrap(), "ada");
        let long = "x".repeat(PART_BYTES_MAX + 1);
        for wrong in [
            "",
            "n",
            "n,",
            "n,,",
            "p=tls-unique,,n=u,r=x",
            "n,,n=u",
            "n,,n=,r=x",
            "n,,n=u,r=",
            "n,,n=u=,r=x",
            "n,,n=u=4A,r=x",
            "n,a=bob,n=ada,r=x",
            "n,,n=u,r=x,tokenauth=true",
            "n,,m=1,n=u,r=x",
            &format!("n,,n={long},r=x"),
            &format!("n,,n=u,r={long}"),
        ] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
    }
}
