//! Where the server is: the URL of the configuration, parsed strictly. Shown without its password.
//!
//! `redis://[user:password@]host[:port][/db]`, `redis-sentinel://[…]host[:port],host/master-name[/db]`,
//! `redis-cluster://[…]host[:port],host`; `rediss…` with TLS. Called by `config`, which promises that what it parsed can be used.

use std::fmt;
use zeroize::Zeroizing;

/// What the server must not lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was acknowledged: refuses to start when it could be lost.
    Strict,
    /// The last second before a crash, and what a replica had not got before it was promoted.
    Standard,
}

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    Server,
    /// The name under which the sentinels know the master.
    Sentinel {
        master: String,
    },
    Cluster,
}

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub form: Form,
    pub tls: bool,
    /// At least one; one alone for [`Form::Server`].
    pub hosts: Vec<(String, u16)>,
    pub user: Option<String>,
    pub password: Option<Zeroizing<String>>,
    pub db: i64,
}

/// What is wrong with a URL; never shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("it must begin with redis://, rediss://, redis-sentinel://, rediss-sentinel://, redis-cluster:// or rediss-cluster://")]
    Scheme,
    #[error("user and password stand as user:password@ before the host, with %40 for @, %3A for :, %2F for /")]
    Login,
    #[error("a host is a name or an IP address, with [ ] around IPv6, and perhaps :port")]
    Host,
    #[error("redis:// names one host; redis-cluster:// and redis-sentinel:// name several")]
    Hosts,
    #[error("after the hosts of redis-sentinel:// comes the name of the master: /name")]
    Master,
    #[error("the database is a number after the last /; a cluster has only database 0")]
    Database,
}

impl Endpoint {
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = url.split_once("://").ok_or(EndpointError::Scheme)?;
        let (tls, form) = match scheme {
            "redis" => (false, Form::Server),
            "rediss" => (true, Form::Server),
            "redis-cluster" => (false, Form::Cluster),
            "rediss-cluster" => (true, Form::Cluster),
            "redis-sentinel" => (false, Form::Sentinel { master: String::new() }),
            "rediss-sentinel" => (true, Form::Sentinel { master: String::new() }),
            _ => return Err(EndpointError::Scheme),
        };
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
        let (login, hosts) = authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (user, password) = login.map(login_of).transpose()?.unwrap_or_default();
        let default_port = if matches!(form, Form::Sentinel { .. }) { SENTINEL_PORT } else { PORT };
        let hosts = hosts.split(',').map(|host| host_of(host, default_port)).collect::<Result<Vec<_>, _>>()?;
        let path = path.filter(|path| !path.is_empty());
        let (form, db) = match form {
            Form::Server if hosts.len() > 1 => return Err(EndpointError::Hosts),
            Form::Sentinel { .. } => {
                let path = path.ok_or(EndpointError::Master)?;
                let (master, db) = path.split_once('/').map_or((path, None), |(master, db)| (master, Some(db)));
                let master = Some(master).filter(|master| !master.is_empty()).ok_or(EndpointError::Master)?;
                (Form::Sentinel { master: master.to_owned() }, db)
            }
            form => (form, path),
        };
        let db = db.map_or(Ok(0), |db| db.parse().map_err(|_| EndpointError::Database))?;
        if !(0..=65_535).contains(&db) || (form == Form::Cluster && db != 0) {
            return Err(EndpointError::Database);
        }
        Ok(Self { form, tls, hosts, user, password, db })
    }

    /// Whether every host is this machine.
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(|(host, _)| host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()))
    }
}

type Login = (Option<String>, Option<Zeroizing<String>>);

fn login_of(login: &str) -> Result<Login, EndpointError> {
    let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
    let decoded = |text: &str| percent_decoded(text).ok_or(EndpointError::Login);
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    let password = password.map(decoded).transpose()?.filter(|password| !password.is_empty()).map(Zeroizing::new);
    Ok((user, password))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(rest.next()?)? << 4 | digit(rest.next()?)?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

fn host_of(text: &str, default_port: u16) -> Result<(String, u16), EndpointError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(EndpointError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| EndpointError::Host)?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(EndpointError::Host)?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(named) {
        return Err(EndpointError::Host);
    }
    let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| EndpointError::Host))?;
    if port == 0 { Err(EndpointError::Host) } else { Ok((host.to_owned(), port)) }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.form {
            Form::Server => "",
            Form::Sentinel { .. } => "-sentinel",
            Form::Cluster => "-cluster",
        };
        write!(f, "redis{}{scheme}://", if self.tls { "s" } else { "" })?;
        for (place, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if host.contains(':') { write!(f, "{comma}[{host}]:{port}")? } else { write!(f, "{comma}{host}:{port}")? }
        }
        if let Form::Sentinel { master } = &self.form {
            write!(f, "/{master}")?;
        }
        if self.form == Form::Cluster { Ok(()) } else { write!(f, "/{}", self.db) }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_the_server_is_and_shows_no_password() {
        for (url, shown) in [
            ("redis://localhost", Ok("redis://localhost:6379/0")),
            ("rediss://kas402:p%40ss@redis.example:6380/3", Ok("rediss://redis.example:6380/3")),
            ("redis://:secret@[::1]:7000/", Ok("redis://[::1]:7000/0")),
            ("redis-sentinel://a,b:26380/kas402/2", Ok("redis-sentinel://a:26379,b:26380/kas402/2")),
            ("rediss-cluster://u:p@10.0.0.1:7000,10.0.0.2", Ok("rediss-cluster://10.0.0.1:7000,10.0.0.2:6379")),
            ("localhost:6379", Err(EndpointError::Scheme)),
            ("http://localhost", Err(EndpointError::Scheme)),
            ("redis://user@localhost", Ok("redis://localhost:6379/0")),
            ("redis://user:%zz@localhost", Err(EndpointError::Login)),
            ("redis://", Err(EndpointError::Host)),
            ("redis://a:0", Err(EndpointError::Host)),
            ("redis://a:b", Err(EndpointError::Host)),
            ("redis://a b", Err(EndpointError::Host)),
            ("redis://a,b", Err(EndpointError::Hosts)),
            ("redis-sentinel://a,b", Err(EndpointError::Master)),
            ("redis-sentinel://a,b//1", Err(EndpointError::Master)),
            ("redis://a/x", Err(EndpointError::Database)),
            ("redis://a/-1", Err(EndpointError::Database)),
            ("redis-cluster://a/1", Err(EndpointError::Database)),
        ] {
            let parsed = Endpoint::parse(url).map(|endpoint| endpoint.to_string());
            assert_eq!(parsed, shown.map(str::to_owned), "{url}");
        }
        let secret = Endpoint::parse("redis://kas402:p%40%3Ass@h").unwrap();
        assert_eq!((secret.user.as_deref(), secret.password.as_ref().map(|text| text.as_str())), (Some("kas402"), Some("p@:ss")));
        assert!(!format!("{secret:?} {secret}").contains("ss@"));
    }
}
