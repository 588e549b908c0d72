//! What each fuzz target demands of its decoder: no panic, and what was read is written and read again as the same.
//!
//! Plain functions over bytes, so that `tests/fuzz_cases.rs` replays every seed and every case that was found.

use base64::{Engine, engine::general_purpose::STANDARD};
use kas402::{
    binding::{
        escrow_v1::{
            self, EscrowTerms,
            payload::BatchPayload,
            spend::SpendRules,
            state::{Accounts, Authorised, Claiming, Idle, SettledClaim, Streaming},
            verify_deposit,
        },
        exact_v1::{self, decode, verify::Facts},
    },
    protocol::{
        amount::{Amount, MAX_SOMPI},
        ids::{RequestHash, XOnlyKey},
        json, limits,
        network::Network,
        offer::OfferToken,
        path::NormalPath,
        requirements::Extra,
    },
    wire::{
        canonical,
        envelope::{self, Envelope},
        facilitator::Call,
        header, identifier,
        mcp::{answer, events::Events, request},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{fmt::Debug, path::Path, sync::LazyLock};

static RULES: LazyLock<SpendRules> = LazyLock::new(|| SpendRules::of(Network::Simnet));

/// The value of a `PAYMENT-SIGNATURE` header.
pub fn header(data: &[u8]) {
    if let Ok(message) = header::decode(data) {
        let canonical = canonical::to_vec(&message);
        match header::decode(STANDARD.encode(&canonical).as_bytes()) {
            Ok(again) => assert_eq!(canonical::to_vec(&again), canonical, "canonical JSON is its own canonical form"),
            // Escapes of what was sent bare make it longer.
            Err(error) => assert_eq!(error, header::HeaderError::TooLarge),
        }
        judge(message);
    }
}

/// The JSON inside the header, without its base64: the way in for the fuzzer's own grammar.
pub fn payment(data: &[u8]) {
    if let Ok(message) = json::parse_strict(data, limits::JSON_DEPTH) {
        judge(message);
    }
}

/// A message as far as it can be judged without store and chain.
fn judge(message: Value) {
    let Ok(envelope) = envelope::parse(message) else { return };
    reads_back(&envelope.accepted);
    for required in [true, false] {
        let _ = identifier::read(&envelope.extensions, required);
    }
    let _ = OfferToken::parse(envelope.accepted.extra.offer());
    let Envelope { accepted, payload, payer_proof, .. } = envelope;
    match &accepted.extra {
        Extra::Exact(_) => {
            if let Ok(transfer) = exact_v1::payload::parse(payload) {
                let facts =
                    Facts { accepted: &accepted, request_hash: RequestHash([7; 32]), require_request_hash: false, daa_score: 1_000 };
                if let Ok(verified) = exact_v1::verify(&transfer, payer_proof, facts) {
                    let output = &verified.transaction().outputs[verified.output_index() as usize];
                    assert_eq!(output.value, accepted.amount.sompi());
                }
            }
        }
        Extra::Escrow(extra) => {
            if let Ok(BatchPayload::DepositVoucher(deposit)) = escrow_v1::payload::parse(payload) {
                let terms = EscrowTerms::of(&accepted, extra);
                let _ = verify_deposit(&deposit, &terms, &RULES);
            }
        }
    }
}

/// The body of a call to the facilitator.
pub fn facilitator_call(data: &[u8]) {
    let Ok(called) = Call::parse(data).and_then(Call::payment) else { return };
    reads_back(&called.envelope.accepted);
    let _ = called.agreed();
}

/// A message that an MCP client posts, and one that a server answers.
pub fn mcp_message(data: &[u8]) {
    match request::read(data) {
        Ok(request::Posted::Call(call)) => {
            let forwarded = call.forwarded(None);
            let Ok(request::Posted::Call(again)) = request::read(&forwarded) else { panic!("a call is forwarded as a call") };
            assert_eq!((&again.tool, &again.arguments, again.task, again.tagged), (&call.tool, &call.arguments, call.task, call.tagged));
            assert!(again.payment.is_none(), "the payment is not shown to the server");
            assert_eq!(call.id.map(|id| id.to_string()), again.id.map(|id| id.to_string()));
        }
        Ok(request::Posted::Other { without_payment: Some(message), .. }) => {
            let read = request::read(&message);
            assert!(matches!(read, Ok(request::Posted::Other { without_payment: None, .. })), "no payment is left: {read:?}");
        }
        Ok(_) | Err(_) => {}
    }
    if let Some(answered) = answer::read(data) {
        assert!(answered.own_id().is_none_or(|id| id.starts_with("kas402call")));
        if let Some(result) = answered.result {
            let _ = answer::Verdict::of(result);
            let _ = answer::result(result, result.get().as_bytes(), Some(&Value::Null));
        }
        if let Some(error) = answered.error {
            let _ = answer::error(error, error.get().as_bytes(), Some(&Value::Null));
        }
    }
}

/// An event stream; the first byte says in what pieces it comes.
pub fn event_stream(data: &[u8]) {
    let Some((pieces, stream)) = data.split_first() else { return };
    let mut events = Events::new(1 << 20);
    let mut passed = Vec::new();
    for chunk in stream.chunks(usize::from(*pieces).max(1)) {
        let read = events.feed(chunk).expect("no more than the limit");
        passed.extend(read.iter().flat_map(|event| event.raw.to_vec()));
    }
    assert!(stream.starts_with(&passed), "what is passed on is what came");
    let _ = events.last();
}

fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_vec(value).expect("wire types print");
    assert_eq!(serde_json::from_slice::<T>(&text).as_ref().ok(), Some(value), "what was read is printed and read as the same");
}

/// The object of `data` with this `type`.
fn payload_of_type(data: &[u8], kind: &str) -> Option<Map<String, Value>> {
    let Ok(Value::Object(mut payload)) = json::parse_strict(data, limits::JSON_DEPTH) else { return None };
    payload.insert("type".to_owned(), kind.into());
    Some(payload)
}

pub fn exact_transfer(data: &[u8]) {
    let Some(payload) = payload_of_type(data, "exact-transfer") else { return };
    if let Ok(transfer) = exact_v1::payload::parse(payload) {
        reads_back(&transfer);
        transaction_text(&transfer.transaction);
    }
}

fn batch(data: &[u8], kind: &str) -> Option<BatchPayload> {
    let parsed = escrow_v1::payload::parse(payload_of_type(data, kind)?).ok()?;
    let printed = serde_json::to_value(&parsed).expect("wire types print");
    let Value::Object(object) = printed else { panic!("a payload prints as an object") };
    assert_eq!(object["type"], kind);
    assert_eq!(escrow_v1::payload::parse(object).ok().as_ref(), Some(&parsed), "what was read is printed and read as the same");
    Some(parsed)
}

pub fn deposit_voucher(data: &[u8]) {
    let Some(BatchPayload::DepositVoucher(deposit)) = batch(data, "deposit-voucher") else { return };
    let config = &deposit.channel_config;
    let terms = EscrowTerms::of_channel(config);
    let _ = verify_deposit(&deposit, &terms, &RULES);
    if let Some(funding) = &deposit.funding_transaction {
        transaction_text(funding);
    }
}

pub fn voucher(data: &[u8]) {
    if let Some(BatchPayload::Voucher(voucher)) = batch(data, "voucher") {
        let _ =
            escrow_v1::VoucherKey::parse(XOnlyKey(voucher.client_public_key.0)).map(|key| key.verify(&[1; 32], &voucher.voucher.signature));
    }
}

pub fn claim(data: &[u8]) {
    let _ = batch(data, "claim");
}

pub fn refund(data: &[u8]) {
    let _ = batch(data, "refund");
}

/// Both encodings of a transaction, without their hex.
pub fn transaction(data: &[u8]) {
    transaction_text(&hex::encode(data));
}

fn transaction_text(text: &str) {
    let Ok(transaction) = decode::decode(text) else { return };
    let stored = decode::encode(&transaction);
    let again = decode::read_stored(&stored).expect("what was decoded is stored and read again");
    assert_eq!(again, transaction);
    assert_eq!(again.id(), transaction.id());
    assert_eq!(transaction.storage_mass(), 0, "the sender's mass is never kept");
}

/// `extra.offer`.
pub fn offer_token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = OfferToken::parse(text) {
        assert_eq!(OfferToken::parse(&token.to_string()), Ok(token));
    }
}

