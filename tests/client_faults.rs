//! The buyer against servers that misbehave on purpose: whatever they do, for one request no two
//! payments that could both be accepted are ever handed out.

#[path = "client_faults/shop.rs"]
mod shop;

use kas402::{
    chain::Sighting,
    client::{
        coins::CoinRules,
        decide::Stop,
        error::{FetchError, Money, Unpaid, Why},
        exchange::PaidRequest,
        journal::{Journal, State},
        paid::{Edge, Fetched, PaidClient, Quote},
        policy::{Budget, Limit, Patience, SpendingPolicy, Unwilling},
        wallet::Wallet,
    },
    protocol::{amount::Amount, ids::TxId, network::Network, time::UnixMillis},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;
use shop::{FakeNode, Shop, Trick};
use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

const PRICE: u64 = 25_000_000;

struct Buyer {
    client: PaidClient,
    journal: Arc<Journal>,
    node: Arc<FakeNode>,
    folder: tempfile::TempDir,
}

/// What may vary between buyers.
struct Setup {
    max: Option<u64>,
    max_fee: u64,
    node: bool,
    total: Duration,
    network: Network,
    budget: Budget,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max: Some(PRICE),
            max_fee: 10_000_000,
            node: true,
            total: Duration::from_secs(20),
            network: Network::Simnet,
            budget: Budget::default(),
        }
    }
}

fn client(setup: &Setup, journal: &Arc<Journal>, node: &Arc<FakeNode>) -> PaidClient {
    let wallet = Arc::new(Wallet::from_secret(setup.network, &[7; 32]).unwrap());
    let policy = SpendingPolicy {
        max_amount: setup.max.map(|max| Amount::from_sompi(max).unwrap()),
        max_fee: Amount::from_sompi(setup.max_fee).unwrap(),
        network: setup.network,
        recipients: None,
        other_origin: false,
        budget: setup.budget,
    };
    let patience = Patience { total: setup.total, attempt: Duration::from_millis(400), body_bytes: 1 << 20 };
    let chain = setup.node.then(|| node.clone() as Arc<dyn kas402::chain::Chain>);
    PaidClient::new(wallet, journal.clone(), chain, policy, CoinRules::of(setup.network), patience)
}

impl Buyer {
    fn new(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = Arc::new(open(folder.path()));
        let script = Wallet::from_secret(setup.network, &[7; 32]).unwrap().script();
        let node = FakeNode::holding(&script, &[40 * PRICE, 20 * PRICE, 10 * PRICE, 10 * PRICE]);
        Self { client: client(&setup, &journal, &node), journal, node, folder }
    }

    /// The same wallet in a new process: only the file is left.
    fn restarted(self, setup: Setup) -> Self {
        let Self { client: old, journal, node, folder } = self;
        drop((old, journal));
        let journal = Arc::new(open(folder.path()));
        Self { client: client(&setup, &journal, &node), journal, node, folder }
    }

    async fn fetch(&self, shop: &Shop) -> Result<Fetched, FetchError> {
        self.fetch_as(shop, false).await
    }

    async fn fetch_as(&self, shop: &Shop, fresh: bool) -> Result<Fetched, FetchError> {
        // Real randomness, printed nowhere: no outcome here depends on it.
        let mut rng = StdRng::from_entropy();
        let mut edge = Edge { now: &|| UnixMillis(1_000), rng: &mut rng, watch: &mut |_| {} };
        self.client.fetch(&request(shop), fresh, &mut edge).await
    }

    fn states(&self) -> Vec<State> {
        self.journal.history(10).unwrap().into_iter().map(|entry| entry.state).collect()
    }
}

fn open(folder: &Path) -> Journal {
    Journal::open(&folder.join("journal.sqlite")).unwrap()
}

fn request(shop: &Shop) -> PaidRequest {
    PaidRequest::new(http::Method::POST, &shop.url("/paid?q=1"), http::HeaderMap::new(), "body".into()).unwrap()
}

fn paid(outcome: Result<Fetched, FetchError>) -> TxId {
    match outcome {
        Ok(Fetched::Paid { reply, payment, .. }) => {
            assert_eq!((&reply.body[..], payment.state), (&b"the goods"[..], State::Delivered));
            payment.txid
        }
        other => panic!("not paid: {other:?}"),
    }
}

