//! Channels at an edge: a gateway without a node and without a server key sells from channels that its hub keeps, over a real node; and what
//! happens when either of the two, or an answer between them, is lost.

mod support;

use serde_json::{Value, json};
use support::{
    channel::{Channel, batch_of, message, new_identifier, number, until_answered},
    devnet::{KAS, Wallet},
    edge::{self, Both},
    pay::{Answer, Ask, HTTP},
};

const PRICE: u64 = KAS / 100;
const ROUTES: &str = "  - {path: \"/free/{*rest}\", free: true}
  - {path: /mcp, kind: mcp, tools: [{tool: report, scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS}]}
  - {path: \"/metered/{*rest}\", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS,
     charge: {bytes: true, unit_price: 1000 sompi, per: 1, on_unknown: ceiling}}
  - {path: \"/{*rest}\", scheme: batch-settlement, price: 0.01 KAS, min_deposit: 2 KAS, replay_limit_bytes: 4096}";
const HUB: &str = "channels: {refund_horizon_seconds: 3600, refund_epoch_seconds: 1, refund_lead_seconds: 60, confirmations: 2, claims: {automatic: false, max_fee_percent: 50}}
limits: {final_depth: 100}";

impl Both {
    async fn start(settle_wait_seconds: u64) -> Self {
        let tenant = "permissions: [verify, settle, claim], calls_per_second: 10000, burst: 10000";
        Self::of(tenant, HUB, ROUTES, settle_wait_seconds).await
    }

    async fn open(&self, seed: u8) -> Channel {
        Channel::open(&self.hub.devnet, &Ask::get("/echo/open"), &self.edge, &Wallet::new(seed), 5 * KAS).await
    }

    async fn again(&mut self, environment: &[(&str, &str)]) {
        self.edge.run(environment).await;
        self.edge.ready().await;
    }

    /// What the hub has charged, and the edge has booked, is what the client knows of.
    async fn agrees(&self, channel: &Channel) {
        let hub = self.hub.gateway.status().await["channels"].clone();
        assert_eq!(number(&hub["chargedSompi"]), channel.charged, "{hub}");
        let edge = self.edge.payments().await;
        assert_eq!((number(&edge["chargedSompi"]), &edge["pending"]), (channel.charged, &json!(0)), "{edge}");
    }

    fn served(&self, path: &str) -> usize {
        self.hub.upstream.count(path)
    }

    async fn hub_again(&mut self) {
        self.hub.gateway.run(&[]).await;
        self.hub.gateway.ready().await;
        self.line.lead_to(self.hub.gateway.facilitator());
    }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?} {}", answer.text());
    assert_eq!(answer.required().is_some(), status == 402, "{answer:?}");
}

