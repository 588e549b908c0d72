//! The `remote_facilitator` section, and what a gateway without a node cannot have.

use super::{Context, channels::Asked, is_loopback, settings::pem};
use crate::config::{
    problem::{Code, Pos},
    raw::Root,
    settings::RemoteSettings,
};

/// `None` without the section, or when it is wrong.
pub fn remote(root: &Root, cx: &mut Context<'_>) -> Option<RemoteSettings> {
    let Some(section) = &root.remote_facilitator else {
        if root.node.is_none() && !root.written.contains(&"node") && !root.written.contains(&"remote_facilitator") {
            cx.problem(Code::MissingKey, root.at, "`node` must be written (or `remote_facilitator`, for a gateway without one)");
        }
        return None;
    };
    let asked = Asked::of(root);
    let foreign: [(&str, Option<Pos>); 4] = [
        ("node", root.node.as_ref().map(|node| node.at)),
        ("keys.server", asked.keys),
        ("channels", root.channels.as_ref().map(|channels| channels.at)),
        ("facilitator", root.facilitator.as_ref().map(|facilitator| facilitator.at)),
    ];
    for (name, at) in foreign {
        if let Some(at) = at {
            cx.problem(
                Code::RemoteConflict,
                at,
                format!("a gateway with `remote_facilitator` has no node and no server key: leave out `{name}`"),
            );
        }
    }
    let raw = &section.value;
    let token = raw.token.as_ref().and_then(|token| cx.secret(token));
    let ca_file = raw.ca_file.as_ref().map(|file| pem(file, cx));
    let written = raw.url.as_ref()?;
    let url = cx.origin(written)?;
    if url.scheme() != "https" && !is_loopback(&url) {
        cx.problem(Code::FacilitatorPlain, written.at, "the token and every payment can be read on the way: use https://");
    }
    Some(RemoteSettings { url, token: token?, ca_file })
}
