//! A webhook of the user's own: JSON, signed.

use super::super::state::Item;
use super::{Letterhead, Request, text};

/// Header of the signature: `v1=` and HMAC-SHA256 over the time of `X-SF-Timestamp`, a dot and the body, in hexadecimal.
const SIGNATURE: &str = "X-SF-Signature";

/// The request; `sent_at_s` is the time of sending in seconds since 1970.
pub fn request(item: &Item, head: &Letterhead, signing_key: Option<&str>, sent_at_s: i64) -> Request {
    let mut request = Request::json(&text::document(item, head));
    let timestamp = sent_at_s.to_string();
    if let Some(key) = signing_key {
        request.headers.push((SIGNATURE, format!("v1={}", sign(key, &timestamp, &request.body))));
    }
    request.headers.push(("X-SF-Delivery", item.id.clone()));
    request.headers.push(("X-SF-Timestamp", timestamp));
    request
}

fn sign(key: &str, timestamp: &str, body: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
    let mut context = aws_lc_rs::hmac::Context::with_key(&key);
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    super::super::router::hex(context.sign().as_ref())
}

#[cfg(test)]
mod tests {
    use super::super::super::notice::Transition;
    use super::super::samples;
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256() {
        // printf "what do ya want for nothing?." | openssl dgst -sha256 -hmac Jefe
        assert_eq!(
            sign("Jefe", "what do ya want for nothing?", b""),
            "38c6c848e5a2f57451f5095df6370d5c9b83175b99df46422b34960c28def6ae"
        );
    }

    #[test]
    fn the_body_is_data_and_the_headers_let_the_receiver_dedupe() {
        let item = samples::item(samples::notice(), Transition::Activated);
        let request = request(&item, &samples::letterhead(), Some("key"), 1_772_805_910);
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((body["schema"].as_i64(), body["event"].as_str()), (Some(1), Some("alarm.activated")));
        assert_eq!(body["alarm"]["value"], 92.1);
        assert_eq!(body["alarm"]["activated_at"], "2026-03-06T14:05:09.000Z");
        assert_eq!(body["links"]["alarms"], "https://console.example/alarms");
        let header = |name: &str| request.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone());
        assert_eq!(header("X-SF-Delivery"), Some(item.id));
        assert_eq!(header("X-SF-Timestamp").as_deref(), Some("1772805910"));
        assert!(header("X-SF-Signature").unwrap().starts_with("v1="));
    }
}
