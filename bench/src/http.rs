//! The smallest HTTP client that can ask a process on this machine for its figures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The body of a GET; anything but 200 is an error.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer is neither chunked nor kept alive
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("{path}: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

/// Sum of all samples of a metric, over its labels.
pub fn metric(text: &str, name: &str) -> f64 {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let series = series.split('{').next()?;
        (series == name).then(|| value.parse::<f64>().ok())?
    });
    samples.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_over_their_labels() {
        let text = "# HELP sf_records x\nsf_records_total{quality=\"GOOD\"} 5\nsf_records_total{quality=\"BAD\"} 2\nsf_records_totals 9\n";
        assert_eq!(metric(text, "sf_records_total"), 7.0);
        assert_eq!(metric(text, "absent"), 0.0);
    }
}
