//! What a deposit of a given size is good for, by the rules the gateway claims with.

use crate::{
    binding::escrow_v1::{
        ChannelConfig, EscrowScript, ServerKey, TemplateId,
        spend::{Escrow, SpendRules, plan_claim, reserve},
    },
    protocol::{
        amount::Amount,
        ids::{Outpoint, Salt, TxId, XOnlyKey},
        limits::LOCK_TIME_THRESHOLD,
        network::Network,
        requirements::Asset,
    },
};
use kaspa_addresses::{Address, Version};

/// An escrow like any other of a network: all of them have one script, with other keys in it.
pub struct Sample {
    script: EscrowScript,
    rules: SpendRules,
}

impl Sample {
    pub fn of(network: Network, priority_sompi_per_gram: u64) -> Self {
        let key = stand_in();
        let address = Address::new(network.address_prefix(), Version::PubKey, &key.0).to_string();
        let config = ChannelConfig {
            network,
            asset: Asset::Kas,
            template_id: TemplateId::EscrowV1,
            client_public_key: key,
            server_public_key: key,
            pay_to: address.clone(),
            refund_address: address,
            // The longest there is: scripts with shorter ones weigh less.
            refund_timeout_daa: LOCK_TIME_THRESHOLD - 1,
            salt: Salt([0; 32]),
        };
        let script = EscrowScript::of(&config).expect("a key, its address on the network, and a lock time below the threshold");
        Self { script, rules: SpendRules::of(network).with_priority(priority_sompi_per_gram) }
    }

    /// What the claim of all the rest must leave of a deposit; `None` when no claim of it is possible.
    pub fn reserve(&self, deposit: Amount) -> Option<Amount> {
        reserve(&self.script, deposit, &self.rules)
    }

    /// The fee of a claim of `takes` from a deposit of this size; `None` when the network does not take it.
    pub fn claim_fee(&self, deposit: Amount, takes: Amount) -> Option<Amount> {
        let outpoint = Outpoint { txid: TxId([0; 32]), index: 0 };
        plan_claim(Escrow { script: &self.script, outpoint, funding: deposit }, takes, &self.rules).ok().map(|plan| plan.fee)
    }
}

/// A public key in the place of one that is not known: secrets are not read, or were found wrong.
pub fn stand_in() -> XOnlyKey {
    ServerKey::new(&[1; 32], true).expect("a number below the order of the curve").public()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kas(text: &str) -> Amount {
        Amount::parse_price(text).unwrap()
    }

    #[test]
    fn small_deposits_are_known_before_anybody_makes_one() {
        for network in Network::ALL {
            for (deposit, claimable) in [
                ("0 KAS", false),
                ("1 sompi", false),
                ("0.02 KAS", false),
                ("0.03 KAS", false),
                ("0.1 KAS", true),
                ("1 KAS", true),
                ("1000000 KAS", true),
            ] {
                assert_eq!(Sample::of(network, 0).reserve(kas(deposit)).is_some(), claimable, "{deposit} on {network}");
            }
        }
        assert_eq!(Sample::of(Network::Simnet, 1_000_000).reserve(kas("1 KAS")), None, "a rate that eats every payout up");
    }

    #[test]
    fn a_claim_of_the_default_value_costs_little() {
        let sample = Sample::of(Network::Testnet10, 0);
        let fee = sample.claim_fee(kas("1000 KAS"), kas("10 KAS")).unwrap();
        assert!(fee > Amount::ZERO && fee < kas("0.01 KAS"), "{}", fee.to_kas());
        assert_eq!(sample.claim_fee(kas("1000 KAS"), kas("0.01 KAS")), None);
        assert_eq!(sample.claim_fee(kas("1 KAS"), kas("1 KAS")), None);
    }
}
