//! What a listener is: where it accepts, what it tells clients to connect to, and how they have to prove who they are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

use super::sasl::Mechanism;
use super::tls::Tls;
use crate::Error;
use crate::settings::parse_advertise;

/// Name of the listener that is always there.
pub(crate) const FIRST: &str = "first";

/// A further listener, as it is written on the command line: `name=lan,address=0.0.0.0:9093,tls-cert=...,tls-key=...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// As logs and the address file call it; the address when absent.
    pub name: String,
    pub address: SocketAddr,
    /// Host and port told to clients; the bound address when absent.
    pub advertise: Option<(String, u16)>,
    pub tls: Option<TlsFiles>,
    pub admission: Admission,
    /// PLAIN shows the password to the network; it is offered under TLS, and elsewhere only when this says so.
    pub plain_without_tls: bool,
}

/// Whom a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Everybody; clients are who their certificate says, or anonymous.
    Anybody,
    /// Everybody; clients may log in, and are anonymous as long as they have not.
    Offered,
    /// Those who log in.
    LoggedIn,
}

/// PEM files of a listener with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Authorities of client certificates; a client without one is refused.
    pub client_authority: Option<PathBuf>,
}

impl FromStr for Listener {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Setting { name: "listener", reason };
        let (mut name, mut address, mut advertise) = (None, None, None);
        let (mut certificate, mut key, mut client_authority) = (None, None, None);
        let (mut admission, mut plain_without_tls) = (Admission::Anybody, false);
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (field, value) = pair.split_once('=').ok_or_else(|| wrong(format!("{pair:?} is not name=value")))?;
            match field.trim() {
                "name" => name = Some(value.to_owned()),
                "address" => {
                    let parsed = value.parse::<SocketAddr>();
                    address = Some(parsed.map_err(|_| wrong(format!("{value:?} is no address and port")))?);
                }
                "advertise" => advertise = Some(parse_advertise(value)?),
                "tls-cert" => certificate = Some(PathBuf::from(value)),
                "tls-key" => key = Some(PathBuf::from(value)),
                "client-ca" => client_authority = Some(PathBuf::from(value)),
                "sasl" => {
                    admission = match value {
                        "none" => Admission::Anybody,
                        "offered" => Admission::Offered,
                        "required" => Admission::LoggedIn,
                        _ => return Err(wrong(format!("sasl is none, offered or required, not {value:?}"))),
                    }
                }
                "plain-without-tls" => {
                    let parsed = value.parse();
                    plain_without_tls =
                        parsed.map_err(|_| wrong(format!("{field} is true or false, not {value:?}")))?;
                }
                other => {
                    let known = "name, address, advertise, tls-cert, tls-key, client-ca, sasl, plain-without-tls";
                    return Err(wrong(format!("{other:?} is none of {known}")));
                }
            }
        }
        let address = address.ok_or_else(|| wrong("its address is missing".to_owned()))?;
        let tls = match (certificate, key, client_authority) {
            (Some(certificate), Some(key), client_authority) => Some(TlsFiles { certificate, key, client_authority }),
            (None, None, None) => None,
            _ => return Err(wrong("TLS needs both tls-cert and tls-key".to_owned())),
        };
        let name = name.unwrap_or_else(|| address.to_string());
        if name.is_empty() || name == FIRST || name.len() > 64 {
            return Err(wrong(format!("a listener cannot be called {name:?}")));
        }
        Ok(Self { name, address, advertise, tls, admission, plain_without_tls })
    }
}

/// A listener as its connections see it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    /// Where clients of this listener are told to connect.
    pub(crate) host: StrBytes,
    pub(crate) port: i32,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) admission: Admission,
    /// How clients may log in; empty when they cannot.
    pub(crate) mechanisms: Vec<Mechanism>,
}

impl Endpoint {
    /// The listener that is always there: no TLS, and who logs in does so because it wants to have its own rights.
    pub(crate) fn first(advertise: Option<&(String, u16)>, bound: SocketAddr) -> Self {
        Self::new(FIRST, advertise, bound, None, (Admission::Offered, bound.ip().is_loopback()))
    }

    pub(crate) fn further(listener: &Listener, bound: SocketAddr) -> Result<Self, Error> {
        let tls = listener.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
        let plain = tls.is_some() || listener.plain_without_tls;
        Ok(Self::new(&listener.name, listener.advertise.as_ref(), bound, tls, (listener.admission, plain)))
    }

    fn new(
        name: &str,
        advertise: Option<&(String, u16)>,
        bound: SocketAddr,
        tls: Option<Arc<Tls>>,
        (admission, plain): (Admission, bool),
    ) -> Self {
        let (host, port) = advertise.cloned().unwrap_or_else(|| (bound.ip().to_string(), bound.port()));
        let offered =
            |mechanism: &Mechanism| admission != Admission::Anybody && (plain || *mechanism != Mechanism::Plain);
        Self {
            name: name.to_owned(),
            host: StrBytes::from_string(host),
            port: i32::from(port),
            tls,
            admission,
            mechanisms: Mechanism::ALL.into_iter().filter(offered).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-14
    #[test]
    fn listeners_are_written_in_one_line() {
        let text = "name=lan,address=0.0.0.0:9093,advertise=gw.example:19093,tls-cert=/c.pem,tls-key=/k.pem,\
                    client-ca=/ca.pem,sasl=required";
        let listener: Listener = text.parse().unwrap();
        assert_eq!(listener.advertise, Some(("gw.example".to_owned(), 19093)));
        assert_eq!(listener.tls.unwrap().client_authority, Some(PathBuf::from("/ca.pem")));
        assert!(listener.admission == Admission::LoggedIn && !listener.plain_without_tls);
        let bare: Listener = "address=127.0.0.1:9094".parse().unwrap();
        assert_eq!((bare.name.as_str(), bare.admission, bare.tls), ("127.0.0.1:9094", Admission::Anybody, None));
    }

    #[test]
    fn what_is_wrong_with_a_listener_is_said() {
        for (text, part) in [
            ("", "address is missing"),
            ("address=here", "no address"),
            ("address=127.0.0.1:1,tls-cert=/c.pem", "both"),
            ("address=127.0.0.1:1,client-ca=/c.pem", "both"),
            ("address=127.0.0.1:1,sasl=maybe", "offered or required"),
            ("address=127.0.0.1:1,plain-without-tls=maybe", "true or false"),
            ("address=127.0.0.1:1,tls=yes", "none of"),
            ("address=127.0.0.1:1,name=first", "called"),
            ("lan", "name=value"),
        ] {
            let error = text.parse::<Listener>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn plain_needs_tls_or_a_word() {
        let bound = SocketAddr::from(([127, 0, 0, 1], 9));
        let mechanisms = |text: &str| Endpoint::further(&text.parse().unwrap(), bound).unwrap().mechanisms;
        assert_eq!(mechanisms("address=127.0.0.1:9"), []);
        assert_eq!(mechanisms("address=127.0.0.1:9,sasl=required").len(), 2);
        assert!(!mechanisms("address=127.0.0.1:9,sasl=required").contains(&Mechanism::Plain));
        assert!(mechanisms("address=127.0.0.1:9,sasl=offered,plain-without-tls=true").contains(&Mechanism::Plain));
        assert!(Endpoint::first(None, bound).mechanisms.contains(&Mechanism::Plain), "passwords stay on this machine");
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 9));
        assert!(!Endpoint::first(None, everywhere).mechanisms.contains(&Mechanism::Plain));
    }
}