/// One request, one transaction, one header: byte for byte the same every time it was sent.
fn assert_one_payment(shop: &Shop) -> TxId {
    let payments = shop.payments();
    assert!(!payments.is_empty(), "nothing was ever paid");
    let headers: HashSet<_> = payments.iter().map(|payment| payment.header.clone()).collect();
    let txids: HashSet<_> = payments.iter().map(|payment| payment.txid).collect();
    assert_eq!((headers.len(), txids.len()), (1, 1), "{} attempts", payments.len());
    payments[0].txid
}

#[tokio::test]
async fn a_server_that_stumbles_is_sent_the_same_payment_until_it_delivers() {
    for tricks in [
        vec![Trick::Deliver],
        vec![Trick::Pending, Trick::Pending, Trick::Deliver],
        vec![Trick::Hang, Trick::Deliver],
        vec![Trick::Drop, Trick::Drop, Trick::Deliver],
        vec![Trick::DropInBody, Trick::Deliver],
        vec![Trick::Status(500), Trick::Status(503), Trick::Status(429), Trick::Deliver],
        vec![Trick::Refuse(409, "payment_in_flight"), Trick::Refuse(409, "payer_proof_required"), Trick::Deliver],
        vec![Trick::PaidBut(502), Trick::PaidBut(504), Trick::Deliver],
        vec![Trick::Pending, Trick::Hang, Trick::Drop, Trick::Status(502), Trick::PaidBut(502), Trick::Deliver],
        vec![Trick::GarbageReceipt(503), Trick::Deliver],
    ] {
        let shop = Shop::open(tricks.clone()).await;
        let buyer = Buyer::new(Setup::default());
        let txid = paid(buyer.fetch(&shop).await);
        assert_eq!(assert_one_payment(&shop), txid, "{tricks:?}");
        assert_eq!(shop.payments().len(), tricks.len());
        assert_eq!(buyer.states(), [State::Delivered]);
    }
}

#[tokio::test]
async fn a_server_that_asks_again_or_lies_stops_the_buyer_who_names_the_transaction() {
    type Expect = fn(&Why) -> bool;
    let asked: Expect = |why| matches!(why, Why::Stop(Stop::AskedAgain));
    for (trick, expect) in [
        (Trick::AskAgain, asked),
        (Trick::RefuseWithOffer("settlement_pending"), asked),
        (Trick::RefuseWithOffer("invalid_kaspa_exact_payment_output"), asked),
        (Trick::RejectAnother("offer_expired"), asked),
        (Trick::SettledButAsk, asked),
        (Trick::Redirect, |why| matches!(why, Why::Stop(Stop::Redirected))),
        (Trick::WrongReceipt, |why| matches!(why, Why::Stop(Stop::WrongReceipt(_)))),
        (Trick::Refuse(409, "paid_late"), |why| matches!(why, Why::Stop(Stop::Refused { status: 409, .. }))),
        (Trick::Refuse(400, "payment_header_schema"), |why| matches!(why, Why::Stop(Stop::Refused { status: 400, .. }))),
        (Trick::Status(404), |why| matches!(why, Why::Stop(Stop::Refused { status: 404, .. }))),
    ] {
        let shop = Shop::open(vec![trick, Trick::Deliver]).await;
        let buyer = Buyer::new(Setup::default());
        let error = buyer.fetch(&shop).await.expect_err("stopped");
        let txid = assert_one_payment(&shop);
        assert_eq!(error.money(), Money::Undecided(txid), "{trick:?}: {error}");
        assert!(matches!(&error, FetchError::Undecided { why, .. } if expect(why)), "{trick:?}: {error}");
        assert!(error.to_string().contains(&txid.to_string()), "{error}");
        assert_eq!(buyer.states(), [State::Open]);
        // A new process resumes the same payment, here with success, without asking for an offer.
        let buyer = buyer.restarted(Setup { node: false, ..Setup::default() });
        assert_eq!(paid(buyer.fetch(&shop).await), txid);
        assert_one_payment(&shop);
        assert_eq!((shop.unpaid_requests(), shop.elsewhere()), (1, 0));
    }
}

