//! What of a channel is fixed when it is opened.

use super::{OutOfRange, Read};
use crate::{
    protocol::{
        ids::{Salt, XOnlyKey},
        requirements::{Asset, TemplateId},
    },
    store::{
        channels::{ChannelConfig, ChannelRecord},
        codec::{Kind, encode, network_code, network_from},
    },
};
use borsh::{BorshDeserialize, BorshSerialize};

/// Fixed when the channel is opened.
#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct Terms {
    pub network: u8,
    pub template: u8,
    pub client_public_key: [u8; 32],
    pub server_public_key: [u8; 32],
    pub pay_to: String,
    pub refund_address: String,
    pub refund_timeout_daa: u64,
    pub salt: [u8; 32],
    pub opened_at: u64,
}

const fn template_code(template: TemplateId) -> u8 {
    match template {
        TemplateId::EscrowV1 => 1,
    }
}

fn template_from(code: u8) -> Read<TemplateId> {
    if code == template_code(TemplateId::EscrowV1) { Ok(TemplateId::EscrowV1) } else { Err(OutOfRange) }
}

pub(in crate::store) fn encode_terms(record: &ChannelRecord) -> Vec<u8> {
    let ChannelConfig { network, asset: Asset::Kas, template_id, .. } = record.config;
    let config = &record.config;
    let terms = Terms {
        network: network_code(network),
        template: template_code(template_id),
        client_public_key: config.client_public_key.0,
        server_public_key: config.server_public_key.0,
        pay_to: config.pay_to.clone(),
        refund_address: config.refund_address.clone(),
        refund_timeout_daa: config.refund_timeout_daa,
        salt: config.salt.0,
        opened_at: record.opened_at.0,
    };
    encode(Kind::ChannelTerms, &record.id.0, &terms)
}

impl Terms {
    pub fn config(self) -> Read<ChannelConfig> {
        Ok(ChannelConfig {
            network: network_from(self.network).ok_or(OutOfRange)?,
            asset: Asset::Kas,
            template_id: template_from(self.template)?,
            client_public_key: XOnlyKey(self.client_public_key),
            server_public_key: XOnlyKey(self.server_public_key),
            pay_to: self.pay_to,
            refund_address: self.refund_address,
            refund_timeout_daa: self.refund_timeout_daa,
            salt: Salt(self.salt),
        })
    }
}
