//! What of a channel changes with every charge, and the terms of a charge.

use super::{OutOfRange, OutpointFields, Read, VoucherFields, amount, outpoint_fields, outpoint_from, voucher_fields, voucher_from};
use crate::{
    protocol::{
        amount::Amount,
        ids::{PaymentIdentifier, RequestHash, RequestIdentity},
        policy::RouteId,
        time::UnixMillis,
    },
    store::{
        channels::{ChannelRecord, ChargeTerms, OpenStream, Parts},
        codec::{Kind, encode},
    },
};
use borsh::{BorshDeserialize, BorshSerialize};
use std::borrow::Cow;

/// Rewritten with every charge.
#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct Accounts<'a> {
    pub outpoint: OutpointFields,
    pub funding: u64,
    pub charged: u64,
    pub claimed: u64,
    pub reserved: u64,
    pub signed: u64,
    pub voucher: Option<VoucherFields>,
    pub reserve: u64,
    pub stream: Option<Stream<'a>>,
    pub charges: u64,
    pub unclaimed_since: Option<u64>,
    pub last_charge_at: Option<u64>,
}

#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct Stream<'a> {
    pub terms: Request<'a>,
    pub charged_before: u64,
    pub claimed: u64,
    pub funding: u64,
    pub reading: Option<u64>,
    pub unknown: u64,
    pub status: u16,
    pub began_at: u64,
}

/// [`ChargeTerms`]; their texts are borrowed where they are written.
#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct Request<'a> {
    identifier: Cow<'a, str>,
    nonce: [u8; 16],
    identity: [u8; 32],
    request_hash: [u8; 32],
    requirements_hash: [u8; 32],
    outpoint: OutpointFields,
    voucher: VoucherFields,
    ceiling: u64,
    route: Cow<'a, str>,
    summary: Cow<'a, str>,
}

pub(in crate::store) fn encode_accounts(record: &ChannelRecord) -> Vec<u8> {
    let Parts { funding, charged, claimed, reserved, signed } = record.parts;
    let accounts = Accounts {
        outpoint: outpoint_fields(record.outpoint),
        funding: funding.sompi(),
        charged: charged.sompi(),
        claimed: claimed.sompi(),
        reserved: reserved.sompi(),
        signed: signed.sompi(),
        voucher: record.voucher.map(voucher_fields),
        reserve: record.reserve.sompi(),
        stream: record.stream.as_ref().map(Stream::of),
        charges: record.charges,
        unclaimed_since: record.unclaimed_since.map(|at| at.0),
        last_charge_at: record.last_charge_at.map(|at| at.0),
    };
    encode(Kind::ChannelAccounts, &record.id.0, &accounts)
}

impl Accounts<'_> {
    pub fn parts(&self) -> Read<Parts> {
        Ok(Parts {
            funding: amount(self.funding)?,
            charged: amount(self.charged)?,
            claimed: amount(self.claimed)?,
            reserved: amount(self.reserved)?,
            signed: amount(self.signed)?,
        })
    }
}

impl<'a> Stream<'a> {
    fn of(stream: &'a OpenStream) -> Self {
        Self {
            terms: Request::of(&stream.terms),
            charged_before: stream.charged_before.sompi(),
            claimed: stream.claimed.sompi(),
            funding: stream.funding.sompi(),
            reading: stream.reading.map(Amount::sompi),
            unknown: stream.unknown.sompi(),
            status: stream.status,
            began_at: stream.began_at.0,
        }
    }

    pub fn read(self) -> Read<OpenStream> {
        Ok(OpenStream {
            terms: self.terms.read()?,
            charged_before: amount(self.charged_before)?,
            claimed: amount(self.claimed)?,
            funding: amount(self.funding)?,
            reading: self.reading.map(amount).transpose()?,
            unknown: amount(self.unknown)?,
            status: self.status,
            began_at: UnixMillis(self.began_at),
        })
    }
}

impl<'a> Request<'a> {
    pub fn of(terms: &'a ChargeTerms) -> Self {
        Self {
            identifier: terms.identifier.as_str().into(),
            nonce: terms.nonce,
            identity: terms.identity.0,
            request_hash: terms.request_hash.0,
            requirements_hash: terms.requirements_hash,
            outpoint: outpoint_fields(terms.outpoint),
            voucher: voucher_fields(terms.voucher),
            ceiling: terms.ceiling.sompi(),
            route: terms.route.0.as_str().into(),
            summary: terms.summary.as_str().into(),
        }
    }

    pub fn read(self) -> Read<ChargeTerms> {
        Ok(ChargeTerms {
            identifier: PaymentIdentifier::parse(&self.identifier).map_err(|_| OutOfRange)?,
            nonce: self.nonce,
            identity: RequestIdentity(self.identity),
            request_hash: RequestHash(self.request_hash),
            requirements_hash: self.requirements_hash,
            outpoint: outpoint_from(self.outpoint),
            voucher: voucher_from(self.voucher)?,
            ceiling: amount(self.ceiling)?,
            route: RouteId(self.route.into_owned()),
            summary: self.summary.into_owned(),
        })
    }
}
