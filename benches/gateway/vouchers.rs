//! Channels whose vouchers pay: opened on the real node, their requests built before they are sent.
//!
//! A fixed price makes the vouchers of a channel predictable while nothing is claimed: the n-th request signs n prices. An offer
//! is good once per channel, so one set of offers serves all channels.

use crate::{
    Fallible,
    drive::{Feed, Sender},
    servers::{Gateway, VOUCHER_PATH, VOUCHER_SOMPI},
    support::{
        channel::{Channel, batch_of, new_identifier},
        devnet::{self, Devnet, KAS, Wallet},
        pay::{Answer, Ask},
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kas402::binding::escrow_v1::SignedVoucher;
use secp256k1::{Keypair, SECP256K1};
use serde_json::Value;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

const BANK_SEED: u8 = 8;
/// What a channel is opened with: more than all its requests cost.
const DEPOSIT: u64 = KAS;
/// The bank's coin for one deposit; its change is worth keeping.
const COIN: u64 = 2 * KAS;
/// Channels that are opened at once.
const OPENING: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// All channels, of one key each.
pub struct Fleet {
    channels: Vec<Paying>,
    ask: Ask,
    url: String,
}

/// One channel and its requests.
struct Paying {
    channel: Channel,
    /// Requests signed so far, the opening one among them.
    signed: u64,
    waiting: VecDeque<Box<[u8]>>,
}

impl Fleet {
    /// Opens the channels with a request each; the node must mine.
    pub async fn open(node: &Devnet, gateway: &Gateway, count: usize) -> Fallible<Self> {
        let (ask, url) = (Ask::get(VOUCHER_PATH), format!("http://{}", gateway.address));
        let bank = Wallet::new(BANK_SEED);
        let coins = node.fund(&bank, COIN, u64::try_from(count)?).await;
        let accepted = batch_of(&ask.send(&url, None).await);
        let openings = coins.iter().zip(1_u32..).map(|(coin, number)| open(&ask, &url, &accepted, &bank, coin, number));
        let channels = stream::iter(openings).buffer_unordered(OPENING).try_collect().await?;
        Ok(Self { channels, ask, url })
    }

    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Sompi of all answers there were so far: what was signed and does not wait.
    pub fn spent(&self) -> u64 {
        let answered = |paying: &Paying| paying.signed.saturating_sub(paying.waiting.len() as u64);
        self.channels.iter().map(answered).sum::<u64>() * VOUCHER_SOMPI
    }

    /// A request that waits, and its channel.
    pub fn example(&self) -> Option<(&[u8], &Channel)> {
        self.channels.iter().find_map(|paying| Some((&**paying.waiting.front()?, &paying.channel)))
    }

    /// A voucher of each channel, with what is needed to verify it.
    pub fn vouchers(&self) -> Vec<(&Channel, SignedVoucher)> {
        self.channels.iter().map(|paying| (&paying.channel, paying.channel.sign(paying.channel.outpoint, VOUCHER_SOMPI))).collect()
    }

    /// Builds until every channel has `each` requests waiting.
    pub async fn prepare(&mut self, each: usize) -> Fallible<()> {
        let lacking = self.channels.iter().map(|paying| each.saturating_sub(paying.waiting.len())).max().unwrap_or(0);
        let mut offers = Vec::with_capacity(lacking);
        for _ in 0..lacking {
            offers.push(batch_of(&self.ask.send(&self.url, None).await));
        }
        let share = self.channels.len().div_ceil(std::thread::available_parallelism()?.get());
        std::thread::scope(|scope| {
            for share in self.channels.chunks_mut(share) {
                let offers = &offers;
                scope.spawn(move || share.iter_mut().for_each(|paying| paying.build(offers, each)));
            }
        });
        Ok(())
    }

    /// All that waits, dealt to so many connections.
    pub fn feeds(&mut self, connections: usize) -> Vec<Feed> {
        let mut hands: Vec<Vec<Sender>> = (0..connections.min(self.channels.len())).map(|_| Vec::new()).collect();
        let count = hands.len();
        for (number, paying) in self.channels.iter_mut().enumerate() {
            hands[number % count].push(Sender { number, requests: std::mem::take(&mut paying.waiting) });
        }
        hands.into_iter().map(|senders| Feed::Turns { senders, next: 0 }).collect()
    }

    /// What was not sent waits again.
    pub fn take_back(&mut self, feeds: Vec<Feed>) {
        for feed in feeds {
            let Feed::Turns { senders, .. } = feed else { continue };
            for Sender { number, requests } in senders {
                self.channels[number].waiting = requests;
            }
        }
    }
}

impl Paying {
    fn build(&mut self, offers: &[Value], each: usize) {
        for accepted in offers {
            if self.waiting.len() >= each {
                return;
            }
            self.signed += 1;
            let header = self.channel.paying_exactly(accepted, self.signed * VOUCHER_SOMPI, &new_identifier());
            let request = format!("GET {VOUCHER_PATH} HTTP/1.1\r\nHost: kas402.bench\r\nPAYMENT-SIGNATURE: {header}\r\n\r\n");
            self.waiting.push_back(request.into_bytes().into());
        }
    }
}

async fn open(ask: &Ask, url: &str, accepted: &Value, bank: &Wallet, coin: &devnet::Coin, number: u32) -> Fallible<Paying> {
    let mut secret = [0x42; 32];
    secret[28..].copy_from_slice(&number.to_be_bytes());
    let wallet = Wallet { keypair: Keypair::from_seckey_slice(SECP256K1, &secret)? };
    let mut channel = Channel::paid_by(bank, accepted, &wallet, std::slice::from_ref(coin), DEPOSIT);
    let answer = accepted_by_the_chain(ask, url, &channel.depositing(accepted)).await?;
    channel.served(&answer);
    Ok(Paying { channel, signed: 1, waiting: VecDeque::new() })
}

/// Sends the deposit again until it is confirmed.
async fn accepted_by_the_chain(ask: &Ask, url: &str, header: &str) -> Fallible<Answer> {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = ask.try_send(url, Some(header)).await?;
        if answer.status == 200 {
            return Ok(answer);
        }
        // Accepted and not deep enough is a 402: what is offered then is another deposit.
        let waits = answer.status == 503 || answer.text().contains("exposure_limit");
        if !waits || Instant::now() > until {
            return Err(format!("a deposit is answered {}: {}", answer.status, answer.text()).into());
        }
        // why: Retry-After is all that the gateway tells
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
