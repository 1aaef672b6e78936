//! One request over HTTP/1.1 without a client library: the tests are synchronous.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Status code and body.
pub(crate) fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    ask(address, &format!("GET {path}"), "")
}

/// Status code and body of the answer to a JSON body.
pub(crate) fn post(address: &str, path: &str, body: &str) -> Result<(u16, String), String> {
    ask(address, &format!("POST {path}"), body)
}

fn ask(address: &str, what: &str, body: &str) -> Result<(u16, String), String> {
    let target = address.parse().map_err(|_| format!("{address:?} is not an address"))?;
    let talk = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&target, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let head = format!("Host: {address}\r\nConnection: close\r\nContent-Length: {}", body.len());
        write!(stream, "{what} HTTP/1.1\r\n{head}\r\n\r\n{body}")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = talk().map_err(|error| format!("{what} at {address}: {error}"))?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("a torn answer")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status code")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|_| size > 0) else { break };
        whole.push_str(chunk);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
