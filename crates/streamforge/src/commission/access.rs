//! How to get at a source: options that become the settings an adapter has, and are checked by the same functions.
//!
//! Invariant: a password is named, never given (G-10). It comes from the secrets of the gateway's data folder.

use std::path::PathBuf;

use adapters::mqtt;
use adapters::opcua::config::{Login, POLICIES};
use adapters::opcua::{self, trust};
use clap::Args;
use clap::builder::PossibleValuesParser;
use config::Problem;
use gateway::children::Folders;
use serde_json::{Map, Value, json};

use crate::exit::{Failure, USAGE};
use crate::{check, up};

/// Options about the way in.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Way in")]
pub(crate) struct Access {
    /// Log in as this user
    #[arg(long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Name of the secret that holds the password, as stored by `streamforge ctl secret set NAME`
    #[arg(long, value_name = "NAME", requires = "username")]
    pub(crate) password_secret: Option<String>,
    /// Certificate to log in with: of a user for OPC UA (DER or PEM), of the client for TLS (PEM)
    #[arg(long, value_name = "PATH", requires = "key_file")]
    pub(crate) cert_file: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "PATH", requires = "cert_file")]
    pub(crate) key_file: Option<PathBuf>,
    /// MQTT: certificate of the authority that signed the broker's, PEM; the system's authorities when absent
    #[arg(long, value_name = "PATH")]
    pub(crate) ca_file: Option<PathBuf>,
    /// MQTT: the name the broker's certificate was made for, where it is another than the host
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// MQTT: client id; one of its own when absent, so that no running adapter is pushed out
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// MQTT: only this version of the protocol
    #[arg(long, value_name = "VERSION", value_parser = ["auto", "5", "3.1.1"], default_value = "auto")]
    pub(crate) mqtt_version: String,
    /// MQTT: send a password although nothing is encrypted
    #[arg(long)]
    pub(crate) allow_insecure: bool,
    /// OPC UA: security policy, nothing weaker is taken by itself [default: Basic256Sha256]
    #[arg(long, value_name = "POLICY", value_parser = PossibleValuesParser::new(POLICIES))]
    pub(crate) security_policy: Option<String>,
    /// OPC UA: sign alone, or encrypt as well [default: sign_and_encrypt]
    #[arg(long, value_name = "MODE", value_parser = ["none", "sign", "sign_and_encrypt"])]
    pub(crate) security_mode: Option<String>,
    /// OPC UA: connect where the server says, not where the address says
    #[arg(long)]
    pub(crate) follow_endpoint_url: bool,
    /// OPC UA: the server's certificate may have been made for another host
    #[arg(long)]
    pub(crate) no_host_name_check: bool,
    /// Seconds for connecting, and for each answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) timeout_s: u64,
    /// Data folder of the gateway, with its secrets and certificates; the user's own when absent
    #[arg(long, env = "SF_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl Access {
    fn folders(&self) -> Result<Folders, Failure> {
        Ok(Folders::new(&up::data_dir(self.data_dir.clone(), false)?))
    }

    /// The password, from the secrets of the gateway.
    fn password(&self, folders: &Folders) -> Result<Option<String>, Failure> {
        let Some(name) = &self.password_secret else { return Ok(None) };
        let found = gateway::secrets::load(&folders.secrets(), std::slice::from_ref(name));
        let found = found.map_err(|error| {
            Failure::new(
                USAGE,
                format!("{error}; the data folder is {}, --data-dir names another", folders.data.display()),
            )
        })?;
        Ok(found.get(name).map(|secret| secret.reveal().to_owned()))
    }

    /// Settings of an OPC UA adapter without points.
    pub(crate) fn opcua_settings(&self, url: &str) -> Map<String, Value> {
        let mut settings = Map::new();
        let mut put = |key: &str, value: Value| drop(settings.insert(key.to_owned(), value));
        put("url", url.into());
        if let Some(policy) = &self.security_policy {
            put("security_policy", policy.as_str().into());
            // who writes it on a command line knows what it means
            if policy == "None" {
                put("allow_insecure", true.into());
            }
        }
        if let Some(mode) = &self.security_mode {
            put("security_mode", mode.as_str().into());
        }
        if let Some(username) = &self.username {
            let secret = self.password_secret.as_ref().map_or(Value::Null, |name| json!({ "secret": name }));
            put("login", json!({ "type": "username", "username": username, "password": secret }));
        } else if let (Some(cert_file), Some(key_file)) = (&self.cert_file, &self.key_file) {
            put("login", json!({ "type": "certificate", "cert_file": cert_file, "key_file": key_file }));
        }
        if self.follow_endpoint_url {
            put("follow_endpoint_url", true.into());
        }
        if self.no_host_name_check {
            put("check_host_name", false.into());
        }
        settings
    }

    /// Who looks at an OPC UA server.
    pub(crate) fn opcua(&self, url: &str) -> Result<opcua::visit::Guest, Failure> {
        let mut settings = self.opcua_settings(url);
        settings.insert("connect_timeout_ms".to_owned(), (self.timeout_s * 1000).into());
        let plan = opcua::config::connection(&Value::Object(settings)).map_err(|problems| wrong(&problems))?;
        let folders = self.folders()?;
        let password = match plan.login {
            Login::UserName { .. } => self.password(&folders)?,
            _ => None,
        };
        Ok(opcua::visit::Guest {
            plan,
            password,
            folders: trust::Folders::new(&folders.state()),
            host_name: adapters::process::host_name(),
            gateway_id: gateway_id(&folders),
        })
    }

    /// Settings of an MQTT adapter without subscriptions.
    pub(crate) fn mqtt_settings(&self, url: &str) -> Map<String, Value> {
        let mut settings = Map::new();
        let mut put = |key: &str, value: Value| drop(settings.insert(key.to_owned(), value));
        let secure = url.starts_with("mqtts") || url.starts_with("ssl");
        put("url", url.into());
        if !secure && (self.allow_insecure || self.password_secret.is_none()) {
            put("allow_insecure", true.into());
        }
        let mut tls = Map::new();
        for (key, path) in [("ca_file", &self.ca_file), ("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
            if let Some(path) = path {
                tls.insert(key.to_owned(), path.to_string_lossy().into());
            }
        }
        if let Some(name) = &self.server_name {
            tls.insert("server_name".to_owned(), name.as_str().into());
        }
        if !tls.is_empty() {
            put("tls", Value::Object(tls));
        }
        if self.mqtt_version != "auto" {
            put("version", self.mqtt_version.as_str().into());
        }
        if let Some(username) = &self.username {
            put("username", username.as_str().into());
        }
        if let Some(name) = &self.password_secret {
            put("password", json!({ "secret": name }));
        }
        settings
    }

    /// Who looks at a broker.
    pub(crate) fn mqtt(&self, url: &str) -> Result<mqtt::visit::Guest, Failure> {
        let mut settings = self.mqtt_settings(url);
        settings.insert("connect_timeout_ms".to_owned(), (self.timeout_s * 1000).into());
        if let Some(id) = &self.client_id {
            settings.insert("client_id".to_owned(), id.as_str().into());
        }
        let plan = mqtt::config::broker(&Value::Object(settings)).map_err(|problems| wrong(&problems))?;
        let password = self.password(&self.folders()?)?;
        Ok(mqtt::visit::Guest { plan, password })
    }
}

