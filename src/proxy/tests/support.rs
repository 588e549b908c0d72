use crate::{
    protocol::policy::{HostHeader, Upstream},
    proxy::ListenTls,
};
use std::{net::SocketAddr, path::Path, time::Duration};

pub fn upstream(address: SocketAddr) -> Upstream {
    let second = Duration::from_secs(1);
    Upstream {
        name: "api".into(),
        host: address.ip().to_string(),
        port: address.port(),
        tls: None,
        host_header: HostHeader::Upstream,
        base_path: String::new(),
        headers: Vec::new(),
        connect_timeout: 5 * second,
        read_timeout: 20 * second,
        write_timeout: 20 * second,
        idle_timeout: 20 * second,
    }
}

pub fn tls_files() -> ListenTls {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy/tests/tls");
    ListenTls { cert: folder.join("cert.pem"), key: folder.join("key.pem") }
}
