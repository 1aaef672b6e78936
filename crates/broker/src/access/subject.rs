//! The name in a client's certificate, written as Apache Kafka writes it (RFC 2253): `CN=pump,OU=plant,O=Example`.
//!
//! The certificate was verified before its subject is read; what cannot be read gives no name, and nobody is let in.

use std::fmt::Write;

/// Tags of the DER encoding that are met on the way.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;

/// Attributes with a short name; the others are written as numbers.
const SHORT: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// Cuts the first element off: its tag and its content.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (tag, after) = rest.split_first()?;
    let (first, mut after) = after.split_first()?;
    let mut length = usize::from(*first);
    if *first >= 0x80 {
        let count = usize::from(*first & 0x7f);
        if !(1..=3).contains(&count) {
            return None;
        }
        let (bytes, behind) = after.split_at_checked(count)?;
        length = bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
        after = behind;
    }
    let (content, behind) = after.split_at_checked(length)?;
    *rest = behind;
    Some((*tag, content))
}

fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(rest).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// The subject of a certificate; `None` when it has none or it cannot be read.
pub(crate) fn name(certificate: &[u8]) -> Option<String> {
    let mut rest = expect(&mut &*certificate, SEQUENCE)?;
    let mut body = expect(&mut rest, SEQUENCE)?;
    if body.first() == Some(&VERSION) {
        element(&mut body)?;
    }
    for _before_the_subject in ["serial number", "signature", "issuer", "validity"] {
        element(&mut body)?;
    }
    let mut subject = expect(&mut body, SEQUENCE)?;
    let mut parts = Vec::new();
    while !subject.is_empty() {
        let mut set = expect(&mut subject, SET)?;
        let mut values = Vec::new();
        while !set.is_empty() {
            let mut pair = expect(&mut set, SEQUENCE)?;
            let id = expect(&mut pair, OBJECT_ID)?;
            let (_, value) = element(&mut pair)?;
            values.push(format!("{}={}", attribute(id)?, escape(std::str::from_utf8(value).ok()?)));
        }
        parts.push(values.join("+"));
    }
    parts.reverse(); // the most particular comes first
    Some(parts.join(",")).filter(|name| !name.is_empty())
}

fn attribute(id: &[u8]) -> Option<String> {
    if let Some((_, short)) = SHORT.iter().find(|(known, _)| *known == id) {
        return Some((*short).to_owned());
    }
    let (first, rest) = id.split_first()?;
    let mut text = format!("{}.{}", first / 40, first % 40);
    let mut number: u64 = 0;
    for byte in rest {
        number = number.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            write!(text, ".{number}").ok()?;
            number = 0;
        }
    }
    Some(text)
}

fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, character) in value.char_indices() {
        let edge = (at == 0 && matches!(character, ' ' | '#')) || (character == ' ' && at + 1 == value.len());
        if edge || matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[(rcgen::DnType, &str)]) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    // STR-14
    #[test]
    fn subjects_are_written_with_the_most_particular_first() {
        use rcgen::DnType::{CommonName, CountryName, OrganizationName};
        let der = certificate(&[(CountryName, "DE"), (OrganizationName, "Example, Inc"), (CommonName, "pump 1")]);
        assert_eq!(name(&der).unwrap(), "CN=pump 1,O=Example\\, Inc,C=DE");
        assert_eq!(name(&certificate(&[])), None);
    }

    #[test]
    fn damaged_certificates_have_no_name_and_never_panic() {
        let der = certificate(&[(rcgen::DnType::CommonName, "pump")]);
        for length in 0..der.len().min(200) {
            let _ = name(&der[..length]);
        }
        for at in 0..der.len() {
            let mut damaged = der.clone();
            damaged[at] ^= 0xff;
            let _ = name(&damaged);
        }
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn numbers_stand_for_unknown_attributes() {
        assert_eq!(attribute(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]).unwrap(), "1.2.840.113549.1.9.1");
        assert_eq!(escape(" a#b+ "), "\\ a#b\\+\\ ");
    }
}