#[tokio::test]
async fn an_edge_sells_from_channels_that_its_hub_keeps() {
    let both = Both::start(30).await;
    let (ask, url) = (Ask::get("/echo/report"), both.edge.url());
    let mut channel = both.open(1).await;
    for _ in 0..3 {
        assert_eq!(channel.buy(&ask, &url).await.text(), "GET /echo/report ");
    }
    let seen = both.hub.upstream.seen().pop().unwrap();
    assert_eq!(seen.headers["x-kas402-channel"], channel.id().to_string());
    both.agrees(&channel).await;

    // Told again, to who holds the key; an identifier and an offer are good for one request.
    let accepted = channel.offer(&ask, &url).await;
    let voucher = channel.active() + PRICE;
    let header = channel.paying_exactly(&accepted, voucher, "identifier-of-mine");
    let first = ask.send(&url, Some(&header)).await;
    channel.served(&first);
    let again = ask.send(&url, Some(&header)).await;
    assert_eq!((again.status, &again.body, again.headers.get("x-upstream")), (200, &first.body, first.headers.get("x-upstream")));
    assert_eq!(again.receipt().unwrap()["transaction"], first.receipt().unwrap()["transaction"]);
    assert_eq!(both.served("/echo/report"), 4);
    let other = Ask::get("/echo/other");
    let elsewhere = batch_of(&other.send(&url, None).await);
    refused(
        &other.send(&url, Some(&channel.paying_exactly(&elsewhere, voucher + PRICE, "identifier-of-mine"))).await,
        409,
        "payment_identifier_reused",
    );
    refused(&ask.send(&url, Some(&channel.paying_exactly(&accepted, voucher + PRICE, &new_identifier()))).await, 409, "offer_reused");
    assert_eq!((both.served("/echo/other"), both.served("/echo/report")), (0, 4));

    // The receipt at its own address, and the books.
    let place = format!("/.well-known/kas402/receipts/{}/identifier-of-mine", channel.id());
    let later: Value = serde_json::from_slice(&Ask::get(&place).send(&url, None).await.body).unwrap();
    let receipt = first.receipt().unwrap();
    assert_eq!((&later["transaction"], &later["amount"]), (&receipt["transaction"], &receipt["amount"]));
    let books = both
        .edge
        .command()
        .args(["payments", "list", "--json", "--config", "kas402.yaml", "--scheme", "batch-settlement"])
        .output()
        .await
        .unwrap();
    let books: Value = serde_json::from_slice(&books.stdout).unwrap_or_else(|_| panic!("{books:?}"));
    let entries = books["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 5, "{books}");
    let mine = entries.iter().find(|entry| entry["identifier"] == "identifier-of-mine").unwrap();
    assert_eq!((&mine["id"], &mine["channel"]), (&receipt["transaction"], &json!(channel.id())), "{mine}");
    assert_eq!(
        (&mine["state"], &mine["amount"], &mine["scheme"]),
        (&json!("delivered"), &json!(PRICE.to_string()), &json!("batch-settlement"))
    );
    assert_eq!(mine["payer"], channel.config.client_public_key.to_string());
    let shown =
        both.edge.command().args(["payments", "show", mine["id"].as_str().unwrap(), "--config", "kas402.yaml"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("of the facilitator's"), "{shown:?}");

    // A claim at the hub, and the correction that tells of it.
    let owed = channel.active();
    let claimed = both.hub.gateway.command().args(["claim", &channel.id().to_string(), "--json"]).output().await.unwrap();
    assert!(claimed.status.success(), "{claimed:?}");
    let status = async || number(&both.hub.gateway.status().await["channels"]["claimedSompi"]) == owed;
    both.hub.gateway.until("claimed", status).await;
    channel.buy_through_claims(&ask, &url).await;
    assert_eq!((channel.claimed, channel.active()), (owed, PRICE));
    both.agrees(&channel).await;

    // A top-up.
    let wallet = Wallet::new(1);
    let coins = both.hub.devnet.fund(&wallet, 7 * KAS, 1).await;
    for _ in 0..40 {
        channel.buy(&ask, &url).await;
    }
    let owed = channel.charged;
    let (transaction, continuation, funding) = channel.top_up(&wallet, &coins[0]);
    let accepted = batch_of(&ask.send(&url, None).await);
    let header = message(&accepted, &channel.deposit_payload(Some(&transaction), continuation, funding, PRICE), &new_identifier());
    let answer = until_answered(&ask, &both.edge, &header).await;
    channel = Channel { outpoint: continuation, funding, claimed: owed, ..channel };
    channel.served(&answer);
    channel.buy(&ask, &url).await;
    both.agrees(&channel).await;
}

/// `upstream`: how often the API is asked in all.
async fn dies_and_resumes(both: &mut Both, channel: &mut Channel, point: &str, upstream: usize) {
    let path = format!("/echo/{point}");
    let ask = Ask::get(&path);
    both.edge.kill().await;
    both.again(&[("KAS402_CRASH", point)]).await;
    channel.renewed = None;
    let accepted = channel.offer(&ask, &both.edge.url()).await;
    let header = channel.paying(&accepted);
    assert!(ask.try_send(&both.edge.url(), Some(&header)).await.is_err(), "{point}");
    both.edge.died().await;
    both.again(&[]).await;
    let answer = until_answered(&ask, &both.edge, &header).await;
    channel.served(&answer);
    assert_eq!((answer.text(), both.served(&path)), (format!("GET {path} "), upstream), "{point}");
    let again = ask.send(&both.edge.url(), Some(&header)).await;
    assert_eq!((again.status, again.body), (200, answer.body), "{point}");
    both.agrees(channel).await;
}

#[tokio::test]
async fn an_edge_that_dies_charges_once_and_asks_the_api_no_more_than_it_must() {
    let mut both = Both::start(30).await;
    // The first one with its deposit.
    both.edge.kill().await;
    both.again(&[("KAS402_CRASH", "remote_asked")]).await;
    let ask = Ask::get("/echo/open");
    let (mut channel, accepted) = Channel::prepare(&both.hub.devnet, &ask, &both.edge.url(), &Wallet::new(1), 5 * KAS).await;
    let header = channel.depositing(&accepted);
    assert!(ask.try_send(&both.edge.url(), Some(&header)).await.is_err());
    both.edge.died().await;
    both.again(&[]).await;
    channel.served(&until_answered(&ask, &both.edge, &header).await);
    assert_eq!(both.served("/echo/open"), 1);
    for (point, upstream) in [
        ("remote_claimed", 1),
        // Nobody has the answer any more.
        ("remote_answered", 2),
        ("remote_held", 1),
        ("remote_settled", 1),
        ("remote_charged", 1),
    ] {
        dies_and_resumes(&mut both, &mut channel, point, upstream).await;
    }
}

#[tokio::test]
async fn a_lost_answer_costs_nobody_anything_whoever_dies_meanwhile() {
    let mut both = Both::start(4).await;
    let mut channel = both.open(1).await;
    let ask = Ask::get("/echo/lost");
    both.line.lose(2);
    channel.buy(&ask, &both.edge.url()).await;
    assert_eq!((both.line.lost(), both.served("/echo/lost")), (2, 1));

    both.line.lose(-1);
    channel.renewed = None;
    let accepted = channel.offer(&ask, &both.edge.url()).await;
    let header = channel.paying(&accepted);
    let pending = ask.send(&both.edge.url(), Some(&header)).await;
    refused(&pending, 503, "settlement_pending");
    assert!(pending.headers.contains_key("retry-after"), "{pending:?}");
    let charged = number(&both.hub.gateway.status().await["channels"]["chargedSompi"]);
    assert_eq!(charged, 3 * PRICE, "the hub has charged what the edge does not know of");
    assert_eq!(both.edge.payments().await["pending"], 1);
    // Another request of the same client is told the truth by the hub, and both processes die.
    both.line.lose(0);
    both.edge.kill().await;
    both.hub.gateway.kill().await;
    both.hub_again().await;
    both.again(&[]).await;
    let answer = until_answered(&ask, &both.edge, &header).await;
    channel.served(&answer);
    assert_eq!((answer.text().as_str(), both.served("/echo/lost")), ("GET /echo/lost ", 2));
    channel.renewed = None;
    channel.buy(&ask, &both.edge.url()).await;
    both.agrees(&channel).await;
}

#[tokio::test]
async fn without_its_hub_an_edge_offers_no_channel_and_takes_no_payment() {
    let mut both = Both::start(4).await;
    let mut channel = both.open(1).await;
    let ask = Ask::get("/echo/down");
    let accepted = channel.offer(&ask, &both.edge.url()).await;
    let header = channel.paying(&accepted);
    let url = both.edge.url();
    both.hub.gateway.kill().await;
    both.edge.not_ready().await;
    refused(&ask.send(&url, None).await, 503, "node_unavailable");
    refused(&ask.send(&url, Some(&header)).await, 503, "facilitator_unavailable");
    assert_eq!(Ask::get("/free/x").send(&url, None).await.status, 200);
    assert_eq!((both.served("/echo/down"), &both.edge.payments().await["pending"]), (0, &json!(0)));
    both.hub_again().await;
    both.edge.ready().await;
    channel.served(&until_answered(&ask, &both.edge, &header).await);
    both.agrees(&channel).await;
}

#[tokio::test]
async fn of_two_edges_one_sells_for_a_voucher_and_the_other_says_so() {
    let both = Both::start(30).await;
    let second = edge::start(&both.hub, 0, &both.line.address, ROUTES, 30).await;
    let mut channel = both.open(1).await;
    let ask = Ask::get("/gate/race");
    let mut headers = Vec::new();
    for url in [both.edge.url(), second.url()] {
        headers.push(channel.paying(&batch_of(&ask.send(&url, None).await)));
    }
    let sent: Vec<_> = [both.edge.url(), second.url()]
        .into_iter()
        .zip(headers)
        .map(|(url, header)| {
            let ask = ask.clone();
            tokio::spawn(async move { ask.send(&url, Some(&header)).await })
        })
        .collect();
    // Both were called good, and are answered by the API at the same time.
    both.hub.upstream.arrived(3).await;
    both.hub.upstream.open_gate();
    let mut answers = Vec::new();
    for sent in sent {
        answers.push(sent.await.unwrap());
    }
    answers.sort_by_key(|answer| answer.status);
    let [sold, lost] = &answers[..] else { panic!("{answers:?}") };
    refused(lost, 402, "voucher_amount");
    assert!(!lost.text().contains("through the gate"));
    channel.served(sold);
    // It says where the channel stands, and both sell on.
    channel.follow(lost);
    for url in [both.edge.url(), second.url()] {
        channel.renewed = None;
        channel.buy(&ask, &url).await;
    }
    let hub = both.hub.gateway.status().await["channels"].clone();
    assert_eq!(number(&hub["chargedSompi"]), channel.charged, "{hub}");
    let booked = number(&both.edge.payments().await["chargedSompi"]) + number(&second.payments().await["chargedSompi"]);
    assert_eq!(booked, channel.charged);
    assert_eq!((both.edge.payments().await["pending"].clone(), second.payments().await["pending"].clone()), (json!(0), json!(0)));
}

#[tokio::test]
async fn a_thief_without_the_key_gets_nothing_and_blocks_nobody() {
    let both = Both::start(30).await;
    let mut channel = both.open(1).await;
    let (ask, url) = (Ask::get("/echo/mine"), both.edge.url());
    let accepted = channel.offer(&ask, &url).await;
    let voucher = channel.active() + PRICE;
    let header = channel.paying_exactly(&accepted, voucher, "identifier-of-mine");
    // The thief knows everything but the key: the same identifier, offer and request.
    let mut thief = channel.clone();
    thief.keypair = Wallet::new(66).keypair;
    let stolen = thief.paying_exactly(&accepted, voucher, "identifier-of-mine");
    let told = ask.send(&url, Some(&stolen)).await;
    refused(&told, 402, "channel_unknown");
    assert!(batch_of(&told)["extra"].get("channelState").is_none(), "nothing is told to who proves nothing");
    assert_eq!((both.served("/echo/mine"), &both.edge.payments().await["pending"]), (0, &json!(0)));
    // Nothing was claimed by it.
    let answer = ask.send(&url, Some(&header)).await;
    channel.served(&answer);
    // What was answered is its own.
    refused(&ask.send(&url, Some(&stolen)).await, 409, "invalid_kaspa_exact_replay");
    assert_eq!(both.served("/echo/mine"), 1);

    // A deposit that is nobody's money reaches no API.
    let wallet = Wallet::new(7);
    let coins = both.hub.devnet.fund(&wallet, 6 * KAS, 1).await;
    let accepted = batch_of(&ask.send(&url, None).await);
    let mut forged = Channel::under(&accepted, &wallet, &coins, 5 * KAS);
    forged.deposit.inputs[0].signature_script[10] ^= 1;
    refused(&ask.send(&url, Some(&forged.depositing(&accepted))).await, 402, "invalid_kaspa_escrow_funding_rejected");
    assert_eq!(both.served("/echo/mine"), 1);
    both.agrees(&channel).await;
}

#[tokio::test]
async fn what_an_answer_costs_is_charged_and_what_fails_costs_nothing() {
    let both = Both::start(30).await;
    let mut channel = both.open(1).await;
    let url = both.edge.url();
    let ask = Ask::get("/metered/some");
    channel.renewed = None;
    let answer = channel.buy(&ask, &url).await;
    let length = u64::try_from(answer.text().len()).unwrap();
    assert_eq!(number(&answer.receipt().unwrap()["amount"]), 1_000 * length);
    channel.buy(&ask, &url).await;
    both.agrees(&channel).await;

    // The same voucher buys the next answer.
    let failing = Ask::get("/flaky/500");
    let accepted = batch_of(&failing.send(&url, None).await);
    let header = channel.paying(&accepted);
    let failed = failing.send(&url, Some(&header)).await;
    let receipt = failed.receipt().unwrap();
    assert_eq!((failed.status, &receipt["extensions"]["kaspa"]["status"]), (500, &json!("not_charged")), "{receipt}");
    assert_eq!(&receipt["extensions"]["kaspa"]["channelState"]["channelId"], &json!(channel.id()));
    let failed = Ask::get("/break/x");
    let accepted = batch_of(&failed.send(&url, None).await);
    let broken = failed.send(&url, Some(&channel.paying(&accepted))).await;
    assert_eq!((broken.status, broken.code().as_str()), (502, "upstream_failed"), "{broken:?}");
    both.hub.upstream.open_gate();
    channel.served(&failing.send(&url, Some(&header)).await);
    both.agrees(&channel).await;
}

#[tokio::test]
async fn a_stream_is_charged_first_and_what_broke_off_is_good_for_another_try() {
    let both = Both::start(30).await;
    let mut channel = both.open(1).await;
    let url = both.edge.url();
    for path in ["/events/3", "/big/10000"] {
        channel.renewed = None;
        let ask = Ask::get(path);
        let accepted = channel.offer(&ask, &url).await;
        let header = channel.paying(&accepted);
        let answer = ask.send(&url, Some(&header)).await;
        assert_eq!(channel.served(&answer), PRICE, "{path}");
        assert!(answer.text() == "data: 0\n\ndata: 1\n\ndata: 2\n\n" || answer.body.len() == 10_000);
        let delivered = async || both.edge.payments().await["settled"] == 0;
        both.edge.until("recorded", delivered).await;
        let again = ask.send(&url, Some(&header)).await;
        assert_eq!((again.status, again.body), (200, answer.body), "{path}");
        assert_eq!(both.served(path), if path == "/events/3" { 1 } else { 2 }, "{path}: what is too long to keep is fetched again");
    }
    both.agrees(&channel).await;
}

#[tokio::test]
async fn a_tool_is_sold_from_a_channel_at_an_edge() {
    let both = Both::start(30).await;
    let mut channel = both.open(1).await;
    let url = format!("{}/mcp", both.edge.url());
    let call = async |payment: Option<&Value>| -> Value {
        let mut message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "report", "arguments": {}}});
        if let Some(payment) = payment {
            message["params"]["_meta"]["x402/payment"] = payment.clone();
        }
        let request = HTTP.post(&url).header("content-type", "application/json").body(message.to_string());
        let answer: Value = serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
        support::schema::answered(&answer);
        answer["result"].clone()
    };
    let accepted = call(None).await["structuredContent"]["accepts"][0].clone();
    let payment = kas402::wire::header::decode(channel.paying(&accepted).as_bytes()).unwrap();
    let result = call(Some(&payment)).await;
    assert_eq!(channel.read(&result["_meta"]["x402/payment-response"]), PRICE, "{result}");
    let again = call(Some(&payment)).await;
    assert_eq!(again["content"], result["content"]);
    assert_eq!(both.served("/mcp"), 1);
    both.agrees(&channel).await;
}

