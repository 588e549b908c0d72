//! JSON-RPC that some server would read as a call of a sold tool: none of it gets there unpaid.

use super::{
    client::{Call, PATIENCE, Shop},
    exact::ROUTES,
    support::pay::HTTP,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What a row is answered: the offers, or a refusal by its code.
#[derive(Debug, PartialEq, Eq)]
enum Expect {
    Offers,
    Code(&'static str),
}
use Expect::{Code, Offers};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{}}}"#;

/// `CALL` with something else in it.
fn with(from: &str, to: &str) -> Vec<u8> {
    assert!(CALL.contains(from), "{from}");
    CALL.replace(from, to).into_bytes()
}

fn named(name: &str) -> Vec<u8> {
    with("\"search\"", &serde_json::to_string(name).unwrap())
}

fn utf16(text: &str) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

fn bodies() -> Vec<(&'static str, Vec<u8>, Expect)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let payment = r#""x402/payment":{"x402Version":2}"#;
    vec![
        ("a plain call", text(CALL), Offers),
        ("a batch of it", text(&format!("[{CALL}]")), Code("mcp_batch")),
        ("a batch with it", text(&format!(r#"[{{"jsonrpc":"2.0","id":2,"method":"ping"}},{CALL}]"#)), Code("mcp_batch")),
        ("a batch in a batch", text(&format!("[[{CALL}]]")), Code("mcp_message")),
        (
            "a payment of nothing but its version",
            with("\"arguments\":{}", &format!("\"_meta\":{{{payment}}}")),
            Code("payment_header_schema"),
        ),
        (
            "a paid call in a batch",
            [b"[", &with("\"arguments\":{}", &format!("\"_meta\":{{{payment}}}"))[..], b"]"].concat(),
            Code("mcp_batch"),
        ),
        ("an empty batch", text("[]"), Code("mcp_message")),
        ("two ids", with("\"id\":1", "\"id\":1,\"id\":2"), Code("mcp_message")),
        ("two methods", with("\"method\"", "\"method\":\"ping\",\"method\""), Code("mcp_message")),
        ("two methods, one escaped", with("\"method\"", "\"method\":\"ping\",\"m\\u0065thod\""), Code("mcp_message")),
        ("two names", with("\"name\"", "\"name\":\"echo\",\"name\""), Code("mcp_message")),
        ("two params", with("\"params\"", "\"params\":{\"name\":\"echo\"},\"params\""), Code("mcp_message")),
        ("a Method too", with("\"method\":\"tools/call\"", "\"method\":\"ping\",\"Method\":\"tools/call\""), Code("mcp_message")),
        ("only a METHOD", with("\"method\"", "\"METHOD\""), Code("mcp_message")),
        ("a Name too", with("\"name\":\"search\"", "\"name\":\"echo\",\"Name\":\"search\""), Code("mcp_message")),
        ("Params too", with("\"params\"", "\"params\":{\"name\":\"echo\"},\"Params\""), Code("mcp_message")),
        ("a long s", with("\"params\"", "\"params\":{\"name\":\"echo\"},\"param\u{17f}\""), Code("mcp_message")),
        ("the method in capitals", with("tools/call", "TOOLS/CALL"), Code("mcp_message")),
        ("a method with a blank", with("tools/call", "tools/call "), Code("mcp_message")),
        ("a method with two slashes", with("tools/call", "tools//call"), Code("mcp_message")),
        ("a method with an escape", with("tools/call", "tools%2fcall"), Code("mcp_message")),
        ("a method with a NUL", with("tools/call", "tools/call\\u0000"), Code("mcp_message")),
        ("an escaped method is the method", with("tools/call", "tools\\/c\\u0061ll"), Offers),
        ("a request that is an answer", with("\"id\":1", "\"id\":1,\"result\":{}"), Code("mcp_message")),
        ("no id", with("\"id\":1,", ""), Code("mcp_message")),
        ("a null id", with("\"id\":1", "\"id\":null"), Code("mcp_message")),
        ("half an id", with("\"id\":1", "\"id\":1.5"), Code("mcp_message")),
        ("an id of many parts", with("\"id\":1", "\"id\":[1]"), Code("mcp_message")),
        ("the gateway's own id", with("\"id\":1", "\"id\":\"kas402call1\""), Code("mcp_message")),
        ("params by position", with("{\"name\":\"search\",\"arguments\":{}}", "[\"search\",{}]"), Code("mcp_message")),
        ("a name of many parts", with("\"search\"", "[\"search\"]"), Code("mcp_message")),
        ("no name", with("\"name\"", "\"tool\""), Code("mcp_message")),
        ("a payment in the arguments", with("\"arguments\":{}", &format!("\"arguments\":{{\"_meta\":{{{payment}}}}}")), Offers),
        ("a payment in a _meta in _meta", with("\"arguments\":{}", &format!("\"_meta\":{{\"_meta\":{{{payment}}}}}")), Offers),
        ("a payment beside params", with("\"id\":1", &format!("\"id\":1,\"_meta\":{{{payment}}}")), Offers),
        ("a payment in other letters", with("\"arguments\":{}", "\"_meta\":{\"X402/PAYMENT\":{}}"), Code("mcp_message")),
        ("a _meta of text", with("\"arguments\":{}", "\"_meta\":\"x402/payment\""), Code("mcp_message")),
        ("a payment of text", with("\"arguments\":{}", "\"_meta\":{\"x402/payment\":\"x\"}"), Code("payment_header_schema")),
        ("a payment of nothing", with("\"arguments\":{}", "\"_meta\":{\"x402/payment\":null}"), Code("payment_header_schema")),
        ("a byte order mark", text(&format!("\u{feff}{CALL}")), Code("mcp_message")),
        ("UTF-16", utf16(CALL), Code("mcp_message")),
        ("two documents", text(&format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}}{CALL}")), Code("mcp_message")),
        ("two lines", text(&format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}}\n{CALL}\n")), Code("mcp_message")),
        ("text after it", text(&format!("{CALL}x")), Code("mcp_message")),
        ("a comment before it", text(&format!("/**/{CALL}")), Code("mcp_message")),
        ("a NUL after it", text(&format!("{CALL}\0")), Code("mcp_message")),
        ("too deep", with("{}", &format!("{}{}", "[".repeat(200), "]".repeat(200))), Code("mcp_message")),
        ("nothing", Vec::new(), Code("mcp_message")),
        ("Search", named("Search"), Code("mcp_tool")),
        ("SEARCH", named("SEARCH"), Code("mcp_tool")),
        ("a blank before", named(" search"), Code("mcp_tool")),
        ("a blank after", named("search "), Code("mcp_tool")),
        ("a tab after", named("search\t"), Code("mcp_tool")),
        ("a NUL after the name", named("search\0"), Code("mcp_tool")),
        ("a NUL and more", named("search\0x"), Code("mcp_tool")),
        ("an escape", named("%73earch"), Code("mcp_tool")),
        ("wide letters", named("\u{ff53}\u{ff45}arch"), Code("mcp_tool")),
        ("a Cyrillic letter", named("\u{455}earch"), Code("mcp_tool")),
        ("a long s in the name", named("\u{17f}earch"), Code("mcp_tool")),
        ("a joiner", named("sea\u{200d}rch"), Code("mcp_tool")),
        ("a soft hyphen", named("sea\u{ad}rch"), Code("mcp_tool")),
        ("right to left", named("\u{202e}hcraes"), Code("mcp_tool")),
        ("another that a pattern sells", named("IMAGE_X"), Code("mcp_tool")),
        ("an escaped name is the name", with("\"search\"", "\"\\u0073earch\""), Offers),
    ]
}

/// Requests by hand, which clients would not write so: method and target.
const WAYS: &[(&str, &str)] = &[
    ("PUT", "/mcp"),
    ("PATCH", "/mcp"),
    ("HEAD", "/mcp"),
    ("OPTIONS", "/mcp"),
    ("QUERY", "/mcp"),
    ("PROPFIND", "/mcp"),
    ("TRACE", "/mcp"),
    ("post", "/mcp"),
    ("Post", "/mcp"),
    ("CALL", "/mcp"),
    ("POST", "/mcp/"),
    ("POST", "/MCP"),
    ("POST", "/Mcp/"),
    ("POST", "//mcp"),
    ("POST", "/mcp/."),
    ("POST", "/mcp/x/.."),
    ("POST", "/x/../mcp/"),
    ("POST", "/mcp;x"),
    ("POST", "/mcp;x/"),
    ("POST", "/mcp."),
    ("POST", "/mcp%20"),
    ("POST", "/mcp%2f"),
    ("POST", "/mcp%5c"),
    ("POST", "/mcp%00"),
    ("POST", "/%6d%63%70/"),
    ("POST", "/%256dcp"),
    ("POST", "/mcp%3bx"),
    ("PUT", "/MCP/"),
    ("PATCH", "//mcp//"),
    ("POST", "http://paid.test/mcp"),
    ("POST", "http://other.test/mcp"),
];

const HEADS: &[(&str, &str, &str, Expect)] = &[
    ("plain text", "content-type", "text/plain", Code("mcp_message")),
    ("a form", "content-type", "application/x-www-form-urlencoded", Code("mcp_message")),
    ("parts", "content-type", "multipart/form-data; boundary=x", Code("mcp_message")),
    ("another charset", "content-type", "application/json; charset=utf-16", Code("mcp_message")),
    ("no content type", "content-type", "", Code("mcp_message")),
    ("this charset", "content-type", "application/json; charset=utf-8", Offers),
    ("a coding", "content-encoding", "gzip", Code("mcp_message")),
    ("no coding", "content-encoding", "identity", Offers),
    ("another method in the head", "mcp-method", "ping", Code("mcp_message")),
    ("another tool in the head", "mcp-name", "echo", Code("mcp_message")),
    ("this tool in the head", "mcp-name", "search", Offers),
    ("this tool in the head, coded", "mcp-name", "=?base64?c2VhcmNo?=", Offers),
    ("the head of a GET", "x-http-method-override", "GET", Offers),
    ("a payment that is none", "payment-signature", "x", Code("payment_header_not_base64")),
    ("a payment of an old kind", "x-payment", "e30=", Offers),
    ("no session", "mcp-session-id", "", Offers),
];

/// What is answered to a call by this method and target.
async fn by_hand(address: &str, method: &str, target: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: paid.test\r\nContent-Type: application/json\r\nConnection: close\r\n");
    socket.write_all(format!("{head}Content-Length: {}\r\n\r\n{CALL}", CALL.len()).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has told all there is.
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("it ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_has_no_route_is_forwarded_and_no_way_to_an_mcp_path_is_among_it() {
    for (routes, more) in [(ROUTES.to_owned(), "unmatched: forward"), (format!("{ROUTES}\n  - {{path: \"/{{*rest}}\", free: true}}"), "")] {
        let shop = Shop::open(&routes, more).await;
        let mut wrong = Vec::new();
        for (method, target) in WAYS {
            let told = by_hand(shop.gateway.address(), method, target).await;
            if shop.server.runs("search") > 0 || told.contains("secret") {
                wrong.push(format!("{method} {target}: {told}"));
                break;
            }
        }
        assert!(wrong.is_empty(), "{routes} {more}: {wrong:?}");
        let free = by_hand(shop.gateway.address(), "POST", "/elsewhere").await;
        assert!(free.contains("secret of search") && shop.server.runs("search") == 1, "what is no way to it is forwarded: {free}");
    }
}

#[tokio::test]
async fn a_free_pattern_frees_no_name_that_a_server_could_take_for_a_sold_tool() {
    let free = format!("{ROUTES}      - {{tool: \"*\", free: true}}\n      - {{tool: \"sea*\", free: true}}\n");
    let shop = Shop::open(&free, "").await;
    let mut wrong = Vec::new();
    for name in [
        "search",
        "Search",
        "SEARCH",
        "search.",
        "search..",
        "search/",
        "search ",
        " search",
        "search\t",
        "search\u{a0}",
        "search\u{200b}",
        "search\0",
        "%73earch",
        "search%20",
        "search%00",
        "\u{17f}earch",
        "\u{ff53}earch",
        "\u{455}earch",
        "se\u{301}arch",
        "image_x",
        "Image_x",
        "IMAGE_X",
        "image\u{ff3f}x",
        "image_x.",
        "%69mage_x",
    ] {
        let got = shop.post_with(&named(name), &[]).await;
        let refused = got.code() == "mcp_tool" || got.result()["structuredContent"]["accepts"].is_array() || got.code() == "price_input";
        if !refused || !shop.server.seen().is_empty() {
            wrong.push(format!("{name:?}: {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (runs, name) in (1..).zip(["weather", "seal", "image_preview", "other."]) {
        assert_eq!(shop.post_with(&named(name), &[]).await.text(), format!("secret of {name} {{}}"));
        assert_eq!(shop.server.seen().len(), runs);
    }
}

/// The status of the answer to a body in chunks, which comes before all of it was read.
async fn long_body(address: &str, body: &str) -> u16 {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = "POST /mcp HTTP/1.1\r\nHost: paid.test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut read, mut write) = socket.split();
    let send = async {
        write.write_all(format!("{head}{:x}\r\n", body.len()).as_bytes()).await?;
        write.write_all(body.as_bytes()).await
    };
    let answer = async {
        let mut line = [0; 12];
        read.read_exact(&mut line).await.unwrap();
        String::from_utf8_lossy(&line[9..]).parse().unwrap()
    };
    // The rest cannot be sent any more: nobody reads it.
    tokio::join!(send, answer).1
}

#[tokio::test]
async fn nothing_that_could_be_a_call_reaches_a_sold_tool_unpaid() {
    let shop = Shop::open(ROUTES, "").await;
    let mut wrong = Vec::new();
    let mut judge = |name: &str, got: super::client::Got, expect: &Expect| {
        let told = if got.result()["structuredContent"]["accepts"].is_array() && got.code().contains(' ') {
            Offers
        } else {
            Code(got.code().leak())
        };
        if told != *expect || !shop.server.seen().is_empty() {
            wrong.push(format!("{name}: {told:?} instead of {expect:?}; {} requests reached the server", shop.server.seen().len()));
        }
    };
    for (name, body, expect) in bodies() {
        judge(name, shop.post_with(&body, &[]).await, &expect);
    }
    for (name, header, value, expect) in HEADS {
        judge(name, shop.post_with(CALL.as_bytes(), &[(header, value)]).await, expect);
    }
    let ping = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    judge("a call in the head alone", shop.post_with(ping, &[("mcp-method", "tools/call")]).await, &Code("mcp_message"));
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));

    // 10 MB of arguments: refused while they come.
    let long = CALL.replace("{}", &format!("{{\"x\":\"{}\"}}", "x".repeat(10_000_000)));
    assert_eq!(long_body(shop.gateway.address(), &long).await, 413);

    // Other ways to the same place.
    for (method, path, expect) in [
        (Method::PUT, "/mcp", 404),
        (Method::PATCH, "/mcp", 404),
        (Method::HEAD, "/mcp", 404),
        (Method::POST, "/mcp/", 404),
        (Method::POST, "/MCP", 404),
        (Method::POST, "/x/../mcp", 200),
        (Method::POST, "/%6dcp", 200),
        (Method::POST, "/mcp?name=echo", 200),
    ] {
        let url = format!("{}{path}", shop.gateway.url());
        let request = HTTP.request(method.clone(), &url).header("content-type", "application/json").body(CALL);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), expect, "{method} {path}");
        if expect == 200 {
            let message: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            assert!(message["result"]["structuredContent"]["accepts"].is_array(), "{method} {path}: {message}");
        }
    }
    assert!(shop.server.seen().is_empty());

    // A GET and a DELETE carry nothing.
    for method in [Method::GET, Method::DELETE] {
        let request = HTTP.request(method, shop.url()).header("content-type", "application/json").body(CALL);
        drop(request.send().await.unwrap());
        assert!(shop.server.last().body.is_empty());
    }
    assert_eq!((shop.server.runs("search"), shop.server.seen().len()), (0, 2));
    let call = Call::of("echo", json!({}));
    assert_eq!(shop.post(&call.message(1, None)).await.text(), "secret of echo {}", "what is free is served");
}
