//! The table: one row per trick, the exact bytes, the status of the first answer. Add rows freely.

/// HTTP/1.1 with one `Host` and `Connection: close`; `lines` are further header lines, each ended by CRLF.
pub fn http1(method: &str, target: &str, lines: &str, body: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: paid.test\r\nConnection: close\r\n{lines}\r\n{body}")
}

/// Spellings of paths asked for by GET without payment, and the status.
#[rustfmt::skip]
pub const PATHS: &[(&str, u16)] = &[
    // what is sold, and what is free
    ("/paid", 402), ("/files/", 402), ("/files/a", 402), ("/files/a/b?c", 402), ("/free", 200), ("/paidx", 200), ("/pai", 200), ("/x/paid", 200),
    ("/api/run", 200), ("/api", 200),
    // slashes and dots
    ("//paid", 402), ("///paid", 402), ("/./paid", 402), ("/x/../paid", 402), ("/x/y/../../paid", 402), ("/../paid", 402), ("/../../paid", 402),
    ("/x/./../paid", 402), ("/x//../paid", 402), ("/files//a", 402), ("/files/./a", 402), ("/files/x/../a", 402), ("/files/..", 200),
    ("/files/../paid", 402), ("/files/../free", 200), ("/paid/..", 200), ("/paid/.", 404), ("/paid/../paid", 402), ("/paid/x/..", 404), ("/files", 404), ("/files/.", 402),
    // escapes
    ("/%70aid", 402), ("/p%61id", 402), ("/%70%61%69%64", 402), ("/%2e/paid", 402), ("/x/%2e%2e/paid", 402), ("/x/%2E./paid", 402), ("/x/.%2e/paid", 402),
    ("/files%2Fa", 400), ("/files%2fa", 400), ("/%2Fpaid", 400), ("/x/..%2Fpaid", 400), ("/x%2F..%2Fpaid", 400), ("/%5Cpaid", 400), ("/x/..%5Cpaid", 400), ("/files%5Ca", 400),
    ("/%2570aid", 404), ("/%252570aid", 404), ("/x/%252e%252e/paid", 404), ("/files%252Fa", 404), ("/x%252F..%252Fpaid", 404), ("/%255Cpaid", 404),
    ("/paid%00", 400), ("/paid%00.txt", 400), ("/paid%0a", 400), ("/paid%0d%0ax:y", 400), ("/paid%09", 400), ("/paid%7f", 400), ("/paid%20", 404), ("/paid%250a", 404),
    ("/paid%2e", 404), ("/paid.", 404), ("/paid...", 404), ("/paid%3b", 404), ("/paid%3Fx", 200), ("/paid%23x", 200),
    // bad escapes and overlong forms
    ("/%", 400), ("/paid%", 400), ("/paid%2", 400), ("/paid%zz", 400), ("/%u0070aid", 400), ("/%c0%afpaid", 400), ("/x/%c0%ae%c0%ae/paid", 400), ("/files%c0%afa", 400),
    ("/%e0%80%afpaid", 400), ("/%ff", 400), ("/%f0%80%80%afpaid", 400), ("/p%c3%a1id", 200),
    // letter case, slash at the end, parameters
    ("/PAID", 404), ("/Paid", 404), ("/%50aid", 404), ("/FILES/a", 404), ("/Files", 404), ("/paid/", 404), ("/paid//", 404), ("/PAID/", 404),
    ("/paid;", 404), ("/paid;x=y", 404), ("/paid;/", 404), ("/;/paid", 404), ("/;x/paid", 404), ("/x/..;/paid", 404), ("/files;x/a", 404), ("/.;/paid", 404), ("/paid/;x", 404),
    // the query and the fragment
    ("/paid?", 402), ("/paid?/../free", 402), ("/paid?x=/free", 402), ("/free?/../paid", 200), ("/free?/paid", 200), ("/free?_method=POST", 200),
    ("/free?x=%2e%2e%2fpaid", 200), ("/paid#free", 402), ("/free#/../paid", 200), ("/paid??", 402), ("/?/paid", 200),
    // backslashes, absolute forms, no path at all
    ("\\paid", 400), ("/\\paid", 400), ("/x\\..\\paid", 400), ("/files\\a", 400), ("paid", 400), ("*", 400), ("?paid", 200),
    ("http://paid.test/paid", 402), ("HTTP://paid.test/paid", 402), ("HTTP://PAID.TEST/paid", 400), ("http://paid.test//paid", 402), ("http://paid.test/x/../paid", 402), ("http://paid.test", 200),
    ("https://paid.test/paid", 402), ("http://other.test/paid", 400), ("http://paid.test@other.test/paid", 400), ("http://user@paid.test/paid", 400),
    ("ftp://paid.test/paid", 400), ("http:/paid", 400), ("http:paid", 400), ("//paid.test/paid", 200), ("///paid.test/../paid", 402), ("http:///paid", 400),
];