/// The buyer that comes with it: opens, pays, is told of a claim that it did not see, and follows.
#[tokio::test]
async fn the_bundled_buyer_follows_what_the_edge_passes_on() {
    let both = Both::start(30).await;
    let wallet = Wallet::new(9);
    both.hub.devnet.fund(&wallet, 30 * KAS, 2).await;
    both.hub.devnet.mine(0, 30).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.json");
    kas402::client::wallet::Wallet::from_secret(kas402::protocol::network::Network::Simnet, &wallet.keypair.secret_bytes())
        .unwrap()
        .create(&file)
        .unwrap();
    let run = async |words: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kas402"));
        command.args(words).env("KAS402_WALLET", &file).env("KAS402_NODE", &both.hub.devnet.wrpc[0]).kill_on_drop(true);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let target = format!("{}/echo/buyer", both.edge.url());
    let fetch = ["pay", &target, "--channel", "--max", "0.1KAS", "--deposit", "5KAS", "--other-origin"];
    for _ in 0..3 {
        assert_eq!(run(&fetch).await, "GET /echo/buyer ");
    }
    let owed = number(&both.hub.gateway.status().await["channels"]["unclaimedSompi"]);
    assert_eq!(owed, 3 * PRICE);
    let listed = both.hub.gateway.command().args(["channels", "list", "--json"]).output().await.unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let claimed = both.hub.gateway.command().args(["claim", listed[0]["channel"].as_str().unwrap(), "--json"]).output().await.unwrap();
    assert!(claimed.status.success(), "{claimed:?}");
    both.hub.gateway.until("claimed", async || number(&both.hub.gateway.status().await["channels"]["unclaimedSompi"]) == 0).await;
    assert_eq!(run(&fetch).await, "GET /echo/buyer ");
    assert_eq!(number(&both.edge.payments().await["chargedSompi"]), 4 * PRICE);
}