#[tokio::test]
async fn a_buyer_who_runs_out_of_time_says_so_and_resumes_after_a_restart() {
    for (trick, settled) in [(Trick::Pending, false), (Trick::Hang, false), (Trick::Drop, false), (Trick::PaidBut(502), true)] {
        let shop = Shop::open(vec![trick]).await;
        let buyer = Buyer::new(Setup { total: Duration::from_millis(900), ..Setup::default() });
        let error = buyer.fetch(&shop).await.expect_err("out of time");
        let txid = assert_one_payment(&shop);
        assert_eq!(error.money(), if settled { Money::Settled(txid) } else { Money::Undecided(txid) }, "{trick:?}: {error}");
        assert_eq!(buyer.states(), [if settled { State::Settled } else { State::Open }]);
        shop.now_does(vec![Trick::Deliver]);
        let buyer = buyer.restarted(Setup::default());
        assert_eq!(paid(buyer.fetch(&shop).await), txid);
        assert_one_payment(&shop);
        assert_eq!(buyer.states(), [State::Delivered]);
    }
}

#[tokio::test]
async fn a_buyer_killed_after_the_record_and_before_the_answer_resumes() {
    let shop = Shop::open(vec![Trick::Hang]).await;
    let buyer = Arc::new(Buyer::new(Setup::default()));
    let task = tokio::spawn({
        let (buyer, shop) = (buyer.clone(), shop.clone());
        async move { buyer.fetch(&shop).await.map(|_| ()).map_err(|_| ()) }
    });
    shop.first_payment().await;
    task.abort();
    assert!(task.await.expect_err("killed").is_cancelled());
    shop.now_does(vec![Trick::Deliver]);
    let buyer = Arc::into_inner(buyer).expect("the task is gone").restarted(Setup::default());
    paid(buyer.fetch(&shop).await);
    assert_one_payment(&shop);
}

#[tokio::test]
async fn requests_at_the_same_time_share_one_payment() {
    let shop = Shop::open(vec![Trick::Pending, Trick::Pending, Trick::Pending, Trick::Pending, Trick::Deliver]).await;
    let buyer = Buyer::new(Setup::default());
    let outcomes = futures::future::join_all((0..4).map(|_| buyer.fetch(&shop))).await;
    let txids: HashSet<_> = outcomes.into_iter().map(paid).collect();
    assert_eq!(txids, HashSet::from([assert_one_payment(&shop)]));
}

#[tokio::test]
async fn a_proven_rejection_is_paid_anew_by_a_transaction_that_excludes_the_first() {
    let rejected = "invalid_kaspa_exact_transaction_rejected";
    for (tricks, headers, transactions) in [
        // Under a newer offer of the same price the same transaction goes again.
        (vec![Trick::Reject("offer_expired"), Trick::Deliver], 2, 1),
        (vec![Trick::Reject("offer_key_unknown"), Trick::RejectAndRaise("offer_expired"), Trick::Deliver], 3, 2),
        (vec![Trick::RejectAndRaise(rejected), Trick::RejectAndRaise("offer_other_price"), Trick::Deliver], 3, 3),
        (vec![Trick::RejectAndRaise(rejected), Trick::Pending, Trick::Drop, Trick::Deliver], 2, 2),
    ] {
        let shop = Shop::open(tricks.clone()).await;
        let buyer = Buyer::new(Setup { max: Some(20 * PRICE), ..Setup::default() });
        let txid = paid(buyer.fetch(&shop).await);
        let payments = shop.payments();
        assert_eq!(payments.last().unwrap().txid, txid);
        assert_eq!(distinct(payments.iter().map(|payment| &payment.header)), headers, "{tricks:?}");
        assert_eq!(distinct(payments.iter().map(|payment| &payment.txid)), transactions, "{tricks:?}");
        assert_eq!(distinct(payments.iter().map(|payment| &payment.identifier)), 1, "one purchase keeps one identifier");
        assert_they_exclude_each_other(&shop);
        assert_eq!(buyer.states()[0], State::Delivered);
        assert!(buyer.states()[1..].iter().all(|state| *state == State::Replaced));
    }
}

#[tokio::test]
async fn a_rejected_transaction_is_not_sent_again_under_another_offer() {
    let shop = Shop::open(vec![Trick::Reject("invalid_kaspa_exact_transaction_rejected")]).await;
    let buyer = Buyer::new(Setup::default());
    let error = buyer.fetch(&shop).await.expect_err("it would be rejected again");
    assert!(
        matches!(&error, FetchError::Undecided { why: Why::NoReplacement { why, .. }, .. } if matches!(**why, Unpaid::SameTransaction))
    );
    assert_one_payment(&shop);
}