/// The name of the gateway of a data folder, as its last good document has it.
pub(super) fn gateway_id(folders: &Folders) -> String {
    let good = std::fs::read_to_string(folders.config().join("gateway.last-good")).ok();
    let document = good.and_then(|text| config::parse(&text, &check::catalog()).ok());
    document.map_or_else(|| "gateway".to_owned(), |document| document.gateway_id)
}

/// Options that do not go together, each with its option in the place of its pointer.
fn wrong(problems: &[Problem]) -> Failure {
    let line = |problem: &Problem| {
        let option = match problem.pointer.as_str() {
            "/url" => "the address".to_owned(),
            "/login/password" | "/password" => "--password-secret".to_owned(),
            "/login" => "a login".to_owned(),
            "/version" => "--mqtt-version".to_owned(),
            pointer => {
                let name = pointer.trim_start_matches("/tls").trim_start_matches('/');
                format!("--{}", name.replace(['_', '/'], "-"))
            }
        };
        let hint = if problem.hint.is_empty() { String::new() } else { format!(" ({})", problem.hint) };
        format!("{option} {}{hint}", problem.message)
    };
    Failure::new(USAGE, problems.iter().map(line).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    // UA-02, UA-03, MQ-10, G-10: the adapter's own rules hold for a look as well
    #[test]
    fn what_an_adapter_would_refuse_is_refused_here() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access {
            mqtt_version: "auto".to_owned(),
            timeout_s: 5,
            data_dir: Some(folder.path().to_owned()),
            ..Access::default()
        };
        assert!(access.opcua("opc.tcp://plc").is_ok() && access.mqtt("mqtt://broker").is_ok());
        let said = access.opcua("http://plc").unwrap_err();
        assert!(said.code == USAGE && said.message.starts_with("the address is no opc.tcp://"), "{}", said.message);
        let ada = Access { username: Some("ada".to_owned()), ..access.clone() };
        assert!(ada.opcua("opc.tcp://plc").unwrap_err().message.starts_with("--password-secret is missing"));
        let named = Access { password_secret: Some("plc".to_owned()), ..ada };
        let clear = Access { security_policy: Some("None".to_owned()), ..named.clone() };
        assert!(clear.opcua("opc.tcp://plc").unwrap_err().message.starts_with("a login by password"));
        assert!(named.opcua("opc.tcp://plc").unwrap_err().message.contains("ctl secret set plc"));
        let insecure = named.mqtt("mqtt://broker").unwrap_err();
        assert!(insecure.message.starts_with("the address would send everything readable"), "{}", insecure.message);
    }
}
