//! Any sequence of answers, honest and not: the buyer never signs a lower or conflicting voucher, never beyond what it authorised,
//! and nothing at all for a server that was caught.

use super::{
    buyer::{Buyer, KAS, Setup},
    shop::Fault,
    till::{Promise, sompi},
};
use kas402::{
    client::channel::{ChannelError, Want, record::Phase},
    protocol::{
        amount::Amount,
        ids::{ChannelId, Outpoint, PaymentIdentifier, SchnorrSignature},
        refusal::Code,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

#[derive(Clone, Debug)]
enum Act {
    Pay { ceiling: u64, share: u8 },
    TopUp,
    Sync,
    Claim,
    Steal,
    Refund,
    Faults(Vec<u8>),
    Mood(Lie),
    Honest,
}

#[derive(Clone, Debug)]
enum Lie {
    /// A number of the receipt, by so much.
    Receipt {
        field: u8,
        by: i32,
    },
    /// All of the receipt's sums, commitment included.
    Shift(i32),
    /// A correction at any time, with a number of it changed; `old` presents an earlier voucher of the buyer's.
    Correction {
        field: u8,
        by: i32,
        old: bool,
    },
    Refuse(u8),
    Busy,
    Mute,
    Unconfirmed,
}

fn act() -> impl Strategy<Value = Act> {
    let lie = prop_oneof![
        (any::<u8>(), -3_000_000..3_000_000).prop_map(|(field, by)| Lie::Receipt { field, by }),
        (-3_000_000..3_000_000).prop_map(Lie::Shift),
        (any::<u8>(), -3_000_000..3_000_000, any::<bool>()).prop_map(|(field, by, old)| Lie::Correction { field, by, old }),
        (any::<u8>(), Just(0), any::<bool>()).prop_map(|(field, by, old)| Lie::Correction { field, by, old }),
        any::<u8>().prop_map(Lie::Refuse),
        Just(Lie::Busy),
        Just(Lie::Mute),
        Just(Lie::Unconfirmed),
    ];
    prop_oneof![
        8 => (1u64..9_000_000, any::<u8>()).prop_map(|(ceiling, share)| Act::Pay { ceiling, share }),
        1 => Just(Act::TopUp),
        1 => Just(Act::Sync),
        2 => Just(Act::Claim),
        1 => Just(Act::Steal),
        1 => Just(Act::Refund),
        2 => prop::collection::vec(any::<u8>(), 1..6).prop_map(Act::Faults),
        3 => lie.prop_map(Act::Mood),
        3 => Just(Act::Honest),
    ]
}

fn add(value: &mut Value, by: i32) {
    if let Some(number) = value.as_str().and_then(|text| text.parse::<i64>().ok()) {
        *value = json!((number + i64::from(by)).max(0).to_string());
    }
}

fn lie(buyer: &Buyer, told: Lie) {
    const STATE: [&str; 4] = ["chargedCumulativeAmount", "claimedCumulativeAmount", "fundingAmount", "signedMaxClaimable"];
    let old = buyer.counter.sent().first().map(|promise| promise.voucher);
    buyer.counter.till.mood(|mood| match told {
        Lie::Receipt { field, by } => {
            mood.receipt = Some(Box::new(move |receipt| match field % 6 {
                4 => add(&mut receipt["amount"], by),
                5 => {
                    add(&mut receipt["amount"], by);
                    add(&mut receipt["extensions"]["kaspa"]["chargedAmount"], by);
                }
                at => add(&mut receipt["extensions"]["kaspa"]["channelState"][STATE[usize::from(at)]], by),
            }));
        }
        Lie::Shift(by) => mood.shift = by.into(),
        Lie::Correction { field, by, old: presents_old } => {
            mood.misjudge = true;
            mood.correction = Some(Box::new(move |said| {
                add(&mut said["channelState"][STATE[usize::from(field % 4)]], by);
                if let Some(voucher) = old.filter(|_| presents_old) {
                    said["voucherState"] = json!(voucher);
                    said["channelState"]["signedMaxClaimable"] = json!(voucher.amount);
                }
            }));
        }
        Lie::Refuse(at) => {
            let codes = [Code::OfferExpired, Code::ExposureLimit, Code::ChannelBalance, Code::OfferOtherPrice, Code::FundingRejected];
            mood.refuse = Some(codes[usize::from(at) % codes.len()]);
        }
        Lie::Busy => mood.busy = 3,
        Lie::Mute => mood.mute = true,
        Lie::Unconfirmed => mood.unconfirmed = true,
    });
}

/// What the buyer has promised so far, counted without its books.
#[derive(Default)]
struct Watcher {
    seen: usize,
    highest: HashMap<(ChannelId, Outpoint), Amount>,
    signatures: HashMap<(ChannelId, Outpoint, Amount), SchnorrSignature>,
    headers: HashSet<String>,
    ceilings: HashMap<(ChannelId, PaymentIdentifier), u64>,
    disputed: HashSet<ChannelId>,
    charged: HashMap<ChannelId, (Amount, Amount)>,
}

impl Watcher {
    /// Judges everything that was sent since the last look.
    fn look(&mut self, buyer: &Buyer) -> Result<(), TestCaseError> {
        let sent = buyer.counter.sent();
        let channels: HashMap<_, _> = buyer.journal.channels().unwrap().into_iter().map(|channel| (channel.id, channel)).collect();
        for promise in &sent[self.seen..] {
            self.judge(promise)?;
            let Promise { channel, voucher, .. } = promise;
            let all: u64 = self.ceilings.iter().filter(|((id, _), _)| id == channel).map(|(_, ceiling)| ceiling).sum();
            prop_assert!(voucher.amount.sompi() <= all, "{} signed, {all} authorised", voucher.amount);
        }
        self.seen = sent.len();
        for (id, channel) in channels {
            let account = channel.account;
            let (charged, claimed) = self.charged.entry(id).or_default();
            prop_assert!(account.charged >= *charged && account.claimed >= *claimed, "the books never fall");
            (*charged, *claimed) = (account.charged, account.claimed);
            let all: u64 = self.ceilings.iter().filter(|((of, _), _)| *of == id).map(|(_, ceiling)| ceiling).sum();
            prop_assert!(account.charged.sompi() <= all, "{} charged, {all} authorised", account.charged);
            if channel.phase == Phase::Disputed {
                self.disputed.insert(id);
            } else {
                prop_assert!(account.active() <= account.signed_amount().max(account.active()));
            }
        }
        Ok(())
    }

    fn judge(&mut self, promise: &Promise) -> Result<(), TestCaseError> {
        let Promise { header, channel, identifier, outpoint, voucher, ceiling, .. } = promise;
        if !self.headers.insert(header.clone()) {
            return Ok(());
        }
        prop_assert!(!self.disputed.contains(channel), "nothing new is signed for who was caught");
        let highest = self.highest.entry((*channel, *outpoint)).or_default();
        prop_assert!(voucher.amount >= *highest, "{} after {highest} for {outpoint}", voucher.amount);
        *highest = voucher.amount;
        let signature = self.signatures.entry((*channel, *outpoint, voucher.amount)).or_insert(voucher.signature);
        prop_assert_eq!(*signature, voucher.signature, "one voucher for one amount");
        let most = self.ceilings.entry((*channel, identifier.clone())).or_default();
        *most = (*most).max(*ceiling);
        Ok(())
    }
}

/// Whose lie was told to the caller.
fn caught<T>(outcome: Result<T, ChannelError>) -> Option<ChannelId> {
    match outcome {
        Err(ChannelError::Wrong { channel, .. }) => Some(channel),
        _ => None,
    }
}

/// Gives the channels whose server was caught.
async fn perform(buyer: &Buyer, act: Act) -> Vec<ChannelId> {
    let mut found = Vec::new();
    let till = &buyer.counter.till;
    let ids = till.channel_ids().await;
    match act {
        Act::Pay { ceiling, share } => {
            found.extend(caught(buyer.fetch(&format!("/pay/{ceiling}/{}", ceiling * u64::from(share) / 255)).await));
        }
        Act::TopUp => {
            let wish = Want::TopUp(sompi(19 * KAS + KAS / 2));
            found.extend(caught(buyer.ask(&buyer.request("/pay/1000000/5000"), wish, false).await));
        }
        Act::Sync => {
            for channel in buyer.journal.channels().unwrap() {
                found.extend(caught(buyer.sync(&channel.id).await));
            }
        }
        Act::Claim => {
            for id in ids {
                till.try_claim(&id).await;
            }
        }
        Act::Steal => {
            for id in ids {
                till.try_steal(&id).await;
            }
        }
        Act::Refund => {
            for channel in buyer.journal.channels().unwrap() {
                let _ = buyer.refund(&channel.id).await;
            }
        }
        Act::Faults(faults) => {
            let all = [Fault::None, Fault::LoseRequest, Fault::LoseAnswer, Fault::Cut, Fault::Hang, Fault::Status(503), Fault::AskAgain];
            buyer.counter.faults(&faults.iter().map(|at| all[usize::from(*at) % all.len()]).collect::<Vec<_>>());
        }
        Act::Mood(told) => lie(buyer, told),
        Act::Honest => {
            let timeout_daa = super::TIMEOUT;
            till.mood(|mood| *mood = super::till::Mood { timeout_daa, ..Default::default() });
            buyer.counter.faults(&[]);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_answers_makes_it_sign_what_it_must_not(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let setup = Setup { total: Duration::from_millis(40), ..Setup::default() };
            let mut buyer = Buyer::light(setup.clone());
            let mut watcher = Watcher::default();
            for act in acts {
                let found = perform(&buyer, act).await;
                watcher.look(&buyer)?;
                watcher.disputed.extend(found);
                // A client that is dropped in the middle leaves its journal only.
                buyer = buyer.again(setup.clone());
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}
