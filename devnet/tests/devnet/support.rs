//! A wallet of one key, and short ways to ask a devnet.

use kas402_devnet::{Devnet, FundRequest, Options};
use kaspa_addresses::{Address, Prefix, Version};
use kaspa_consensus_core::config::params::SIMNET_PARAMS;
use kaspa_consensus_core::mass::MassCalculator;
use kaspa_consensus_core::sign::sign;
use kaspa_consensus_core::subnets::SUBNETWORK_ID_NATIVE;
use kaspa_consensus_core::tx::{SignableTransaction, Transaction, TransactionInput, TransactionOutpoint, TransactionOutput, UtxoEntry};
use kaspa_txscript::pay_to_address_script;
use kaspa_wrpc_client::prelude::{ConnectOptions, KaspaRpcClient, NetworkId, NetworkType, WrpcEncoding};
use secp256k1::Keypair;

pub const KAS: u64 = 100_000_000;

/// More than any transaction here must pay.
pub const FEE_SOMPI: u64 = KAS / 100;

/// Spends outputs of its own key.
pub struct Wallet {
    keypair: Keypair,
    pub address: Address,
}

/// An output of a wallet's key.
#[derive(Clone, Copy)]
pub struct Coin {
    pub outpoint: TransactionOutpoint,
    pub sompi: u64,
}

impl Wallet {
    /// The wallet of a fixed key; different numbers are different wallets.
    pub fn new(number: u8) -> Self {
        let keypair = Keypair::from_seckey_slice(secp256k1::SECP256K1, &[number; 32]).unwrap();
        let address = Address::new(Prefix::Simnet, Version::PubKey, &keypair.x_only_public_key().0.serialize());
        Self { keypair, address }
    }

    /// Coins from the faucet.
    pub async fn funded(&self, devnet: &Devnet, sompi: u64, count: u64) -> Vec<Coin> {
        let request = FundRequest { address: self.address.clone(), amount_sompi: sompi, count };
        let funded = devnet.fund(&request).await.unwrap();
        funded.outpoints.iter().map(|outpoint| Coin { outpoint: *outpoint, sompi }).collect()
    }

    /// Pays all of `coin` less [`FEE_SOMPI`] to `to`.
    pub fn pay_all(&self, coin: Coin, to: &Address) -> Transaction {
        self.signed(self.unsigned(coin, to), coin)
    }

    /// The same, for a test to spoil before it signs.
    pub fn unsigned(&self, coin: Coin, to: &Address) -> Transaction {
        let output = TransactionOutput::new(coin.sompi - FEE_SOMPI, pay_to_address_script(to));
        let input = TransactionInput::new(coin.outpoint, vec![], 0, 1);
        Transaction::new(0, vec![input], vec![output], 0, SUBNETWORK_ID_NATIVE, 0, vec![])
    }

    /// Signed for spending `coin` by every input, with the right storage mass where it can be computed.
    pub fn signed(&self, tx: Transaction, coin: Coin) -> Transaction {
        let entry = UtxoEntry::new(coin.sompi, pay_to_address_script(&self.address), 0, false, None);
        let entries = vec![entry; tx.inputs.len()];
        let signed = sign(SignableTransaction::with_entries(tx, entries), self.keypair);
        let calculator = MassCalculator::new_with_consensus_params(&SIMNET_PARAMS);
        let computable = !signed.tx.inputs.is_empty() && signed.tx.outputs.iter().all(|output| output.value > 0);
        let mass = computable.then(|| calculator.calc_contextual_masses(&signed.as_verifiable())).flatten();
        let mut tx = signed.tx;
        tx.set_storage_mass(mass.map_or(0, |mass| mass.storage_mass));
        tx.finalize();
        tx
    }
}

/// A devnet that mines only when told to.
pub async fn paused(nodes: usize) -> Devnet {
    Devnet::start(Options { nodes, rate: 0.0, ..Options::default() }).await.unwrap()
}

pub async fn sink(devnet: &Devnet, node: usize) -> String {
    devnet.status().await.unwrap().nodes[node].chain.as_ref().unwrap().sink.clone()
}

pub async fn blue_score(devnet: &Devnet, node: usize) -> u64 {
    devnet.status().await.unwrap().nodes[node].chain.as_ref().unwrap().sink_blue_score
}

/// Sum and number of an address's outputs on a node.
pub async fn holdings(devnet: &Devnet, node: usize, address: &Address) -> (u64, usize) {
    let utxos = devnet.utxos(node, address).await.unwrap();
    (utxos.iter().map(|utxo| utxo.utxo_entry.amount).sum(), utxos.len())
}

/// A connected client, as the gateway uses it.
pub async fn wrpc(encoding: WrpcEncoding, url: &str) -> KaspaRpcClient {
    let network = NetworkId::new(NetworkType::Simnet);
    let client = KaspaRpcClient::new(encoding, Some(url), None, Some(network), None).unwrap();
    client.connect(Some(ConnectOptions { block_async_connect: true, ..Default::default() })).await.unwrap();
    client
}
