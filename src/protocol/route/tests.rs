use super::*;
use crate::protocol::{
    amount::Amount,
    path::NormalPath,
    policy::{Accept, ChargeOn, ExactTerms, Observe, Pricing, PublicOrigin, RouteId, Terms},
    price::PriceRule,
    requirements::{Finality, FinalityRule},
};
use std::time::Duration;

/// `GET,POST host/path ?q=v X-H: v` and whether it is priced; the text is the route's id.
fn route(text: &str, access: Access) -> Route {
    let mut words = text.split(' ').peekable();
    let is_target = |word: &&str| word.contains('/');
    let methods = words.next_if(|word| !is_target(word)).map_or(vec![], |list| list.split(',').map(|m| m.parse().unwrap()).collect());
    let (host, path) = words.next().unwrap().split_once('/').unwrap();
    let condition = |word: &str| match word.strip_prefix('?') {
        Some(pair) => match pair.split_once('=') {
            Some((name, value)) => Condition::Query(name.into(), Some(value.into())),
            None => Condition::Query(pair.into(), None),
        },
        None => match word.split_once(':') {
            Some((name, value)) => Condition::Header(name.parse().unwrap(), Some(value.parse().unwrap())),
            None => Condition::Header(word.parse().unwrap(), None),
        },
    };
    Route {
        id: RouteId(text.into()),
        origin: PublicOrigin("https://api.example.com".into()),
        host: Some(host.to_owned()).filter(|host| !host.is_empty()),
        path: format!("/{path}"),
        methods,
        conditions: words.map(condition).collect(),
        upstream: "api".into(),
        access,
        timeout: Duration::from_secs(1),
    }
}

fn priced() -> Access {
    let accept = Accept {
        rule_id: "0".into(),
        price: PriceRule::Fixed(Amount::from_sompi(1).unwrap()),
        pay_to: String::new(),
        terms: Terms::Exact(ExactTerms { finality: FinalityRule { level: Finality::Accepted, depth: 0 }, mempool_max: None }),
    };
    Access::Priced(Box::new(Pricing {
        accepts: vec![accept],
        body_limit: 0,
        replay_limit: 0,
        replay_cookies: false,
        require_request_hash: false,
        require_identifier: false,
        offer_seconds: 60,
        settle_wait: Duration::from_secs(1),
        entitlement_seconds: 60,
        observe: Observe::Proven,
        charge_on: ChargeOn::Below500,
        description: None,
        mime_type: None,
    }))
}

/// Routes that start with `$` are priced.
fn build(routes: &[&str]) -> Result<Router, Vec<RouteConflict>> {
    let parse = |text: &&str| match text.strip_prefix('$') {
        Some(text) => route(text, priced()),
        None => route(text, Access::Free),
    };
    Router::build(routes.iter().map(parse).collect())
}

/// `GET host/path?query X-H:v` as a request; what it finds, as text.
fn find(router: &Router, request: &str) -> String {
    let mut words = request.split(' ');
    let method: Method = words.next().unwrap().parse().unwrap();
    let (host, target) = words.next().unwrap().split_once('/').unwrap();
    let target = format!("/{target}");
    let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query.to_owned())));
    let mut headers = HeaderMap::new();
    for line in words {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let path = NormalPath::parse(path, true).unwrap();
    let head = RequestHead { method, host: host.into(), path, target: target.clone(), query, headers };
    match router.find(&head) {
        Match::Route(route) if is_priced(&route) => format!("${}", route.id),
        Match::Route(route) => route.id.to_string(),
        Match::HeadOfPriced(route) => format!("402 {}", route.id),
        Match::Preflight(route) => format!("preflight {}", route.id),
        Match::Unmatched => "404".to_owned(),
    }
}

fn check(routes: &[&str], cases: &[(&str, &str)]) {
    let router = build(routes).unwrap();
    for (request, expect) in cases {
        assert_eq!(find(&router, request), *expect, "{request} among {routes:?}");
    }
}