fn distinct<T: Eq + std::hash::Hash>(values: impl Iterator<Item = T>) -> usize {
    values.collect::<HashSet<_>>().len()
}

fn assert_they_exclude_each_other(shop: &Shop) {
    let common = shop.payments().iter().map(|payment| payment.inputs.clone()).reduce(|a, b| &a & &b).unwrap();
    assert!(!common.is_empty(), "one coin is spent by all of them");
}

#[tokio::test]
async fn a_rejection_is_not_believed_when_the_own_node_contradicts_it_or_cannot_be_asked() {
    type Expect = fn(&Why) -> bool;
    let tricks = || vec![Trick::Reject("offer_expired")];
    let check = async |buyer: Buyer, shop: Shop, expect: Expect| {
        let error = buyer.fetch(&shop).await.expect_err("stopped");
        assert!(matches!(&error, FetchError::Undecided { why, .. } if expect(why)), "{error}");
        assert_one_payment(&shop);
        assert_eq!(buyer.states(), [State::Open]);
    };
    for sighting in [Sighting::Mempool, Sighting::UtxoSet] {
        let buyer = Buyer::new(Setup::default());
        buyer.node.sees(Some(sighting));
        check(buyer, Shop::open(tricks()).await, |why| matches!(why, Why::Contradicted { .. })).await;
    }
    let buyer = Buyer::new(Setup::default());
    buyer.node.sees(None);
    check(buyer, Shop::open(tricks()).await, |why| matches!(why, Why::NoReplacement { .. })).await;

    // The price rose above the maximum meanwhile.
    let raised = Shop::open(vec![Trick::RejectAndRaise("offer_expired")]).await;
    check(
        Buyer::new(Setup::default()),
        raised,
        |why| matches!(why, Why::NoReplacement { why, .. } if matches!(**why, Unpaid::Unwilling(_))),
    )
    .await;

    // All coins of the first are spent by something else.
    let buyer = Buyer::new(Setup::default());
    buyer.node.spends_what_pays();
    check(buyer, Shop::open(tricks()).await, |why| matches!(why, Why::NoReplacement { .. })).await;

    // Resumed without a node.
    let shop = Shop::open(vec![Trick::AskAgain, Trick::Reject("offer_expired")]).await;
    let buyer = Buyer::new(Setup::default());
    buyer.fetch(&shop).await.expect_err("asked again");
    let buyer = buyer.restarted(Setup { node: false, ..Setup::default() });
    check(buyer, shop, |why| matches!(why, Why::Unchecked { .. })).await;
}

#[tokio::test]
async fn a_server_that_rejects_for_ever_is_given_up_on() {
    let shop = Shop::open(vec![Trick::RejectAndRaise("offer_expired")]).await;
    let buyer = Buyer::new(Setup { max: Some(100 * PRICE), ..Setup::default() });
    let error = buyer.fetch(&shop).await.expect_err("given up");
    assert!(matches!(&error, FetchError::Undecided { why: Why::AlwaysRejected { .. }, .. }), "{error}");
    let payments = shop.payments();
    assert_eq!(payments.len(), 3);
    assert_they_exclude_each_other(&shop);
}

#[tokio::test]
async fn another_purchase_of_the_same_thing_is_made_only_on_request() {
    let shop = Shop::open(vec![Trick::AskAgain]).await;
    let buyer = Buyer::new(Setup::default());
    buyer.fetch(&shop).await.expect_err("asked again");
    buyer.fetch(&shop).await.expect_err("resumed, asked again");
    assert_one_payment(&shop);
    shop.now_does(vec![Trick::Deliver]);
    let second = paid(buyer.fetch_as(&shop, true).await);
    let payments = shop.payments();
    let first = payments.first().unwrap();
    let last = payments.last().unwrap();
    assert_eq!(last.txid, second);
    assert!(first.txid != second && first.inputs.is_disjoint(&last.inputs), "it leaves the first one's coins alone");
    // What was delivered is not resumed: asking again is a new purchase.
    assert_eq!(paid(buyer.fetch(&shop).await), first.txid, "the first is still open, and goes before a new one");
    let third = paid(buyer.fetch(&shop).await);
    assert!(third != first.txid && third != second);
}

