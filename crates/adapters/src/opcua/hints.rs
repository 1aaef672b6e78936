//! What to do about a refusal of a server, for a person who sees it once (ui 1.4).
//!
//! Pure. Never says to switch a check off (UA-06).

use super::stack::{EndpointDescription, MessageSecurityMode, SecurityPolicy, UserTokenType, clean};

/// The name of the status in what a server said: `BadUserAccessDenied (locked); ...`.
pub fn code_in(what: &str) -> Option<&str> {
    let end = what.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(what.len());
    Some(&what[..end]).filter(|code| code.starts_with("Bad") && code.len() > 3)
}

/// What a refusal in a stage means.
pub fn of_status(code: &str, own_certificate: &str, vendor: &str) -> String {
    match code {
        "BadCertificateUntrusted"
        | "BadSecurityChecksFailed"
        | "BadCertificateInvalid"
        | "BadNoValidCertificates"
        | "BadCertificateChainIncomplete"
        | "BadCertificateIssuerUseNotAllowed" => {
            format!("the server must trust us: our certificate is {own_certificate}\n{}", where_to_trust(vendor))
        }
        "BadCertificateTimeInvalid" | "BadInvalidTimestamp" | "BadCertificateIssuerTimeInvalid" => {
            "check the clocks of gateway and server: one of them is wrong, or a certificate has ended".to_owned()
        }
        "BadCertificateUriInvalid" => {
            "our certificate names another application: delete own/cert.der, it is made anew, and trust it again"
                .to_owned()
        }
        "BadCertificateHostNameInvalid" => {
            "the server's certificate was made for another name: use that name in the address".to_owned()
        }
        "BadUserAccessDenied" | "BadIdentityTokenRejected" | "BadIdentityTokenInvalid" => {
            "look at user and password at the server, and whether the user may connect; after a few wrong tries \
             servers lock an account"
                .to_owned()
        }
        "BadSecurityPolicyRejected" | "BadSecurityModeRejected" => {
            "take one of the endpoints listed above: --security-policy, --security-mode".to_owned()
        }
        "BadTooManySessions" | "BadMaxConnectionsReached" | "BadTcpNotEnoughResources" | "BadResourceUnavailable" => {
            "the server has no room for another client: end one, or raise its limit".to_owned()
        }
        "BadTcpEndpointUrlInvalid" | "BadServerUriInvalid" => {
            "the server does not know this path: use the address that it lists".to_owned()
        }
        "BadTcpServerTooBusy" | "BadServerHalted" | "BadShutdown" => {
            "the server is busy, starting or stopping: try again in a minute".to_owned()
        }
        "BadNodeIdUnknown" | "BadNodeIdInvalid" => {
            "the node is not there: its namespace has changed, or it was removed; browse again".to_owned()
        }
        "BadNotReadable" => "the server does not let anybody read this node".to_owned(),
        _ => String::new(),
    }
}

/// Where an engineer tells a server to trust a client; the steps of the one it is, of all where nobody knows.
fn where_to_trust(vendor: &str) -> String {
    let known: [(&[&str], &str); 4] = [
        (
            &["inductive", "ignition"],
            "Ignition: Config > OPC UA > Security > Server > Quarantined Certificates > Trust",
        ),
        (
            &["kepware", "kepserver", "thingworx", "ptc"],
            "Kepware: OPC UA Configuration > Trusted Clients > our certificate > Trust",
        ),
        (
            &["siemens", "simatic"],
            "Siemens S7-1500: import it in TIA Portal under Security > Certificate manager > Trusted certificates, \
             add it to the trusted clients of the PLC's OPC UA server, load the PLC",
        ),
        (&["prosys"], "Prosys: Certificates tab > our certificate > Trust"),
    ];
    let vendor = vendor.to_lowercase();
    let fits = |words: &&[&str]| words.iter().any(|word| vendor.contains(word));
    let mut lines: Vec<&str> = known.iter().filter(|(words, _)| fits(words)).map(|(_, line)| *line).collect();
    if lines.is_empty() {
        lines = known.iter().map(|(_, line)| *line).collect();
        lines.push(
            "others: it lies among the rejected certificates of the server after this try; move it to the trusted",
        );
    }
    lines.join("\n")
}