/// Whole requests, and the status of the first answer.
#[rustfmt::skip]
pub fn requests() -> Vec<(&'static str, String, u16)> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let inner = "GET /paid HTTP/1.1\r\nHost: paid.test\r\nConnection: close\r\n\r\n";
    vec![
        // methods
        ("POST of what is sold", http1("POST", "/api/run", "Content-Length: 0\r\n", ""), 402),
        ("HEAD of what is sold", http1("HEAD", "/paid", "", ""), 402),
        ("HEAD of what POST sells", http1("HEAD", "/api/run", "", ""), 402),
        ("HEAD of a file", http1("HEAD", "/files/a", "", ""), 402),
        ("HEAD of a look-alike", http1("HEAD", "/PAID", "", ""), 404),
        ("OPTIONS without a preflight", http1("OPTIONS", "/paid", "", ""), 402),
        ("OPTIONS with only an origin", http1("OPTIONS", "/paid", "Origin: https://a.test\r\n", ""), 402),
        ("a preflight", http1("OPTIONS", "/paid", "Origin: https://a.test\r\nAccess-Control-Request-Method: GET\r\n", ""), 204),
        ("a preflight of a look-alike", http1("OPTIONS", "/paid/", "Origin: https://a.test\r\nAccess-Control-Request-Method: GET\r\n", ""), 404),
        ("TRACE", http1("TRACE", "/paid", "", ""), 402),
        ("a method of one's own", http1("BUY", "/paid", "", ""), 402),
        ("get in lower case", http1("get", "/paid", "", ""), 404),
        ("Get in both", http1("Get", "/paid", "", ""), 404),
        ("post in lower case", http1("post", "/api/run", "Content-Length: 0\r\n", ""), 404),
        ("Post of a look-alike", http1("POST", "/api/run/", "Content-Length: 0\r\n", ""), 404),
        ("CONNECT to a path", http1("CONNECT", "/paid", "", ""), 405), ("CONNECT to a host", http1("CONNECT", "paid.test:80", "", ""), 405),
        ("connect in lower case", http1("connect", "/paid", "", ""), 404),
        ("PRI without HTTP/2", http1("PRI", "/paid", "", ""), 402),
        ("method override", http1("GET", "/api/run", "X-HTTP-Method-Override: POST\r\n", ""), 200),
        ("method override, other name", http1("GET", "/api/run", "X-HTTP-Method: POST\r\nX-Method-Override: POST\r\n", ""), 200),
        ("rewritten path", http1("GET", "/free", "X-Original-URL: /paid\r\nX-Rewrite-URL: /paid\r\nX-Original-URI: /paid\r\n", ""), 200),
        // hosts
        ("another host", "GET /paid HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n".into(), 402),
        ("a host with port, case and dot", "GET /paid HTTP/1.1\r\nHost: PAID.test.:99\r\nConnection: close\r\n\r\n".into(), 402),
        ("no host", "GET /paid HTTP/1.1\r\nConnection: close\r\n\r\n".into(), 400),
        ("no host in HTTP/1.0", "GET /paid?and-more HTTP/1.0\r\n\r\n".into(), 402),
        ("an empty host", "GET /paid HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n".into(), 402),
        ("two hosts", "GET /paid HTTP/1.1\r\nHost: paid.test\r\nHost: other.test\r\nConnection: close\r\n\r\n".into(), 400),
        ("a list of hosts", "GET /free HTTP/1.1\r\nHost: other.test, paid.test\r\nConnection: close\r\n\r\n".into(), 400),
        ("a path in the host", "GET /free HTTP/1.1\r\nHost: paid.test/paid?\r\nConnection: close\r\n\r\n".into(), 400),
        // payment headers
        ("two payments", http1("GET", "/paid", "PAYMENT-SIGNATURE: e30=\r\nPAYMENT-SIGNATURE: e30=\r\n", ""), 400),
        ("two payments, other case", http1("GET", "/paid", "PAYMENT-SIGNATURE: e30=\r\npayment-signature: e30=\r\n", ""), 400),
        ("two payments in one line", http1("GET", "/paid", "PAYMENT-SIGNATURE: e30=, e30=\r\n", ""), 400),
        ("no base64", http1("GET", "/paid", "PAYMENT-SIGNATURE: ???\r\n", ""), 400),
        ("base64 without padding", http1("GET", "/paid", "PAYMENT-SIGNATURE: e30\r\n", ""), 400),
        ("an empty payment", http1("GET", "/paid", "PAYMENT-SIGNATURE:\r\n", ""), 400),
        ("an empty object", http1("GET", "/paid", "PAYMENT-SIGNATURE: e30=\r\n", ""), 400),
        ("duplicate keys", http1("GET", "/paid", "PAYMENT-SIGNATURE: eyJhIjoxLCJhIjoyfQ==\r\n", ""), 400),
        ("bytes that are no text", http1("GET", "/paid", "PAYMENT-SIGNATURE: /////w==\r\n", ""), 400),
        ("a folded header", http1("GET", "/paid", "PAYMENT-SIGNATURE: e30=\r\n e30=\r\n", ""), 400),
        ("the payment of version 1", http1("GET", "/paid", "X-PAYMENT: e30=\r\n", ""), 402),
        ("identity headers", http1("GET", "/paid", "X-Kas402-Payer: kaspasim:q\r\nX-Kas402-Txid: 00\r\nX-Kas402-Amount-Sompi: 25000000\r\n", ""), 402),
        ("a payment over its limit", http1("GET", "/paid", &format!("PAYMENT-SIGNATURE: {}\r\n", "A".repeat(128 * 1024 + 4)), ""), 431),
        ("a head over the server's limit", http1("GET", "/paid", &format!("PAYMENT-SIGNATURE: {}\r\n", "A".repeat(2 * 1024 * 1024)), ""), 400),
        ("too many headers", http1("GET", "/paid", &"X-A: b\r\n".repeat(300), ""), 400),
        // upgrades
        ("WebSocket on what is sold", upgrade("/paid", "websocket", ""), 402),
        ("h2c on what is sold", upgrade("/paid", "h2c", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n"), 402),
        ("WebSocket on a free path, then what is sold", upgrade("/free", "websocket", "") + inner, 200),
        ("h2c on a free path, then what is sold", upgrade("/free", "h2c", "HTTP2-Settings: AAMAAABkAAQAAP__\r\n") + inner, 200),
        ("an unknown upgrade, then what is sold", upgrade("/free", "tunnel", "") + inner, 200),
        // framing
        ("what is sold in a pipeline", "GET /free HTTP/1.1\r\nHost: paid.test\r\n\r\n".to_owned() + inner, 200),
        // pingora drops the length, chunks anew and ends the connection.
        ("length and chunked", smuggle("/free", &format!("Content-Length: 5\r\n{chunked}"), inner), 200),
        ("chunked and length", smuggle("/free", &format!("{chunked}Content-Length: 5\r\n"), inner), 200),
        ("two lengths", smuggle("/free", "Content-Length: 5\r\nContent-Length: 6\r\n", inner), 400),
        ("a list of equal lengths", smuggle("/free", "Content-Length: 5, 5\r\n", inner), 400),
        ("equal lengths", smuggle("/free", "Content-Length: 5\r\nContent-Length: 5\r\n", inner), 400),
        ("another coding below chunked", smuggle("/free", "Transfer-Encoding: gzip, chunked\r\n", inner), 400),
        ("a list of lengths", smuggle("/free", "Content-Length: 5, 6\r\n", inner), 400),
        ("a signed length", smuggle("/free", "Content-Length: +5\r\n", inner), 400),
        ("an odd coding", smuggle("/free", "Transfer-Encoding: xchunked\r\n", inner), 400),
        ("chunked twice", smuggle("/free", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", inner), 400),
        ("chunked, then identity", smuggle("/free", "Transfer-Encoding: chunked, identity\r\n", inner), 400),
        ("a coding with a blank before the colon", smuggle("/free", "Transfer-Encoding : chunked\r\n", inner), 400),
        ("chunked in HTTP/1.0", smuggle("/free", chunked, inner).replace("HTTP/1.1\r\nHost: paid.test\r\nT", "HTTP/1.0\r\nHost: paid.test\r\nT"), 400),
        ("a bad chunk size", http1("POST", "/free", chunked, "zz\r\nx\r\n0\r\n\r\n"), 400),
        ("a body behind GET", format!("GET /free HTTP/1.1\r\nHost: paid.test\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{inner}", inner.len()), 200),
        ("a bare line feed before a header", "GET /free HTTP/1.1\nHost: paid.test\n\nGET /paid HTTP/1.1\nHost: paid.test\n\n".into(), 200),
        ("a line feed in the target", "GET /free\nX: /paid HTTP/1.1\r\nHost: paid.test\r\n\r\n".into(), 400),
        ("a blank in the target", http1("GET", "/free /paid", "", ""), 200),
        ("a blank behind what is sold", http1("GET", "/paid ", "", ""), 404),
        ("a blank before what is sold", http1("GET", " /paid", "", ""), 400),
        ("HTTP/0.9", "GET /paid?and-more-than-a-preface\r\n\r\n".into(), 400),
        ("an unknown version", "GET /paid HTTP/3.0\r\nHost: paid.test\r\n\r\n".into(), 400),
        ("a body for what is sold", http1("POST", "/api/run", "Content-Length: 2\r\n", "{}"), 402),
        ("a chunked body for what is sold", http1("POST", "/api/run", chunked, "2\r\n{}\r\n0\r\n\r\n"), 402),
        ("trailers with a payment", http1("POST", "/api/run", &format!("{chunked}Trailer: PAYMENT-SIGNATURE\r\n"), "2\r\n{}\r\n0\r\nPAYMENT-SIGNATURE: e30=\r\n\r\n"), 402),
    ]
}

fn upgrade(path: &str, to: &str, lines: &str) -> String {
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    format!("GET {path} HTTP/1.1\r\nHost: paid.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {to}\r\n{key}{lines}\r\n")
}

fn smuggle(path: &str, lines: &str, inner: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: paid.test\r\n{lines}\r\n0\r\n\r\n{inner}")
}

/// HTTP/2 by prior knowledge: method, target, a header, status.
#[rustfmt::skip]
pub const H2: &[(&str, &str, (&str, &str), u16)] = &[
    ("GET", "http://paid.test/paid", ("x-a", "b"), 402), ("GET", "http://paid.test/free", ("x-a", "b"), 200), ("HEAD", "http://paid.test/paid", ("x-a", "b"), 402),
    ("POST", "http://paid.test/api/run", ("x-a", "b"), 402), ("get", "http://paid.test/paid", ("x-a", "b"), 404), ("OPTIONS", "http://paid.test/paid", ("x-a", "b"), 402),
    ("GET", "http://paid.test//paid", ("x-a", "b"), 402), ("GET", "http://paid.test/x/../paid", ("x-a", "b"), 402), ("GET", "http://paid.test/x/%2e%2e/paid", ("x-a", "b"), 402),
    ("GET", "http://paid.test/%70aid", ("x-a", "b"), 402), ("GET", "http://paid.test/PAID", ("x-a", "b"), 404), ("GET", "http://paid.test/paid/", ("x-a", "b"), 404),
    ("GET", "http://paid.test/paid;x", ("x-a", "b"), 404), ("GET", "http://paid.test/files%2Fa", ("x-a", "b"), 400), ("GET", "http://paid.test/%c0%afpaid", ("x-a", "b"), 400),
    ("GET", "http://paid.test/%2570aid", ("x-a", "b"), 404), ("GET", "http://paid.test/paid%zz", ("x-a", "b"), 400),
    ("GET", "http://paid.test/files/a", ("host", "other.test"), 400), ("GET", "http://other.test/paid", ("x-a", "b"), 402),
    ("GET", "http://paid.test/api/run", ("x-http-method-override", "POST"), 200), ("GET", "http://paid.test/free", ("x-original-url", "/paid"), 200),
    ("GET", "http://paid.test/paid", ("payment-signature", "e30=, e30="), 400),
];