#[test]
fn the_most_specific_route_wins() {
    check(
        &[
            "a.test/{*rest}",
            "$GET /v1/{id}",
            "/v1/{id}",
            "$GET /v1/{id} X-Tier:gold",
            "/v1/one",
            "$/v1/{*rest}",
            "POST,PUT /v1/{id}/x",
            "/",
        ],
        &[
            ("GET a.test/v1/5", "a.test/{*rest}"),
            ("GET a.test./v1/5", "a.test/{*rest}"),
            ("GET b.test/v1/5", "$GET /v1/{id}"),
            ("POST b.test/v1/5", "/v1/{id}"),
            ("GET b.test/v1/5 X-Tier:gold", "$GET /v1/{id} X-Tier:gold"),
            ("GET b.test/v1/5 X-Tier:silver", "$GET /v1/{id}"),
            ("GET b.test/v1/one", "/v1/one"),
            ("GET b.test/v1/5/6", "$/v1/{*rest}"),
            ("PUT b.test/v1/5/x", "POST,PUT /v1/{id}/x"),
            ("DELETE b.test/v1/5/x", "$/v1/{*rest}"),
            ("GET b.test/", "/"),
            ("GET b.test/v2", "404"),
        ],
    );
}

#[test]
fn conditions_hold_only_when_they_are_clear() {
    check(
        &["$/x X-Tier:gold", "$/z ?model=big", "$/y X-Key", "/{*rest}"],
        &[
            ("GET h/x", "/{*rest}"),
            ("GET h/x X-Tier:gold", "$/x X-Tier:gold"),
            ("GET h/x X-Tier:gold X-Tier:gold", "404"),
            ("GET h/x X_Tier:gold", "404"),
            ("GET h/z?model=big", "$/z ?model=big"),
            ("GET h/z?model=big&model=big", "404"),
            ("GET h/z?Model=big", "404"),
            ("GET h/z?model=small", "/{*rest}"),
            ("GET h/y X-Key:any", "$/y X-Key"),
            ("GET h/y X-Key:any X-Key:other", "404"),
            ("GET h/y", "/{*rest}"),
        ],
    );
}

#[test]
fn head_of_a_priced_path_is_never_forwarded() {
    check(
        &["$POST /x", "GET /x", "$/p/{*rest}", "GET /p/free", "HEAD /h", "GET /h", "/any", "POST /post", "/files/{*rest}", "$/files/paid"],
        &[
            ("HEAD h/x", "402 POST /x"),
            ("HEAD h/p/1", "402 /p/{*rest}"),
            ("HEAD h/p/", "402 /p/{*rest}"),
            ("HEAD h/p/free", "GET /p/free"),
            ("HEAD h/h", "HEAD /h"),
            ("HEAD h/any", "/any"),
            ("HEAD h/post", "404"),
            ("HEAD h/files/a", "/files/{*rest}"),
            ("HEAD h/files/paid", "402 /files/paid"),
            ("HEAD h/files/PAID", "404"),
            ("head h/x", "404"),
        ],
    );
}

#[test]
fn a_preflight_is_answered_free_and_other_options_follow_the_routes() {
    let preflight = " Origin:https://a Access-Control-Request-Method:POST";
    check(
        &["$POST /x", "/{*rest}", "$/any", "$POST a.test/only"],
        &[
            (&format!("OPTIONS h/x{preflight}"), "preflight POST /x"),
            (&format!("OPTIONS h/free{preflight}"), "/{*rest}"),
            (&format!("OPTIONS h/X{preflight}"), "404"),
            ("OPTIONS h/x Origin:https://a", "/{*rest}"),
            ("OPTIONS h/any", "$/any"),
            (&format!("OPTIONS h/any{preflight}"), "preflight /any"),
        ],
    );
    check(&["$POST /x"], &[("OPTIONS h/x", "404"), (&format!("OPTIONS h/x{preflight}"), "preflight POST /x")]);
}