/// A path in any spelling: its normal form is a fixed point without dot segments and double slashes.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for encoded_slashes in [false, true] {
        let Ok(normal) = NormalPath::parse(text, encoded_slashes) else { continue };
        assert_eq!(NormalPath::parse(normal.as_str(), encoded_slashes), Ok(normal.clone()));
        assert!(normal.as_str().starts_with('/') && !normal.as_str().contains("//"));
        assert!(normal.segments().all(|segment| segment != "." && segment != ".."));
        assert!(normal.as_str().is_ascii() && !normal.as_str().contains(['?', '#', '\\']));
    }
}

/// A configuration file. Its secrets are taken for present, so that nothing is opened.
pub fn yaml(data: &[u8]) {
    use kas402::config::{Environment, compile_text};
    let Ok(text) = std::str::from_utf8(data) else { return };
    let environment = Environment { var: &|_| None, secrets: false };
    let _ = compile_text(text, Path::new("/nowhere"), &environment);
}

/// Bytes as small choices.
struct Choices<'d>(std::slice::Iter<'d, u8>);

impl Choices<'_> {
    fn next(&mut self) -> Option<u8> {
        self.0.next().copied()
    }

    /// Mostly small amounts, sometimes near the largest.
    fn amount(&mut self) -> Option<Amount> {
        let (kind, byte) = (self.next()?, u64::from(self.next()?));
        let sompi = match kind % 4 {
            0 => byte,
            1 => byte << 24,
            2 => MAX_SOMPI - byte,
            _ => MAX_SOMPI >> (byte % 62),
        };
        Amount::from_sompi(sompi).ok()
    }
}

