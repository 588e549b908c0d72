//! The payment as it is sent: one `PAYMENT-SIGNATURE` value, built once and never changed.

use super::{
    challenge::{Challenge, Offer},
    coins::SignedPayment,
    wallet::Wallet,
};
use crate::{
    protocol::ids::{PaymentIdentifier, RequestHash},
    wire::{
        envelope::{PayerProof, ProofType},
        header, identifier,
        messages::X402_VERSION,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngCore;
use serde_json::{Map, Value, json};

/// Everything a payment says.
pub struct Payment<'a> {
    pub challenge: &'a Challenge,
    pub offer: &'a Offer,
    pub signed: &'a SignedPayment,
    pub request_hash: RequestHash,
    /// `None` when the server does not advertise the extension.
    pub identifier: Option<&'a PaymentIdentifier>,
}

/// The header value. Always carries the request hash, and the proof that the payer presents it, so
/// that a transaction which the network saw first is still served to who paid.
pub fn header_value(payment: &Payment<'_>, wallet: &Wallet, rng: &mut dyn RngCore) -> String {
    let mut aux = [0; 32];
    rng.fill_bytes(&mut aux);
    let proof = PayerProof {
        r#type: ProofType::Schnorr,
        public_key: wallet.public_key(),
        signature: hex::encode(wallet.sign_digest(&payment.request_hash.0, &aux)),
    };
    let mut extensions = Map::from_iter([("kaspa".to_owned(), json!({ "payerProof": proof }))]);
    if let Some(id) = payment.identifier {
        extensions.insert(identifier::NAME.to_owned(), echo_identifier(&payment.challenge.extensions, id));
    }
    let mut message = json!({
        "x402Version": X402_VERSION,
        "accepted": payment.offer.accepted,
        "payload": {
            "type": "exact-transfer",
            "payerAddress": wallet.address().to_string(),
            "transaction": hex::encode(borsh::to_vec(&payment.signed.transaction).expect("a transaction encodes into memory")),
            "transactionId": payment.signed.txid,
            "paymentOutputIndex": payment.signed.payment_output_index,
            "requestHash": payment.request_hash,
        },
        "extensions": extensions,
    });
    if let Some(resource) = &payment.challenge.resource {
        message["resource"] = resource.clone();
    }
    let value = header::encode(&message);
    value.to_str().expect("base64 is visible ASCII").to_owned()
}

/// Whether the server wants payments to carry an identifier, required or not.
pub fn advertises_identifier(challenge: &Challenge) -> bool {
    challenge.extensions.get(identifier::NAME).is_some_and(Value::is_object)
}

/// A new identifier of 128 random bits.
pub fn draw_identifier(rng: &mut dyn RngCore) -> PaymentIdentifier {
    let mut bits = [0; 16];
    rng.fill_bytes(&mut bits);
    PaymentIdentifier::parse(&URL_SAFE_NO_PAD.encode(bits)).expect("22 characters of the identifier's alphabet")
}

/// The advertised extension as it was, schema and every `info` field, with the id added.
pub(super) fn echo_identifier(extensions: &Map<String, Value>, id: &PaymentIdentifier) -> Value {
    let mut echo = extensions.get(identifier::NAME).cloned().unwrap_or_else(|| json!({}));
    if !echo.get("info").is_some_and(Value::is_object) {
        echo["info"] = json!({});
    }
    echo["info"]["id"] = json!(id);
    echo
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::{
            challenge::tests::{entry, shop_address},
            coins::{Coin, CoinRules, Spend, plan},
        },
        protocol::{
            amount::Amount,
            ids::{Outpoint, TxId},
            network::Network,
        },
    };
    use rand::{SeedableRng, rngs::StdRng};

    fn payload(advertised: Option<Value>) -> (Value, SignedPayment, Wallet) {
        let wallet = Wallet::from_secret(Network::Simnet, &[7; 32]).unwrap();
        let mut message = json!({"x402Version": 2, "resource": {"url": "https://shop/x", "description": "d"}, "accepts": [entry()]});
        if let Some(extension) = advertised {
            message["extensions"] = json!({ identifier::NAME: extension });
        }
        let challenge = Challenge::read(header::encode(&message).as_bytes()).unwrap();
        let offer = &challenge.offers[0];
        let coin = Coin {
            outpoint: Outpoint { txid: TxId([1; 32]), index: 0 },
            amount: Amount::from_sompi(5_000_000_000).unwrap(),
            daa_score: 1,
            is_coinbase: false,
        };
        let (own, pay_to) = (wallet.script(), offer.script());
        let spend = Spend { amount: offer.amount, pay_to: &pay_to, own: &own, conflict_with: &[] };
        let rng = &mut StdRng::seed_from_u64(5);
        let signed = plan(&[coin], &spend, &CoinRules::of(Network::Simnet)).unwrap().sign(&wallet, rng);
        let id = advertises_identifier(&challenge).then(|| draw_identifier(rng));
        let payment =
            Payment { challenge: &challenge, offer, signed: &signed, request_hash: RequestHash([3; 32]), identifier: id.as_ref() };
        let value = header_value(&payment, &wallet, rng);
        (header::decode(value.as_bytes()).unwrap(), signed, wallet)
    }

    #[test]
    fn a_payment_echoes_the_offer_and_proves_its_payer() {
        let (sent, signed, wallet) = payload(None);
        assert_eq!(sent["accepted"], entry(), "unknown fields included");
        assert_eq!(sent["resource"], json!({"url": "https://shop/x", "description": "d"}));
        assert_eq!(sent["payload"]["requestHash"], json!("03".repeat(32)));
        assert_eq!(sent["payload"]["transactionId"], json!(signed.txid));
        assert_eq!(sent["accepted"]["payTo"], json!(shop_address()));
        assert_eq!(sent["extensions"].as_object().unwrap().len(), 1, "no identifier unless advertised");
        let bytes = hex::decode(sent["payload"]["transaction"].as_str().unwrap()).unwrap();
        let transaction: kaspa_consensus_core::tx::Transaction = borsh::from_slice(&bytes).unwrap();
        assert_eq!(transaction, signed.transaction);

        let proof: PayerProof = serde_json::from_value(sent["extensions"]["kaspa"]["payerProof"].clone()).unwrap();
        assert_eq!(proof.public_key, wallet.public_key());
        let signature = secp256k1::schnorr::Signature::from_slice(&hex::decode(&proof.signature).unwrap()).unwrap();
        let key = secp256k1::XOnlyPublicKey::from_slice(&proof.public_key.0).unwrap();
        let digest = secp256k1::Message::from_digest([3; 32]);
        secp256k1::SECP256K1.verify_schnorr(&signature, &digest, &key).unwrap();
    }

    #[test]
    fn an_advertised_identifier_is_echoed_whole_with_an_id() {
        let advertised = identifier::advertise(true);
        let (sent, ..) = payload(Some(advertised.clone()));
        let extensions = sent["extensions"].as_object().unwrap();
        let id = identifier::read(extensions, true).unwrap().expect("an id");
        let mut expect = advertised.clone();
        expect["info"]["id"] = json!(id);
        assert_eq!(extensions[identifier::NAME], expect);
    }
}
