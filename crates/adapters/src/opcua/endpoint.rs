//! Which of a server's endpoints is used, and how we log in there (UA-01, UA-02, UA-03).
//!
//! Pure. The endpoint must be exactly what the settings say; there is no next best one (AC-032).

use super::config::{ConnectionPlan, Login, Mode};
use super::stack::{
    AnonymousIdentityToken, ByteString, Defect, EndpointDescription, ExtensionObject, MessageSecurityMode, Security,
    SecurityPolicy, SignatureData, UAString, UserNameIdentityToken, UserTokenPolicy, UserTokenType, X509, clean, leaf,
    seal_password,
};

/// The transport we speak.
const BINARY: &str = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary";

/// The endpoint to use.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub security: Security,
    pub token: UserTokenPolicy,
    pub application_uri: String,
    /// As the server calls itself; often not reachable from here.
    pub url: String,
}

impl Mode {
    pub fn of_stack(self) -> MessageSecurityMode {
        match self {
            Self::None => MessageSecurityMode::None,
            Self::Sign => MessageSecurityMode::Sign,
            Self::SignAndEncrypt => MessageSecurityMode::SignAndEncrypt,
        }
    }
}

/// Picks the endpoint with exactly this policy, mode and way to log in.
pub fn choose(endpoints: &[EndpointDescription], plan: &ConnectionPlan) -> Result<Chosen, String> {
    let kind = match plan.login {
        Login::Anonymous => UserTokenType::Anonymous,
        Login::UserName { .. } => UserTokenType::UserName,
        Login::Certificate { .. } => UserTokenType::Certificate,
    };
    let speaks = |endpoint: &&EndpointDescription| {
        endpoint.transport_profile_uri.is_empty() || endpoint.transport_profile_uri.as_ref() == BINARY
    };
    let fits = |endpoint: &&EndpointDescription| {
        endpoint.security_policy_uri.as_ref() == plan.policy.to_uri() && endpoint.security_mode == plan.mode.of_stack()
    };
    let fitting: Vec<&EndpointDescription> = endpoints.iter().filter(speaks).filter(fits).collect();
    if fitting.is_empty() {
        let mut offered: Vec<String> = endpoints.iter().map(described).collect();
        offered.sort();
        offered.dedup();
        offered.truncate(16);
        return Err(format!(
            "it offers no endpoint with {} and {}, only {}; nothing weaker is taken by itself",
            plan.policy,
            plan.mode.as_str(),
            if offered.is_empty() { "none at all".to_owned() } else { offered.join(", ") }
        ));
    }
    let with_token = fitting.iter().find_map(|endpoint| Some((endpoint, token(endpoint, kind, plan)?)));
    let Some((endpoint, token)) = with_token else {
        return Err(format!("its endpoint with {} does not let us log in by {}", plan.policy, plan.login.as_str()));
    };
    let certificate = endpoint.server_certificate.as_ref();
    let server_certificate = match plan.policy {
        SecurityPolicy::None => ByteString::null(),
        _ => ByteString::from(leaf(certificate)),
    };
    Ok(Chosen {
        security: Security { policy: plan.policy, mode: plan.mode.of_stack(), server_certificate },
        token,
        application_uri: clean(endpoint.server.application_uri.as_ref()),
        url: clean(endpoint.endpoint_url.as_ref()),
    })
}

/// A way to log in; for a password only one that does not show it.
fn token(endpoint: &EndpointDescription, kind: UserTokenType, plan: &ConnectionPlan) -> Option<UserTokenPolicy> {
    let known = |token: &&UserTokenPolicy| {
        let uri = token.security_policy_uri.as_ref();
        let of_token = if uri.is_empty() { plan.policy } else { SecurityPolicy::from_uri(uri) };
        let sealed = of_token != SecurityPolicy::None || plan.mode == Mode::SignAndEncrypt;
        token.token_type == kind
            && of_token != SecurityPolicy::Unknown
            && (kind != UserTokenType::UserName || sealed)
            && (plan.allow_deprecated || !is_deprecated(of_token))
    };
    endpoint.user_identity_tokens.iter().flatten().find(known).cloned()
}

pub fn is_deprecated(policy: SecurityPolicy) -> bool {
    matches!(policy, SecurityPolicy::Basic128Rsa15 | SecurityPolicy::Basic256)
}

/// An endpoint in a few words.
pub fn described(endpoint: &EndpointDescription) -> String {
    let uri = endpoint.security_policy_uri.as_ref();
    let policy = clean(uri.rsplit_once('#').map_or(uri, |(_, name)| name));
    let mode = match endpoint.security_mode {
        MessageSecurityMode::None => "none",
        MessageSecurityMode::Sign => "sign",
        MessageSecurityMode::SignAndEncrypt => "sign_and_encrypt",
        MessageSecurityMode::Invalid => "?",
    };
    format!("{policy}/{mode}")
}

/// What is said in the log when the server calls itself something else than we do (UA-01).
pub fn differs(configured: &str, returned: &str) -> bool {
    let host =
        |url: &str| url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or("").to_owned();
    !host(configured).eq_ignore_ascii_case(&host(returned))
}

