//! The API of the gateway that runs on this machine, for commands about what only a gateway knows.
//!
//! A running gateway leaves its address and a token in its data folder (`run/api.json`); whoever may read it may ask.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gateway::api::guard::{self, Access};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::up;

/// How long an answer may take; commands that take longer are asked after.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Which gateway, and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct LocalTarget {
    /// Data folder of the gateway; the user's own or the demo's when absent
    #[arg(long, global = true, env = "SF_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A gateway that can be asked.
#[derive(Debug)]
pub(crate) struct Local {
    access: Access,
    client: Client,
}

impl LocalTarget {
    /// The gateway of the data folder.
    pub(crate) fn open(&self) -> Result<Local, Failure> {
        let folders = match &self.data_dir {
            Some(folder) => vec![folder.clone()],
            None => [false, true].into_iter().filter_map(|demo| up::data_dir(None, demo).ok()).collect(),
        };
        let found = folders.iter().find_map(|folder| guard::access(folder));
        let access = found.ok_or_else(|| {
            let names: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            let names = names.join(" or ");
            let hint = "`streamforge up` starts one; --data-dir names the folder of another one";
            Failure::new(TRY_AGAIN, format!("no gateway runs on {names}, or its run/api.json cannot be read; {hint}"))
        })?;
        let client = Client::builder().no_proxy().timeout(ANSWER_MAX).build();
        let client = client.map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
        Ok(Local { access, client })
    }
}

impl Local {
    /// Asks for what is at a path below `/api/v1`.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let mut url = reqwest::Url::parse(&self.url(path)).map_err(|error| Failure::from_error(TRY_AGAIN, &error))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(self.client.get(url)).await
    }

    /// Sends a command to a path below `/api/v1`.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(self.client.post(self.url(path)).json(body)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.access.url)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let sent = request.bearer_auth(self.access.token.reveal()).send().await;
        let answer = sent.map_err(|error| {
            let text = daemon::report(&error);
            let hint = "is it running? `streamforge up` starts one";
            Failure::new(TRY_AGAIN, format!("the gateway at {} does not answer: {text}; {hint}", self.access.url))
        })?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|error| {
            Failure::new(TRY_AGAIN, format!("the gateway's answer cannot be read: {}", daemon::report(&error)))
        })?;
        if status.is_success() {
            return Ok(body);
        }
        let later = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let detail = body["detail"].as_str().map_or_else(|| format!("the gateway answers {status}"), str::to_owned);
        Err(Failure::new(if later { TRY_AGAIN } else { USAGE }, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_does_not_run_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let target = LocalTarget { data_dir: Some(dir.path().to_owned()), json: false };
        let failure = target.open().unwrap_err();
        assert_eq!(failure.code, TRY_AGAIN);
        assert!(
            failure.message.contains(&dir.path().display().to_string()) && failure.message.contains("streamforge up")
        );
    }
}
