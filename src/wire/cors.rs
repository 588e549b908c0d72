//! CORS: browsers of any configured origin may read offers and receipts (PROTOCOL section 1).

use super::headers::{PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, REQUEST_ID};
use crate::protocol::policy::Cors;
use http::{HeaderMap, HeaderName, HeaderValue, header};

const EXPOSED: [HeaderName; 3] = [PAYMENT_REQUIRED, PAYMENT_RESPONSE, REQUEST_ID];

/// Adds to a response what lets a browser read it; merges with what the upstream set.
pub fn expose(cors: &Cors, request: &HeaderMap, response: &mut HeaderMap) {
    let Some(origin) = allowed_origin(cors, request) else { return };
    if !response.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        if origin != "*" {
            response.append(header::VARY, HeaderValue::from_static("origin"));
        }
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    let upstream = response.get_all(header::ACCESS_CONTROL_EXPOSE_HEADERS).iter().filter_map(|v| v.to_str().ok());
    let mut names: Vec<String> = upstream.flat_map(|v| v.split(',')).map(|n| n.trim().to_ascii_lowercase()).collect();
    names.extend(EXPOSED.iter().map(|name| name.as_str().to_owned()));
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    if let Ok(value) = HeaderValue::try_from(names.join(", ")) {
        response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, value);
    }
}

/// The answer to a preflight, without a body.
pub fn preflight(cors: &Cors, request: &HeaderMap) -> HeaderMap {
    let mut response = HeaderMap::new();
    let Some(origin) = allowed_origin(cors, request) else { return response };
    if origin != "*" {
        response.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if let Some(method) = request.get(header::ACCESS_CONTROL_REQUEST_METHOD) {
        response.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    }
    let mut allowed = PAYMENT_SIGNATURE.as_str().to_owned();
    for value in request.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|v| v.to_str().ok()) {
        allowed.push_str(", ");
        allowed.push_str(value);
    }
    if let Ok(value) = HeaderValue::try_from(allowed) {
        response.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, value);
    }
    response.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

fn allowed_origin(cors: &Cors, request: &HeaderMap) -> Option<HeaderValue> {
    let origin = request.get(header::ORIGIN)?;
    match cors {
        Cors::Any => Some(HeaderValue::from_static("*")),
        Cors::Origins(origins) => origins.iter().any(|o| o.as_bytes() == origin.as_bytes()).then(|| origin.clone()),
        Cors::Off => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, "POST".parse().unwrap());
        headers.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type".parse().unwrap());
        headers
    }

    #[test]
    fn browsers_may_read_offers_and_receipts() {
        let mut response = HeaderMap::new();
        response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, "X-Total".parse().unwrap());
        expose(&Cors::Any, &request("https://a"), &mut response);
        assert_eq!(response[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(response[header::ACCESS_CONTROL_EXPOSE_HEADERS], "payment-required, payment-response, x-request-id, x-total");
    }

    #[test]
    fn an_answer_that_names_its_reader_varies_with_him() {
        let named = Cors::Origins(vec!["https://a".into()]);
        for (cors, expect) in [(&named, Some("origin")), (&Cors::Any, None)] {
            let mut response = HeaderMap::new();
            expose(cors, &request("https://a"), &mut response);
            for answer in [response, preflight(cors, &request("https://a"))] {
                assert_eq!(answer.get(header::VARY).map(|vary| vary.to_str().unwrap()), expect, "{cors:?}");
                assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_ORIGIN], if expect.is_some() { "https://a" } else { "*" });
            }
        }
    }

    #[test]
    fn only_listed_origins_are_named() {
        let cors = Cors::Origins(vec!["https://a".into()]);
        assert_eq!(preflight(&cors, &request("https://a"))[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://a");
        assert!(preflight(&cors, &request("https://b")).is_empty());
        assert!(preflight(&Cors::Off, &request("https://a")).is_empty());
        assert_eq!(preflight(&cors, &request("https://a"))[header::ACCESS_CONTROL_ALLOW_HEADERS], "payment-signature, content-type");
    }
}
