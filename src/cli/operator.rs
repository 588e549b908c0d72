//! How a command asks a running gateway: over its admin listener, found as `kas402 health` finds it.
//!
//! Blocking, one connection per question, and never longer than its patience.

use super::health;
use crate::{
    admin::Listen,
    config::{self, Compiled, Environment},
    runtime::store,
    store::Reading,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    io::{self, Read, Write},
    path::PathBuf,
    time::Duration,
};
use zeroize::Zeroizing;

/// Longest wait for an answer; a claim waits for the request that its channel serves.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer, bytes.
const ANSWER: u64 = 16 * 1024 * 1024;

/// Which gateway.
#[derive(clap::Args, Clone, Debug)]
pub struct Which {
    /// The admin listener, unix:/path or IP:port; default: the configuration's
    #[arg(long, env = "KAS402_ADMIN", value_name = "LISTENER")]
    admin: Option<Listen>,
    /// Configuration that names the admin listener, its token and the store
    #[arg(short, long, env = "KAS402_CONFIG", value_name = "FILE", default_value = "kas402.yaml")]
    config: PathBuf,
}

impl Which {
    /// The one of this configuration.
    pub fn configured(config: PathBuf) -> Self {
        Self { admin: None, config }
    }
}

/// A gateway that may run.
pub struct Operator {
    listen: Listen,
    /// Of a TCP listener.
    token: Option<String>,
    /// `None` when only the listener is known.
    pub configured: Option<Compiled>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no gateway listens on {0}: {1}")]
    NotRunning(Listen, io::Error),
    #[error("{0}: {1}")]
    Io(Listen, io::Error),
    #[error("{0} does not answer as kas402's admin listener: {1}")]
    Nonsense(Listen, String),
    #[error("{0} asks for its token: give the configuration with its secrets")]
    Unauthorized(Listen),
    #[error("{0}")]
    Refused(String),
}

impl Operator {
    pub fn find(which: Which) -> Result<Self, String> {
        let whole = config::load(&which.config, &Environment::process());
        let configured = whole.or_else(|_| config::load(&which.config, &Environment { secrets: false, ..Environment::process() })).ok();
        let admin = configured.as_ref().map(|compiled| &compiled.settings.admin);
        let listen = which.admin.or_else(|| admin.map(|admin| admin.listen.clone().into()));
        let listen = listen.ok_or("no admin listener is known: give --admin, KAS402_ADMIN or a configuration")?;
        let token = admin.and_then(|admin| admin.token.as_ref()).map(|token| token.expose().to_owned());
        Ok(Self { listen, token, configured })
    }

    /// Its store, for reading, when it does not run. Says so on standard error.
    pub async fn stored(&self) -> Result<Box<dyn Reading>, AskError> {
        let refused = |why: String| AskError::Refused(format!("no gateway listens on {}, and {why}", self.listen));
        let compiled = self.configured.as_ref().ok_or_else(|| refused("no configuration names its store".to_owned()))?;
        let settings = &compiled.settings.store;
        let reader = store::reading(settings).await.map_err(|error| refused(error.to_string()))?;
        eprintln!("no gateway listens on {}: read from {}", self.listen, store::name(settings));
        Ok(reader)
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.ask("GET", path, "").and_then(|(_, body)| self.read(&body))
    }

    /// Also takes 409, of which the body says why.
    pub fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.ask("POST", path, "").and_then(|(_, body)| self.read(&body))
    }

    /// The same, with a body.
    pub fn post_json<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, AskError> {
        let body = Zeroizing::new(serde_json::to_string(body).expect("what is asked is JSON"));
        self.ask("POST", path, &body).and_then(|(_, body)| self.read(&body))
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, AskError> {
        serde_json::from_slice(body).map_err(|error| AskError::Nonsense(self.listen.clone(), error.to_string()))
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, Vec<u8>), AskError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning(self.listen.clone(), error),
            _ => AskError::Io(self.listen.clone(), error),
        };
        let mut stream = health::connect(&self.listen, PATIENCE).map_err(failed)?;
        let token = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        // 1.0, so that the answer is neither chunked nor followed by another.
        let length = body.len();
        let request = Zeroizing::new(format!(
            "{method} {path} HTTP/1.0\r\nHost: admin\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{token}\r\n{body}"
        ));
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        stream.take(ANSWER).read_to_end(&mut answer).map_err(failed)?;
        let nonsense = || AskError::Nonsense(self.listen.clone(), "no HTTP".into());
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(nonsense)?;
        let status = std::str::from_utf8(&answer[..end]).ok().and_then(health::status).ok_or_else(nonsense)?;
        let body = answer.split_off(end + 4);
        match status {
            200 | 409 => Ok((status, body)),
            401 => Err(AskError::Unauthorized(self.listen.clone())),
            404 | 503 => {
                let told = serde_json::from_slice::<Value>(&body).ok();
                let why = told.as_ref().and_then(|told| told["error"].as_str()).unwrap_or("the gateway cannot answer this");
                Err(AskError::Refused(why.to_owned()))
            }
            other => Err(AskError::Nonsense(self.listen.clone(), format!("status {other}"))),
        }
    }
}