/// The proof of who logs in, and its signature. `nonce` is the server's newest.
pub fn identity(
    chosen: &Chosen,
    plan: &ConnectionPlan,
    password: Option<&str>,
    nonce: &ByteString,
) -> Result<(ExtensionObject, SignatureData), Defect> {
    let policy_id = chosen.token.policy_id.clone();
    match &plan.login {
        Login::Anonymous => {
            Ok((ExtensionObject::from_message(AnonymousIdentityToken { policy_id }), SignatureData::default()))
        }
        Login::UserName { username, .. } => {
            let certificate = X509::from_byte_string(&chosen.security.server_certificate).ok();
            let password = password.unwrap_or_default();
            let (password, encryption_algorithm) =
                seal_password(&chosen.security, &chosen.token, nonce, certificate.as_ref(), password)?;
            let token = UserNameIdentityToken {
                policy_id,
                user_name: UAString::from(username.as_str()),
                password,
                encryption_algorithm,
            };
            Ok((ExtensionObject::from_message(token), SignatureData::default()))
        }
        Login::Certificate { cert_file, key_file } => super::login::certificate(chosen, cert_file, key_file, nonce),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::config::tests::connection;
    use serde_json::json;

    fn endpoint(
        policy: SecurityPolicy,
        mode: MessageSecurityMode,
        tokens: &[(UserTokenType, &str)],
    ) -> EndpointDescription {
        let tokens = tokens.iter().map(|(token_type, uri)| UserTokenPolicy {
            policy_id: UAString::from("x"),
            token_type: *token_type,
            security_policy_uri: UAString::from(*uri),
            ..UserTokenPolicy::default()
        });
        EndpointDescription {
            endpoint_url: UAString::from("opc.tcp://inside:4840/"),
            security_policy_uri: UAString::from(policy.to_uri()),
            security_mode: mode,
            transport_profile_uri: UAString::from(BINARY),
            server_certificate: ByteString::from(&[0x30, 1, 1, 9, 9][..]),
            user_identity_tokens: Some(tokens.collect()),
            ..EndpointDescription::default()
        }
    }

    const ANONYMOUS: (UserTokenType, &str) = (UserTokenType::Anonymous, "");

    // UA-01, AC-032
    #[test]
    fn nothing_weaker_is_taken() {
        let none = endpoint(SecurityPolicy::None, MessageSecurityMode::None, &[ANONYMOUS]);
        let signed = endpoint(SecurityPolicy::Basic256Sha256, MessageSecurityMode::Sign, &[ANONYMOUS]);
        let sealed = endpoint(SecurityPolicy::Basic256Sha256, MessageSecurityMode::SignAndEncrypt, &[ANONYMOUS]);
        let plan = connection(&json!({}));
        let said = choose(&[none.clone(), signed.clone()], &plan).unwrap_err();
        assert!(said.contains("no endpoint with Basic256Sha256 and sign_and_encrypt"), "{said}");
        assert!(said.contains("Basic256Sha256/sign, None/none"), "{said}");
        let chosen = choose(&[none.clone(), signed, sealed], &plan).unwrap();
        assert_eq!(chosen.security.mode, MessageSecurityMode::SignAndEncrypt);
        assert_eq!(chosen.security.server_certificate.as_ref(), [0x30, 1, 1], "the first of a chain");
        let insecure = connection(&json!({"security_policy": "None", "allow_insecure": true}));
        assert!(choose(&[none], &insecure).is_ok());
        assert!(choose(&[], &insecure).unwrap_err().contains("none at all"));
    }

    // UA-03
    #[test]
    fn a_password_goes_only_where_it_is_sealed() {
        // the settings refuse this already; here it is refused again, where the token is picked
        let user = json!({"login": {"type": "username", "username": "ada", "password": {"secret": "p"}}});
        let plan = ConnectionPlan { policy: SecurityPolicy::None, mode: Mode::None, ..connection(&user) };
        let clear = endpoint(SecurityPolicy::None, MessageSecurityMode::None, &[(UserTokenType::UserName, "")]);
        assert!(choose(&[clear], &plan).unwrap_err().contains("does not let us log in by username"));
        let policy = SecurityPolicy::Basic256Sha256.to_uri();
        let tokens =
            [(UserTokenType::UserName, SecurityPolicy::Basic128Rsa15.to_uri()), (UserTokenType::UserName, policy)];
        let sealed = endpoint(SecurityPolicy::None, MessageSecurityMode::None, &tokens);
        let chosen = choose(&[sealed], &plan).unwrap();
        assert_eq!(chosen.token.security_policy_uri.as_ref(), policy);
    }

    // UA-01
    #[test]
    fn a_server_that_calls_itself_something_else_is_noticed() {
        assert!(differs("opc.tcp://10.0.0.5:4840", "opc.tcp://plc-7:4840/x"));
        assert!(!differs("opc.tcp://PLC-7:4840/", "opc.tcp://plc-7:4840/x"));
    }
}
