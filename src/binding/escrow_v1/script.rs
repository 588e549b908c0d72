//! The escrow script: template bytes with six slots, its P2SH output, its address.
//!
//! It allows exactly two spends. Claim: the server's signature and the client's voucher for this very
//! outpoint; output 0 pays at most the voucher to the payout script, output 1 holds at least the rest
//! under the same script, and there is no third output. Refund: the client's signature, after the timeout,
//! with one output to the refund script. Salt and channel id are not in it.

use super::{
    config::{self, ChannelConfig, ConfigError},
    digest::sha256,
    voucher::{self, VoucherKey},
};
use crate::protocol::{
    ids::{P2shScript, XOnlyKey},
    limits::LOCK_TIME_THRESHOLD,
    network::Network,
};
use kaspa_addresses::Address;
use kaspa_consensus_core::tx::ScriptPublicKey;
use kaspa_txscript::{extract_script_pub_key_address, opcodes::codes::*, pay_to_address_script, pay_to_script_hash_script};

/// What fills the template's slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowParams {
    pub client_key: XOnlyKey,
    pub server_key: XOnlyKey,
    pub network: Network,
    /// SHA-256 of the serialized payout script public key.
    pub payout_script_hash: [u8; 32],
    /// SHA-256 of the serialized refund script public key.
    pub refund_script_hash: [u8; 32],
    pub timeout_daa: u64,
}

impl EscrowParams {
    /// The redeem script.
    pub fn redeem_script(&self) -> Result<Vec<u8>, ConfigError> {
        if self.timeout_daa >= LOCK_TIME_THRESHOLD {
            return Err(ConfigError::Timeout);
        }
        let mut script = Builder(Vec::with_capacity(352));
        // The branch's number is on top of the stack: 0 claims.
        script.ops(&[OpToAltStack, OpFromAltStack, OpDup, OpFalse, OpNumEqual, OpIf]);
        self.claim_branch(&mut script);
        // 1 refunds.
        script.ops(&[OpElse, OpDup, OpTrue, OpNumEqual, OpIf]);
        self.refund_branch(&mut script);
        // Anything else fails.
        script.ops(&[OpElse, OpDrop, OpFalse, OpVerify, OpEndIf, OpEndIf]);
        Ok(script.0)
    }

    /// Below the branch's number: server signature, voucher signature, voucher amount.
    fn claim_branch(&self, script: &mut Builder) {
        script.ops(&[OpDrop, Op2, OpPick]).push(&self.server_key.0).ops(&[OpCheckSig, OpVerify]);
        // The voucher's digest, built from the input that is being spent.
        script.ops(&[OpOver]).push(&voucher::domain()).push(&sha256(self.network.as_str())).ops(&[OpCat]);
        script.ops(&[OpTxInputIndex, OpTxInputSpk, OpSHA256, OpCat]);
        script.ops(&[OpTxInputIndex, OpOutpointTxId, OpCat]);
        script.ops(&[OpTxInputIndex, OpOutpointIndex, Op4, OpNum2Bin, OpCat]);
        script.ops(&[Op2, OpPick, OpCat, OpSHA256]);
        script.push(&self.client_key.0).ops(&[OpCheckSigFromStack, OpVerify]);
        // Two outputs.
        script.ops(&[OpDup, OpTxOutputCount, Op2, OpNumEqual, OpVerify]);
        // Output 0: at most the voucher, to the payout script.
        script.ops(&[OpFalse, OpTxOutputAmount, OpOver, OpLessThanOrEqual, OpVerify]);
        script.ops(&[OpFalse, OpTxOutputSpk, OpSHA256]).push(&self.payout_script_hash).ops(&[OpEqual, OpVerify]);
        // Output 1: the same script, at least the rest.
        script.ops(&[OpTrue, OpTxOutputSpk, OpTxInputIndex, OpTxInputSpk, OpEqual, OpVerify]);
        script.ops(&[OpTrue, OpTxOutputAmount, OpTxInputIndex, OpTxInputAmount, Op2, OpPick, OpSub, OpGreaterThanOrEqual, OpVerify]);
        script.ops(&[OpFalse, OpRoll, OpDrop, OpDrop, OpDrop, OpDrop, OpTrue]);
    }

    /// Below the branch's number: client signature.
    fn refund_branch(&self, script: &mut Builder) {
        script.ops(&[OpDrop, OpDup]).push(&self.client_key.0).ops(&[OpCheckSig, OpVerify]);
        script.number(self.timeout_daa).ops(&[OpCheckLockTimeVerify]);
        script.ops(&[OpTxInputIndex, OpTxInputSeq, OpFalse, Op8, OpNum2Bin, OpEqual, OpVerify]);
        script.ops(&[OpTxOutputCount, OpTrue, OpNumEqual, OpVerify]);
        script.ops(&[OpFalse, OpTxOutputSpk, OpSHA256]).push(&self.refund_script_hash).ops(&[OpEqual, OpVerify]);
        script.ops(&[OpDrop, OpTrue]);
    }
}