#[tokio::test]
async fn what_is_over_is_closed() {
    let shop = Shop::open(vec![Trick::Refuse(410, "entitlement_expired")]).await;
    let buyer = Buyer::new(Setup::default());
    let error = buyer.fetch(&shop).await.expect_err("lapsed");
    assert_eq!(error.money(), Money::Lost(assert_one_payment(&shop)));
    assert_eq!(buyer.states(), [State::Lapsed]);
}

#[tokio::test]
async fn offers_that_are_not_acceptable_are_not_paid() {
    type Expect = fn(&Unpaid) -> bool;
    let unwilling: Expect = |u| matches!(u, Unpaid::Unwilling(_));
    let nothing: Expect = |u| matches!(u, Unpaid::Challenge(_));
    for (pointer, value, expect) in [
        ("/accepts/0/amount", json!((PRICE + 1).to_string()), unwilling),
        ("/accepts/0/network", json!("kaspa:mainnet"), nothing),
        ("/accepts/0/network", json!("eip155:8453"), nothing),
        ("/accepts/0/asset", json!("USDC"), nothing),
        ("/accepts/0/scheme", json!("upto"), nothing),
        ("/accepts/0/payTo", json!("0x0123"), nothing),
        ("/accepts/0/extra/binding", json!("kaspa-exact-v9"), nothing),
        ("/accepts", json!([]), nothing),
        ("/accepts", json!("all"), nothing),
        ("/x402Version", json!(1), nothing),
        ("/resource/url", json!("https://elsewhere.example/paid?q=1"), |u| matches!(u, Unpaid::OtherResource { .. })),
    ] {
        let shop = Shop::open(vec![Trick::Deliver]).await;
        shop.offers(|offer| *offer.pointer_mut(pointer).unwrap() = value.clone());
        let buyer = Buyer::new(Setup::default());
        let error = buyer.fetch(&shop).await.expect_err(pointer);
        assert!(matches!(&error, FetchError::BeforePaying(why) if expect(why)), "{pointer} {value}: {error}");
        assert_eq!((error.money(), shop.payments().len(), buyer.states().len()), (Money::Unspent, 0, 0));
    }
}

#[tokio::test]
async fn other_rails_beside_the_kaspa_offer_do_no_harm() {
    let shop = Shop::open(vec![Trick::Deliver]).await;
    shop.offers(|offer| {
        let accepts = offer["accepts"].as_array_mut().unwrap();
        accepts.insert(0, json!({"scheme": "exact", "network": "eip155:8453", "asset": "0xa", "amount": "1", "payTo": "0xb"}));
        accepts.push(json!("rubbish"));
    });
    let buyer = Buyer::new(Setup::default());
    paid(buyer.fetch(&shop).await);
    assert_one_payment(&shop);
}

