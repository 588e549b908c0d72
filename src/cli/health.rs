//! `kas402 health`: asks a running gateway whether it is alive, or ready to sell.
//!
//! For container health checks: no runtime, no token, one short request. Exit code 0 is yes, 1 is no,
//! 2 is a mistake in how it was asked. Never waits longer than its timeout for any step.

use crate::{
    admin::Listen,
    config::{self, Environment},
};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Longest wait for each of connecting, asking and answering.
const STEP: Duration = Duration::from_secs(3);
/// Longest status line that is read, bytes.
const STATUS_LINE: u64 = 128;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The admin listener, unix:/path or IP:port; default: the configuration's
    #[arg(long, env = "KAS402_ADMIN", value_name = "LISTENER")]
    pub admin: Option<Listen>,
    /// Configuration that names the admin listener
    #[arg(short, long, env = "KAS402_CONFIG", value_name = "FILE", default_value = "kas402.yaml")]
    pub config: PathBuf,
    /// Ask whether priced routes can be sold (store and node usable), not only whether the process lives
    #[arg(long)]
    pub ready: bool,
}

pub fn run(args: Args) -> ExitCode {
    let Some(listen) = args.admin.or_else(|| configured(&args.config)) else {
        eprintln!("no admin listener is known: give --admin, KAS402_ADMIN or a configuration");
        return ExitCode::from(2);
    };
    match (probe(&listen, args.ready), args.ready) {
        (Ok(200), false) => {
            println!("alive");
            ExitCode::SUCCESS
        }
        (Ok(200), true) => {
            println!("ready");
            ExitCode::SUCCESS
        }
        (Ok(503), true) => {
            println!("not ready");
            ExitCode::FAILURE
        }
        (Ok(status), _) => {
            eprintln!("{listen} answered {status}: is this kas402's admin listener?");
            ExitCode::FAILURE
        }
        (Err(error), _) => {
            eprintln!("{listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the configuration names; its secrets are not needed to ask for health.
fn configured(file: &Path) -> Option<Listen> {
    let compiled = config::load(file, &Environment { secrets: false, ..Environment::process() }).ok()?;
    Some(compiled.settings.admin.listen.into())
}

/// The status that `/healthz` or `/readyz` answers.
pub fn probe(listen: &Listen, ready: bool) -> io::Result<u16> {
    ask(connect(listen, STEP)?, if ready { "/readyz" } else { "/healthz" })
}

/// A connection on which reading and writing wait so long at most.
pub(super) fn connect(listen: &Listen, patience: Duration) -> io::Result<Box<dyn Stream>> {
    match listen {
        Listen::Unix(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(Box::new(stream))
        }
        Listen::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, STEP)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(Box::new(stream))
        }
    }
}

/// A connected socket of either kind.
pub(super) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

fn ask(mut stream: impl Read + Write, path: &str) -> io::Result<u16> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(STATUS_LINE)).read_line(&mut line)?;
    status(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

/// Of a status line.
pub(super) fn status(line: &str) -> Option<u16> {
    let mut words = line.strip_prefix("HTTP/1.")?.split_ascii_whitespace();
    words.next()?;
    words.next()?.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn only_a_status_line_has_a_status() {
        for (line, expect) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503\r\n", Some(503)),
            ("HTTP/1.1 99 x", None),
            ("HTTP/1.1", None),
            ("SSH-2.0-OpenSSH", None),
            ("", None),
        ] {
            assert_eq!(status(line), expect, "{line:?}");
        }
    }
}