/// Script bytes under construction.
struct Builder(Vec<u8>);

impl Builder {
    fn ops(&mut self, codes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(codes);
        self
    }

    fn push(&mut self, hash: &[u8; 32]) -> &mut Self {
        self.0.push(OpData32);
        self.0.extend_from_slice(hash);
        self
    }

    /// The shortest push of the shortest script number: little-endian, with a zero byte where the
    /// highest bit would read as a sign; 0 to 16 have their own opcodes.
    fn number(&mut self, number: u64) -> &mut Self {
        match u8::try_from(number) {
            Ok(0) => self.0.push(OpFalse),
            Ok(small @ 1..=16) => self.0.push(OpTrue + (small - 1)),
            _ => {
                let mut bytes = number.to_le_bytes().to_vec();
                while bytes.last() == Some(&0) {
                    bytes.pop();
                }
                if bytes.last().is_some_and(|top| top & 0x80 != 0) {
                    bytes.push(0);
                }
                self.0.push(u8::try_from(bytes.len()).expect("nine bytes at most"));
                self.0.extend_from_slice(&bytes);
            }
        }
        self
    }
}

/// The redeem script of a channel with everything derived from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscrowScript {
    network: Network,
    client_key: VoucherKey,
    server_key: VoucherKey,
    timeout_daa: u64,
    payout: ScriptPublicKey,
    refund: ScriptPublicKey,
    redeem: Vec<u8>,
    public_key: ScriptPublicKey,
    serialized: P2shScript,
    serialized_hash: [u8; 32],
}

impl EscrowScript {
    /// Derives the script of a channel; refuses addresses, keys and timeouts that would lock money for ever.
    pub fn of(config: &ChannelConfig) -> Result<Self, ConfigError> {
        let payout = pay_to_address_script(&config::address(&config.pay_to, config.network, "payTo")?);
        let refund = pay_to_address_script(&config::address(&config.refund_address, config.network, "refundAddress")?);
        let key = |key, field| VoucherKey::parse(key).ok_or(ConfigError::NotAKey(field));
        let (client_key, server_key) =
            (key(config.client_public_key, "clientPublicKey")?, key(config.server_public_key, "serverPublicKey")?);
        let params = EscrowParams {
            client_key: config.client_public_key,
            server_key: config.server_public_key,
            network: config.network,
            payout_script_hash: sha256(serialize(&payout)),
            refund_script_hash: sha256(serialize(&refund)),
            timeout_daa: config.refund_timeout_daa,
        };
        let redeem = params.redeem_script()?;
        let public_key = pay_to_script_hash_script(&redeem);
        let serialized = P2shScript(serialize(&public_key).try_into().expect("a P2SH script public key has 2 + 35 bytes"));
        Ok(Self {
            network: config.network,
            client_key,
            server_key,
            timeout_daa: config.refund_timeout_daa,
            payout,
            refund,
            redeem,
            public_key,
            serialized,
            serialized_hash: sha256(serialized.0),
        })
    }

    pub fn network(&self) -> Network {
        self.network
    }

    pub fn client_key(&self) -> &VoucherKey {
        &self.client_key
    }

    pub fn server_key(&self) -> &VoucherKey {
        &self.server_key
    }

    /// The refund is valid in blocks whose DAA score is greater.
    pub fn timeout_daa(&self) -> u64 {
        self.timeout_daa
    }

    pub fn redeem_script(&self) -> &[u8] {
        &self.redeem
    }

    /// What locks the escrow: `aa20 <blake2b-256 of the redeem script> 87`, version 0.
    pub fn script_public_key(&self) -> &ScriptPublicKey {
        &self.public_key
    }

    /// `activeScriptPublicKey` of the wire.
    pub fn serialized(&self) -> P2shScript {
        self.serialized
    }

    /// SHA-256 of [`Self::serialized`], as vouchers contain it.
    pub fn serialized_hash(&self) -> &[u8; 32] {
        &self.serialized_hash
    }

    /// Where a deposit is paid.
    pub fn address(&self) -> Address {
        extract_script_pub_key_address(&self.public_key, self.network.address_prefix()).expect("P2SH has an address")
    }

    pub fn payout_script(&self) -> &ScriptPublicKey {
        &self.payout
    }

    pub fn refund_script(&self) -> &ScriptPublicKey {
        &self.refund
    }
}

/// 2-byte big-endian version, then the script.
pub fn serialize(script: &ScriptPublicKey) -> Vec<u8> {
    [&script.version().to_be_bytes()[..], script.script()].concat()
}
