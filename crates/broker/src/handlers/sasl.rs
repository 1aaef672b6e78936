//! SaslHandshake and SaslAuthenticate: who a client is.
//!
//! All failures are answered alike and late, whatever was wrong; the log knows more. `access/sasl.rs` has the steps.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, sleep_until};

use crate::access::peer::Peer;
use crate::access::sasl::{Exchange, Step};
use crate::access::scram;
use crate::core::Core;
use crate::dispatch::Call;
use crate::limits::FAILED_LOGIN_DELAY;

/// What everybody hears whose login fails.
const REFUSED: &str = "Authentication failed: invalid credentials";
/// What a user hears who logged in too often.
const CROWDED: &str = "Authentication failed: this user has too many connections";

pub(crate) async fn handshake(core: Arc<Core>, call: Call, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
    let offered = &call.peer.endpoint.mechanisms;
    let names = offered.iter().map(|mechanism| StrBytes::from_static_str(mechanism.name())).collect();
    let answer = SaslHandshakeResponse::default().with_mechanisms(names);
    let refused = |error: ResponseError| {
        core.metrics.count_error(call.api, error.code());
        error.code()
    };
    if offered.is_empty() {
        return answer.with_error_code(refused(ResponseError::IllegalSaslState));
    }
    let chosen = offered.iter().find(|mechanism| *mechanism.name() == *request.mechanism);
    let Some(chosen) = chosen else {
        return answer.with_error_code(refused(ResponseError::UnsupportedSaslMechanism));
    };
    if call.version == 0 && call.peer.admitted() {
        // bare tokens may follow only where nothing else can
        return answer.with_error_code(refused(ResponseError::IllegalSaslState));
    }
    let mut login = call.peer.login();
    login.exchange = Exchange::Chosen(*chosen);
    login.bare = call.version == 0;
    answer
}

pub(crate) async fn authenticate(
    core: Arc<Core>,
    call: Call,
    request: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    let answer = SaslAuthenticateResponse::default();
    match step(&core, &call.peer, &request.auth_bytes).await {
        Ok(Some(message)) => {
            let lifetime = core.settings.login_lifetime.filter(|_| call.peer.named());
            let lifetime = lifetime.and_then(|lifetime| i64::try_from(lifetime.as_millis()).ok());
            answer.with_auth_bytes(message).with_session_lifetime_ms(lifetime.unwrap_or(0))
        }
        Ok(None) => answer
            .with_error_code(ResponseError::IllegalSaslState.code())
            .with_error_message(Some(StrBytes::from_static_str("choose a mechanism first"))),
        Err(Refused(message)) => {
            core.metrics.count_error(call.api, ResponseError::SaslAuthenticationFailed.code());
            answer
                .with_error_code(ResponseError::SaslAuthenticationFailed.code())
                .with_error_message(Some(StrBytes::from_static_str(message)))
        }
    }
}

/// A login failed, and what the client hears of it; the connection serves nothing more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused(&'static str);

/// Why a login failed.
enum Why {
    Wrong { user: String, reason: String },
    Crowded,
}

/// Takes one message of a login. `Ok(None)` when no mechanism was chosen.
pub(crate) async fn step(core: &Core, peer: &Peer, message: &[u8]) -> Result<Option<Bytes>, Refused> {
    let late = Instant::now() + FAILED_LOGIN_DELAY;
    let why = match take(core, peer, message).await {
        Ok(answer) => return Ok(answer),
        Err(why) => why,
    };
    peer.fail();
    match why {
        Why::Crowded => Err(Refused(CROWDED)),
        Why::Wrong { user, reason } => {
            core.metrics.logins_failed.inc();
            let (address, listener) = (peer.address, peer.endpoint.name.as_str());
            tracing::warn!(?user, %address, listener, reason, "a login failed");
            // the same for everybody and after the same time, so that neither tells what was wrong
            sleep_until(late).await;
            Err(Refused(REFUSED))
        }
    }
}

async fn take(core: &Core, peer: &Peer, message: &[u8]) -> Result<Option<Bytes>, Why> {
    let wrong = |user: String, reason: &str| Why::Wrong { user, reason: reason.to_owned() };
    let nonce = scram::nonce().ok_or_else(|| wrong(String::new(), "there is no randomness"))?;
    let step = peer.login().exchange.step(message, &nonce, |hash, user| core.access.credential(hash, user));
    let (user, last) = match step {
        Step::Challenge(challenge) => return Ok(Some(challenge.into())),
        Step::Known { user, last } => (user, last),
        Step::Password { user, password } => {
            if !fits(core, &user, password).await {
                return Err(wrong(user, "name and password do not fit"));
            }
            (user, Vec::new())
        }
        Step::Failed { user, why } => return Err(wrong(user, &why.to_string())),
        Step::OutOfTurn => {
            peer.fail();
            return Ok(None);
        }
    };
    if !peer.admit(&user, core.settings.login_lifetime) {
        return Err(wrong(user, "somebody else logged in before on this connection"));
    }
    if !core.seat(peer) {
        return Err(Why::Crowded);
    }
    core.metrics.logins.inc();
    tracing::debug!(user, address = %peer.address, listener = peer.endpoint.name, "a client logged in");
    Ok(Some(last.into()))
}

/// Hashing a password takes milliseconds of a processor: few at a time, and not where connections are served.
async fn fits(core: &Core, user: &str, password: Vec<u8>) -> bool {
    if let Some(fits) = core.access.component(user, &password) {
        return fits; // random passwords need no slow hash
    }
    let Ok(_permit) = core.password_checks.acquire().await else { return false };
    let (hash, credential) = core.access.password_credential(user);
    let check = tokio::task::spawn_blocking(move || credential.fits(hash, &password));
    check.await.unwrap_or(false)
}