#[test]
fn strange_methods_never_slip_past_a_price() {
    check(
        &["$GET /x", "$/all", "/{*rest}"],
        &[
            ("get h/x", "404"),
            ("Get h/x", "404"),
            ("pATCH h/x", "404"),
            ("get h/free", "/{*rest}"),
            ("PATCH h/x", "/{*rest}"),
            ("BREW h/all", "$/all"),
            ("brew h/all", "404"),
            ("CONNECT h/x", "404"),
            ("CONNECT h/free", "404"),
            ("connect h/free", "404"),
        ],
    );
}

#[test]
fn a_wildcard_never_serves_the_look_alike_of_a_priced_path() {
    let routes = ["$GET /paid", "$/v1/x:run", "$/files/{*rest}", "$/m/{id}", "/m/{id}/notes", "/Paid/exact", "/{*rest}"];
    check(
        &routes,
        &[
            ("GET h/paid", "$GET /paid"),
            ("GET h/PAID", "404"),
            ("GET h/paid/", "404"),
            ("GET h/paid;x=1", "404"),
            ("GET h/a/..;/paid", "404"),
            ("GET h/paid%20", "404"),
            ("GET h/paid.", "404"),
            ("GET h/%2570aid", "404"),
            ("GET h/v1%2Fx:run", "404"),
            ("GET h/v1/x%3Arun", "404"),
            ("GET h/v1/x%253Arun", "404"),
            ("GET h/files", "404"),
            ("GET h/FILES/a", "404"),
            ("GET h/files/", "$/files/{*rest}"),
            ("GET h/M/5", "404"),
            ("GET h/M/5/notes", "/{*rest}"),
            ("GET h/m/5/notes", "/m/{id}/notes"),
            ("GET h/Paid/exact", "/Paid/exact"),
            ("GET h/paid/x", "/{*rest}"),
            ("GET h/other", "/{*rest}"),
            ("GET h/", "/{*rest}"),
        ],
    );
    check(
        &["$/m/{id}", "$/m/dear", "/m/free", "/items/{id}", "$/{*rest}"],
        &[
            ("GET h/m/dear", "$/m/dear"),
            ("GET h/m/DEAR", "404"),
            ("GET h/m/other", "$/m/{id}"),
            ("GET h/m/FREE", "$/m/{id}"),
            ("GET h/items/5", "/items/{id}"),
            ("GET h/items/5/", "$/{*rest}"),
        ],
    );
    check(&["/paid/", "$/paid"], &[("GET h/paid/", "/paid/"), ("GET h/paid", "$/paid")]);
    check(
        &["$a.test/paid", "/{*rest}"],
        &[("GET a.test/PAID", "404"), ("GET a.test./paid", "$a.test/paid"), ("GET b.test/PAID", "/{*rest}")],
    );
}

#[test]
fn routes_of_equal_precedence_are_refused_both_named() {
    let tie = |routes: &[&str]| build(routes).err().map(|all| all.iter().map(|c| (c.route, c.other)).collect::<Vec<_>>());
    for routes in [
        &["/b", "/a"][..],
        &["/a/{x}", "/a/{y}"][..],
        &["GET,PUT /a", "PUT,POST /a"][..],
        &["/a X-A:1", "/a X-B:1"][..],
        &["/a X-A", "/a X-A:1"][..],
    ] {
        let [first, second] = routes else { panic!("pairs") };
        let expect = (first != &"/b").then(|| vec![(1, Some(0))]);
        assert_eq!(tie(&[first, second]), expect, "{routes:?}");
    }
    assert_eq!(tie(&["/a", "/a", "/{x"]), Some(vec![(1, Some(0)), (2, None)]), "every conflict at once");
    assert!(build(&["GET /a", "/a", "POST /a", "GET /a X-A:1", "GET /a X-A:2", "x/a", "/a/{x}", "/a/{*x}"]).is_ok());
}

#[test]
fn a_host_sells_when_one_of_its_routes_is_priced() {
    let router = build(&["$a.test/x", "b.test/x"]).unwrap();
    assert!(router.sells_on("a.test") && router.sells_on("a.test."));
    assert!(!router.sells_on("b.test") && !router.sells_on("c.test"));
    assert!(build(&["$/x", "b.test/x"]).unwrap().sells_on("b.test"));
}