/// What a channel must be worth whatever happens: kept apart from the code under test, in signed numbers that cannot wrap.
#[derive(Clone, Copy)]
struct Ledger {
    funding: i128,
    charged: i128,
    claimed: i128,
}

impl Ledger {
    fn check(self, accounts: &Accounts) {
        let parts = accounts.parts();
        let [funding, charged, claimed, reserved, signed] =
            [parts.funding, parts.charged, parts.claimed, parts.reserved, parts.signed].map(|amount| i128::from(amount.sompi()));
        assert_eq!((funding, charged, claimed), (self.funding, self.charged, self.claimed));
        assert!(0 <= claimed && claimed <= charged && charged - claimed + reserved <= signed && signed <= funding);
        assert_eq!(i128::from(accounts.active().sompi()), charged - claimed);
        assert_eq!(i128::from(accounts.exposure().sompi()), charged - claimed + reserved);
    }
}

/// A sequence of vouchers, charges, claims, top-ups and reorganisations of one channel.
pub fn channel_accounts(data: &[u8]) {
    let _ = play(Choices(data.iter()));
}

fn sompi(amount: Amount) -> i128 {
    i128::from(amount.sompi())
}

fn play(mut choices: Choices<'_>) -> Option<()> {
    let funding = choices.amount()?;
    let mut ledger = Ledger { funding: sompi(funding), charged: 0, claimed: 0 };
    let mut idle = Idle::opened(funding);
    let mut claims: Vec<(SettledClaim, Ledger)> = Vec::new();
    loop {
        ledger.check(idle.accounts());
        let action = choices.next()?;
        let by = |choices: &mut Choices<'_>, idle: &Idle| {
            let (ceiling, reserve) = (choices.amount()?, choices.amount()?);
            let voucher = match choices.next()? % 8 {
                0 => choices.amount()?,
                _ => idle.accounts().expected_voucher(ceiling).ok()?,
            };
            Some(Authorised { voucher, ceiling, reserve })
        };
        match action % 6 {
            0 => {
                let (Some(by), charge) = (by(&mut choices, &idle), choices.amount()?) else { continue };
                if let Ok(next) = idle.clone().charge(by, charge) {
                    assert!(charge <= by.ceiling && sompi(by.voucher) + sompi(by.reserve) <= ledger.funding);
                    ledger.charged += sompi(charge);
                    idle = next;
                }
            }
            1 => {
                let (Some(by), charge) = (by(&mut choices, &idle), choices.amount()?) else { continue };
                if let Ok(streaming) = idle.clone().reserve(by) {
                    let restored = Streaming::restore(streaming.accounts().parts()).expect("its own parts");
                    ledger.check(restored.accounts());
                    let ceiling = streaming.accounts().parts().reserved;
                    match streaming.post(charge) {
                        Ok(next) => {
                            ledger.charged += sompi(charge);
                            idle = next;
                        }
                        Err(_) => {
                            assert!(charge > ceiling, "a charge within the ceiling is always posted");
                            idle = restored.post(Amount::ZERO).expect("nothing can always be posted");
                        }
                    }
                }
            }
            2 | 3 => {
                let added = if action % 6 == 3 { choices.amount()? } else { Amount::ZERO };
                let begun = if action % 6 == 3 { idle.clone().top_up(added) } else { idle.clone().claim() };
                let Ok(claiming) = begun else { continue };
                let takes = sompi(Claiming::takes(&claiming));
                assert_eq!(takes, ledger.charged - ledger.claimed);
                ledger.check(claiming.before());
                if choices.next()? % 4 == 0 {
                    idle = claiming.abandoned();
                    continue;
                }
                let before = ledger;
                ledger.funding += sompi(added) - takes;
                ledger.claimed += takes;
                let (next, settled) = claiming.accepted();
                claims.push((settled, before));
                idle = next;
            }
            4 => {
                let Some((settled, before)) = claims.last().copied() else { continue };
                let Ok(gone) = idle.clone().taken_back(settled) else { continue };
                let on_chain = gone.on_chain();
                assert_eq!((sompi(on_chain.funding), sompi(on_chain.claimed)), (before.funding, before.claimed));
                assert_eq!(sompi(on_chain.charged), ledger.charged, "a charge is never taken back");
                if choices.next()? % 2 == 0 {
                    idle = gone.reaccepted();
                } else if let Ok(next) = gone.undone() {
                    claims.pop();
                    ledger = Ledger { charged: ledger.charged, ..before };
                    idle = next;
                }
            }
            _ => {
                let closed = idle.clone().spent_elsewhere();
                assert_eq!(sompi(closed.lost()), ledger.charged - ledger.claimed);
                idle = Idle::restore(closed.parts()).expect("an idle channel's own parts");
            }
        }
    }
}

/// Terms of any kind, as `accepted` holds them.
pub fn requirements(data: &[u8]) {
    if let Ok(Value::Object(accepted)) = json::parse_strict(data, limits::JSON_DEPTH)
        && let Ok(terms) = envelope::terms(accepted)
    {
        reads_back(&terms);
        assert_eq!(canonical::sorted_to_vec(&terms), canonical::to_vec(&terms), "printed without a tree as with one");
    }
}
