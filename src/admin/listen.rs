//! Where the admin listener is, and binding it safely.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// `unix:/run/kas402/admin.sock` or `127.0.0.1:8403`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Unix(PathBuf),
    /// Loopback only; port 0 takes a free one.
    Tcp(SocketAddr),
}

impl From<crate::config::AdminListen> for Listen {
    fn from(configured: crate::config::AdminListen) -> Self {
        match configured {
            crate::config::AdminListen::Unix(path) => Self::Unix(path),
            crate::config::AdminListen::Tcp(address) => Self::Tcp(address),
        }
    }
}

/// The text names no listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use unix:/path/to/socket, or an IP address and a port")]
pub struct MalformedListen;

impl FromStr for Listen {
    type Err = MalformedListen;

    fn from_str(text: &str) -> Result<Self, MalformedListen> {
        match text.strip_prefix("unix:") {
            Some("") => Err(MalformedListen),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| MalformedListen),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("the admin listener on {0} would be reachable from other machines: use a loopback address or a unix socket")]
    NotLoopback(SocketAddr),
    #[error("a running process listens on the admin socket {0} already")]
    Running(PathBuf),
    #[error("{0} is in the way of the admin socket: it is no socket")]
    NotASocket(PathBuf),
    #[error("the admin listener cannot be bound to {listen}: {error}")]
    Io { listen: Listen, error: io::Error },
}

/// A bound listener.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener, Listen),
}

/// The file of a bound socket, recognised again when it is removed.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Removes it, unless another process has put its own in its place.
    pub fn remove(self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // What cannot be removed is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Socket {
    pub async fn bind(listen: &Listen) -> Result<Self, ListenError> {
        let failed = |error| ListenError::Io { listen: listen.clone(), error };
        match listen {
            Listen::Tcp(address) if !address.ip().is_loopback() => Err(ListenError::NotLoopback(*address)),
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let address = Listen::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self::Tcp(listener, address))
            }
            Listen::Unix(path) => {
                make_way(path).await?;
                let (listener, file) = bind_private(path).map_err(failed)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }
}

/// Refuses what is not a dead socket; that one is replaced when ours takes its name.
async fn make_way(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => Err(ListenError::Running(path.to_owned())),
            Err(_) => Ok(()),
        },
    }
}

/// Binds where nobody else can look, sets the mode, then moves the socket to its name: there is no
/// moment at which another user could open it.
fn bind_private(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Short, for the name of a socket may have about a hundred bytes.
    let private = parent.join(format!(".k{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let hidden = private.join("s");
    let bound = (|| {
        let listener = UnixListener::bind(&hidden)?;
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
        let inode = fs::symlink_metadata(&hidden)?.ino();
        fs::rename(&hidden, path)?;
        Ok((listener, SocketFile { path: path.to_owned(), inode }))
    })();
    // Left over only when binding failed; the directory is ours alone.
    let _ = fs::remove_file(&hidden);
    fs::remove_dir(&private).and(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_named_by_socket_or_by_address_and_port() {
        for (text, expect) in [
            ("unix:/run/k.sock", Some(Listen::Unix("/run/k.sock".into()))),
            ("127.0.0.1:0", Some(Listen::Tcp(([127, 0, 0, 1], 0).into()))),
            ("unix:", None),
            ("/run/k.sock", None),
            ("localhost:1", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(text.parse::<Listen>().ok(), expect, "{text}");
            if let Some(listen) = expect {
                assert_eq!(listen.to_string(), text);
            }
        }
    }
}
