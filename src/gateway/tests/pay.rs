//! Offers taken, transactions signed, payment headers written: what a buyer does, and what a thief does.

use super::world::{Ask, World};
use crate::{
    chain::{AcceptedInput, Output},
    client::{
        coins::{Coin, CoinRules, SignedPayment, Spend, plan},
        wallet::Wallet,
    },
    protocol::{
        ids::{Outpoint, RequestHash, TxId},
        network::Network,
    },
    wire::{fingerprint, header, identifier},
};
use kaspa_addresses::Address;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

static COINS: AtomicU32 = AtomicU32::new(1);

/// A coin nobody used yet.
pub fn new_coin() -> u32 {
    COINS.fetch_add(1, Ordering::SeqCst)
}

/// A payment whose parts can be changed before it is sent.
#[derive(Clone)]
pub struct Payment {
    pub request: Ask,
    pub accepted: Value,
    pub signed: SignedPayment,
    pub txid: TxId,
    pub request_hash: RequestHash,
    pub proof: Option<Value>,
    pub identifier: Option<String>,
    /// Changes the finished message.
    pub change: Option<fn(&mut Value)>,
}

impl World {
    /// The first way to pay a request.
    pub async fn offer(&self, request: &Ask) -> Value {
        let got = self.send(request).await;
        assert_eq!(got.status(), 402);
        got.offers().expect("offers")["accepts"][0].clone()
    }

    pub async fn pay(&self, request: Ask) -> Payment {
        self.pay_from(request, new_coin()).await
    }

    pub async fn pay_from(&self, request: Ask, coin: u32) -> Payment {
        let accepted = self.offer(&request).await;
        let signed = self.sign(&accepted, coin);
        self.present(request, accepted, signed, &self.payer)
    }

    /// A signed transaction for an offer; the node can name its input.
    pub fn sign(&self, accepted: &Value, coin: u32) -> SignedPayment {
        let amount: u64 = accepted["amount"].as_str().unwrap().parse().unwrap();
        let pay_to = Address::try_from(accepted["payTo"].as_str().unwrap()).unwrap();
        let (own, pay_to) = (self.payer.script(), kaspa_txscript::pay_to_address_script(&pay_to));
        let mut id = [0xc0; 32];
        id[..4].copy_from_slice(&coin.to_be_bytes());
        let outpoint = Outpoint { txid: TxId(id), index: 0 };
        let coin = Coin { outpoint, amount: super::world::sompi(5_000_000_000), daa_score: 1, is_coinbase: false };
        let spend = Spend { amount: super::world::sompi(amount), pay_to: &pay_to, own: &own, conflict_with: &[] };
        let rng = &mut StdRng::seed_from_u64(1);
        let signed = plan(std::slice::from_ref(&coin), &spend, &CoinRules::of(Network::Simnet)).unwrap().sign(&self.payer, rng);
        let spent = Some(Output { amount: coin.amount, script_public_key: own, covenant: false });
        self.chain.set_inputs(signed.txid, vec![AcceptedInput { outpoint, signature_script: Vec::new(), spent }]);
        signed
    }

    /// `who` presents a transaction for a request under an offer.
    pub fn present(&self, request: Ask, accepted: Value, signed: SignedPayment, who: &Wallet) -> Payment {
        let url = format!("https://{}{}", request.host, request.target);
        let request_hash = fingerprint::request_hash(request.method.as_str(), &url, &request.body, &accepted);
        let proof = json!({
            "type": "schnorr", "publicKey": who.public_key(), "signature": hex::encode(who.sign_digest(&request_hash.0, &[0; 32])),
        });
        let txid = signed.txid;
        Payment { request, accepted, signed, txid, request_hash, proof: Some(proof), identifier: None, change: None }
    }
}

impl Payment {
    pub fn without_proof(mut self) -> Self {
        self.proof = None;
        self
    }

    pub fn named(mut self, identifier: &str) -> Self {
        self.identifier = Some(identifier.into());
        self
    }

    pub fn changed(mut self, change: fn(&mut Value)) -> Self {
        self.change = Some(change);
        self
    }

    pub fn message(&self) -> Value {
        let mut message = json!({
            "x402Version": 2,
            "accepted": self.accepted,
            "payload": {
                "type": "exact-transfer",
                "transaction": hex::encode(borsh::to_vec(&self.signed.transaction).unwrap()),
                "transactionId": self.txid,
                "paymentOutputIndex": self.signed.payment_output_index,
                "requestHash": self.request_hash,
            },
            "extensions": {},
        });
        if let Some(proof) = &self.proof {
            message["extensions"]["kaspa"] = json!({ "payerProof": proof });
        }
        if let Some(id) = &self.identifier {
            message["extensions"][identifier::NAME] = identifier::advertise(false).clone();
            message["extensions"][identifier::NAME]["info"]["id"] = id.as_str().into();
        }
        if let Some(change) = self.change {
            change(&mut message);
        }
        message
    }

    pub fn header(&self) -> String {
        header::encode(&self.message()).to_str().unwrap().to_owned()
    }

    /// The request with this payment.
    pub fn ask(&self) -> Ask {
        self.request.clone().paying(&self.header())
    }
}
