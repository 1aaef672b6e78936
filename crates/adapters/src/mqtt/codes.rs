//! What a broker's codes mean, and what to do (ui 1.4): of the answer to the greeting, and of the answer to a subscription.
//!
//! Pure. Two versions, two tables: in 3.1.1 a code is one of five, in version 5 one of many.

use super::packet::Version;

/// Words and what to do for the code of a refused greeting.
pub fn greeting(version: Version, code: u8) -> (&'static str, &'static str) {
    match version {
        Version::V311 => old_greeting(code),
        // a broker of old answers in its own version
        Version::V5 if code < 0x80 => old_greeting(code),
        Version::V5 => new_greeting(code),
    }
}

const LOGIN: &str = "look at user and password, and whether the broker's access list lets this user in";
const CLIENT_ID: &str = "the broker wants a certain client id: --client-id, in the adapter client_id";

fn old_greeting(code: u8) -> (&'static str, &'static str) {
    match code {
        1 => ("it does not speak this version of the protocol", "try the other one: --mqtt-version 5 or 3.1.1"),
        2 => ("it does not take the client id", CLIENT_ID),
        3 => ("it is not available", "its service is not running behind the port: look at the broker"),
        4 => ("user name or password is wrong", LOGIN),
        5 => ("not authorised", LOGIN),
        _ => ("it refuses with a code that the standard does not have", "look at the broker's log"),
    }
}

fn new_greeting(code: u8) -> (&'static str, &'static str) {
    match code {
        0x80 => ("it refuses and does not say why", "look at the broker's log"),
        0x81 => ("it finds our greeting malformed", "something between changes what is sent, or it is no MQTT broker"),
        0x82 => ("it finds that our greeting breaks the protocol", "try the other version: --mqtt-version 3.1.1"),
        0x83 => ("it refuses for a reason of its own", "look at the broker's log"),
        0x84 => ("it does not speak version 5", "try the other one: --mqtt-version 3.1.1"),
        0x85 => ("it does not take the client id", CLIENT_ID),
        0x86 => ("user name or password is wrong", LOGIN),
        0x87 => ("not authorised", LOGIN),
        0x88 => ("it is not available", "its service is not running behind the port: look at the broker"),
        0x89 => ("it is busy", "try again in a minute; it has too many clients"),
        0x8A => ("we are banned", "somebody has put this client or address on a list: ask who runs the broker"),
        0x8C => ("it wants another way to log in", "only user and password, and certificates, are possible here"),
        0x90 => ("it does not take the topic of our last will", "leave status_topic out, or change it"),
        0x95 => ("our greeting is too large for it", "use a shorter user, password or client id"),
        0x97 => ("a quota is used up", "the broker or the account has a limit of clients or messages: raise it"),
        0x99 => ("it does not take the payload of our last will", "leave status_topic out"),
        0x9A => ("it keeps no messages", "leave status_topic out"),
        0x9B => ("it does not take the quality of service of our last will", "leave status_topic out"),
        0x9C => ("it names another broker for now", "use that one: redirections are not followed"),
        0x9D => ("it has moved", "use the new address: redirections are not followed"),
        0x9F => ("we connect too often", "wait a minute; something may connect again and again with this user"),
        _ => ("it refuses with a code that the standard does not have", "look at the broker's log"),
    }
}

/// What to do for a refused subscription, by the words the code was read as: `0x87 not authorized`.
pub fn subscription(code: &str) -> &'static str {
    match code.split(' ').next().unwrap_or_default() {
        "0x80" | "0x83" | "0x87" => "the broker's access list must let this user read the filter",
        "0x8F" => "the broker does not like the filter: is it written as its documentation says?",
        "0x91" => "try again: the broker still has a subscription of ours in work",
        "0x97" => "a quota of the broker or the account is used up",
        "0x9E" => "shared subscriptions ($share/...) are switched off at the broker",
        "0xA2" => "filters with + and # are switched off at the broker: name the topics",
        _ => "look at the broker's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // ui 1.4, row Authorise: every code of both standards has words of its own and something to do
    #[test]
    fn every_code_has_words() {
        let unknown = "it refuses with a code that the standard does not have";
        let new = [
            0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B,
            0x9C, 0x9D, 0x9F,
        ];
        for code in new {
            let (words, hint) = greeting(Version::V5, code);
            assert!(words != unknown && !hint.is_empty(), "{code:#x}");
        }
        for code in 1..=5 {
            assert!(greeting(Version::V311, code).0 != unknown, "{code}");
            assert_eq!(greeting(Version::V311, code), greeting(Version::V5, code));
        }
        assert_eq!(greeting(Version::V5, 0xFF).0, unknown);
        assert_eq!(greeting(Version::V5, 0x87).0, "not authorised");
        assert!(subscription("0x87 not authorized").contains("access list"));
        assert!(subscription("0xA2 wildcard subscriptions not supported").contains("name the topics"));
    }
}