/// What to ask for instead, where the endpoint that was asked for is not offered: the strongest of those there are.
pub fn instead(endpoints: &[EndpointDescription]) -> String {
    let strength = |endpoint: &&EndpointDescription| {
        let policy = SecurityPolicy::from_uri(endpoint.security_policy_uri.as_ref());
        let by_policy = match policy {
            SecurityPolicy::Aes256Sha256RsaPss => 4,
            SecurityPolicy::Aes128Sha256RsaOaep | SecurityPolicy::Basic256Sha256 => 3,
            SecurityPolicy::None => 1,
            _ => 0, // deprecated, or not known to us
        };
        (by_policy, endpoint.security_mode == MessageSecurityMode::SignAndEncrypt)
    };
    let Some(best) = endpoints.iter().filter(|endpoint| strength(endpoint).0 > 0).max_by_key(strength) else {
        return "it offers nothing that is safe today: have a better policy switched on at the server".to_owned();
    };
    let policy = policy_name(best);
    if policy == "None" {
        return "have a security policy switched on at the server; or, where the network is trusted and everybody may \
                read and change what is sent, --security-policy None"
            .to_owned();
    }
    let mode = if best.security_mode == MessageSecurityMode::Sign { " --security-mode sign" } else { "" };
    format!("pick one that is listed: --security-policy {policy}{mode}")
}

/// The last part of the address of a policy.
pub fn policy_name(endpoint: &EndpointDescription) -> String {
    let uri = endpoint.security_policy_uri.as_ref();
    clean(uri.rsplit_once('#').map_or(uri, |(_, name)| name))
}

/// How one may log in at an endpoint.
pub fn logins(endpoint: &EndpointDescription) -> String {
    let mut names: Vec<&str> = endpoint
        .user_identity_tokens
        .iter()
        .flatten()
        .map(|token| match token.token_type {
            UserTokenType::Anonymous => "anonymous",
            UserTokenType::UserName => "username",
            UserTokenType::Certificate => "certificate",
            UserTokenType::IssuedToken => "issued token",
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "nobody may log in".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::stack::UAString;

    // ui 1.4, row Authorise; UA-06
    #[test]
    fn a_refusal_says_what_to_do_and_never_to_look_away() {
        assert_eq!(code_in("BadUserAccessDenied (locked); x"), Some("BadUserAccessDenied"));
        assert_eq!(code_in("it offers no endpoint"), None);
        let trust = of_status("BadCertificateUntrusted", "/d/own/cert.der (aa)", "urn:kepware:server");
        assert!(trust.contains("/d/own/cert.der (aa)") && trust.contains("Trusted Clients"), "{trust}");
        assert!(!trust.contains("Ignition"), "only the one it is: {trust}");
        let unknown = of_status("BadSecurityChecksFailed", "x", "urn:x");
        assert!(["Ignition", "Kepware", "Siemens", "others"].iter().all(|name| unknown.contains(name)), "{unknown}");
        assert!(of_status("BadCertificateTimeInvalid", "", "").contains("clocks"));
        assert!(of_status("BadIdentityTokenRejected", "", "").contains("password"));
        assert!(of_status("BadNodeIdUnknown", "", "").contains("browse again"));
        assert_eq!(of_status("BadUnexpectedError", "", ""), "");
    }

    fn endpoint(policy: SecurityPolicy, mode: MessageSecurityMode) -> EndpointDescription {
        EndpointDescription {
            security_policy_uri: UAString::from(policy.to_uri()),
            security_mode: mode,
            ..EndpointDescription::default()
        }
    }

    // ui 1.4: policy not offered: pick a listed one
    #[test]
    fn the_strongest_that_is_listed_is_named() {
        use MessageSecurityMode::{None, Sign, SignAndEncrypt};
        let weak = endpoint(SecurityPolicy::None, None);
        let old = endpoint(SecurityPolicy::Basic128Rsa15, SignAndEncrypt);
        let signed = endpoint(SecurityPolicy::Basic256Sha256, Sign);
        let sealed = endpoint(SecurityPolicy::Aes128Sha256RsaOaep, SignAndEncrypt);
        let all = [weak.clone(), old.clone(), signed.clone(), sealed];
        assert_eq!(instead(&all), "pick one that is listed: --security-policy Aes128_Sha256_RsaOaep");
        assert!(instead(&all[..3]).ends_with("--security-policy Basic256Sha256 --security-mode sign"));
        assert!(instead(&[weak]).contains("--security-policy None"));
        assert!(instead(&[old]).contains("nothing that is safe"));
        assert_eq!(logins(&endpoint(SecurityPolicy::None, None)), "nobody may log in");
    }
}