#[tokio::test]
async fn nothing_is_paid_without_a_maximum_a_node_or_within_too_small_a_fee() {
    for (setup, expect) in [
        (Setup { max: None, ..Setup::default() }, (|u| matches!(u, Unpaid::Unwilling(_))) as fn(&Unpaid) -> bool),
        (Setup { max: Some(PRICE - 1), ..Setup::default() }, |u| matches!(u, Unpaid::Unwilling(_))),
        (Setup { node: false, ..Setup::default() }, |u| matches!(u, Unpaid::NoNode)),
        (Setup { max_fee: 1, ..Setup::default() }, |u| matches!(u, Unpaid::Fee { .. })),
        (Setup { network: Network::Testnet10, ..Setup::default() }, |u| matches!(u, Unpaid::Unwilling(_))),
    ] {
        let shop = Shop::open(vec![Trick::Deliver]).await;
        let buyer = Buyer::new(setup);
        let error = buyer.fetch(&shop).await.expect_err("refused");
        assert!(matches!(&error, FetchError::BeforePaying(why) if expect(why)), "{error}");
        assert_eq!((shop.payments().len(), buyer.states().len()), (0, 0));
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_free_answers_cost_nothing() {
    let shop = Shop::open(vec![]).await;
    let buyer = Buyer::new(Setup::default());
    let get = |path: &str| PaidRequest::new(http::Method::GET, &shop.url(path), http::HeaderMap::new(), "".into()).unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let mut edge = Edge { now: &|| UnixMillis(1), rng: &mut rng, watch: &mut |_| {} };
    let error = buyer.client.fetch(&get("/moved"), false, &mut edge).await.expect_err("redirected");
    assert!(matches!(&error, FetchError::BeforePaying(Unpaid::Redirected { status: 302, .. })), "{error}");
    assert!(matches!(buyer.client.fetch(&get("/free"), false, &mut edge).await, Ok(Fetched::Free(reply)) if reply.status == 200));
    assert_eq!((shop.elsewhere(), shop.payments().len(), buyer.states().len()), (0, 0, 0));
}

#[tokio::test]
async fn a_quote_costs_nothing_and_knows_of_a_payment_under_way() {
    let shop = Shop::open(vec![Trick::AskAgain]).await;
    let buyer = Buyer::new(Setup::default());
    let quote = buyer.client.quote(&request(&shop)).await.unwrap();
    assert!(matches!(quote, Quote::Priced { choice: Ok(offer), .. } if offer.amount.sompi() == PRICE));
    assert!(buyer.states().is_empty() && shop.payments().is_empty());
    buyer.fetch(&shop).await.expect_err("asked again");
    let quote = buyer.client.quote(&request(&shop)).await.unwrap();
    assert!(matches!(quote, Quote::UnderWay(entry) if entry.txid == assert_one_payment(&shop)));
}

#[tokio::test]
async fn a_budget_bounds_one_server_and_all_together_also_after_a_restart() {
    let bounds = || {
        let amount = |payments| Amount::from_sompi(payments * PRICE).ok();
        Setup { budget: Budget { per_origin: amount(2), total: amount(3), since: UnixMillis(0) }, ..Setup::default() }
    };
    let refused = |outcome: Result<Fetched, FetchError>, limit: Limit| match outcome {
        Err(FetchError::BeforePaying(Unpaid::Unwilling(reasons))) => {
            assert!(matches!(&reasons[..], [Unwilling::Budget(over)] if over.limit == limit), "{reasons:?}");
        }
        other => panic!("not refused: {other:?}"),
    };
    let (one, two) = (Shop::open(vec![Trick::Deliver; 3]).await, Shop::open(vec![Trick::Deliver; 2]).await);
    let buyer = Buyer::new(bounds());
    for _ in 0..2 {
        paid(buyer.fetch_as(&one, true).await);
    }
    refused(buyer.fetch_as(&one, true).await, Limit::Origin);
    let Quote::Priced { choice: Err(Unpaid::Unwilling(_)), .. } = buyer.client.quote(&request(&one)).await.unwrap() else {
        panic!("the price is shown as if it would be paid");
    };
    let buyer = buyer.restarted(bounds());
    refused(buyer.fetch(&one).await, Limit::Origin);
    paid(buyer.fetch(&two).await);
    refused(buyer.fetch_as(&two, true).await, Limit::Total);
    assert_eq!((one.payments().len(), two.payments().len()), (2, 1), "nothing was sent that is not in the budget");
}

#[tokio::test]
async fn a_payment_that_used_up_the_budget_is_resumed_and_may_be_replaced_within_it() {
    let bounds = |prices: u64, total| {
        let total_budget = Amount::from_sompi(prices * PRICE).ok();
        Setup { max: Some(2 * PRICE), budget: Budget { total: total_budget, ..Budget::default() }, total, ..Setup::default() }
    };
    let long = Duration::from_secs(20);
    let shop = Shop::open(vec![Trick::Hang, Trick::Hang, Trick::Deliver]).await;
    let buyer = Buyer::new(bounds(1, Duration::from_millis(500)));
    assert!(matches!(buyer.fetch(&shop).await, Err(FetchError::Undecided { .. })));
    let buyer = buyer.restarted(bounds(1, long));
    paid(buyer.fetch(&shop).await);
    assert_one_payment(&shop);

    // A newer offer for the same transaction, then a dearer one, beyond the budget and within it.
    for (prices, trick, states) in [
        (1, Trick::Reject("offer_expired"), vec![State::Delivered]),
        (1, Trick::RejectAndRaise("offer_expired"), vec![State::Open]),
        (2, Trick::RejectAndRaise("offer_expired"), vec![State::Delivered, State::Replaced]),
    ] {
        let shop = Shop::open(vec![trick, Trick::Deliver]).await;
        let buyer = Buyer::new(bounds(prices, long));
        let outcome = buyer.fetch(&shop).await;
        assert_eq!(outcome.is_ok(), states[0] == State::Delivered, "{trick:?}: {outcome:?}");
        assert_eq!(buyer.states(), states, "{trick:?}");
    }
}
