//! The keys of `batch-settlement`.

use super::OnUnknown;
use crate::config::shape::section;

section! {
    /// What a request costs once its answer is known. Exactly one of `header`, `json` and `bytes`.
    Charge {
        /// Count the number in this header of the answer.
        header: String,
        /// Count the number at this JSON pointer into the answer, for example `/usage/total_tokens`; of an event stream, in the last event that has one.
        json: String,
        /// `true`: count the bytes of the answer's body.
        bytes: bool,
        /// The price of `per` units, for example `"10 sompi"`. The sum is rounded up to a whole sompi.
        unit_price: String [required],
        /// How many units `unit_price` buys.
        per: u64 = 1u64,
        /// The least a request costs.
        floor: String = "0 sompi",
        /// An answer whose units cannot be read costs the `ceiling` (`price`) or the `floor`, or is withheld and costs nothing (`refuse`; of a stream that has begun, the floor).
        on_unknown: OnUnknown = OnUnknown::Ceiling,
    }
}

section! {
    /// Escrow channels. The network counts about 10 of DAA score a second; times are converted at that rate.
    Channels {
        /// How far ahead the refund timeout of a new channel is, at least. What its client does not spend is locked until then.
        refund_horizon_seconds: u64 = 604_800u64,
        /// Refund timeouts are rounded up to a multiple of this.
        refund_epoch_seconds: u64 = 3_600u64,
        /// How long before its refund timeout a channel is served no more. At least the time of three times `limits.final_depth`, so that the last claim is final before the refund. Default: that, but no less than an hour.
        refund_lead_seconds: u64,
        /// DAA score since a deposit or top-up was accepted, from which on it counts without limit.
        confirmations: u64 = 10u64,
        /// The most that clients may owe at a time.
        exposure: Exposure,
        /// When the gateway claims what is owed.
        claims: Claims,
    }
}

section! {
    /// The most that clients may owe at a time; beyond it requests are refused. An amount, or `none` for no limit.
    Exposure {
        /// In one channel. Default `none`: its deposit limits it.
        per_channel: String = "none",
        /// Over all channels of one client key.
        per_payer: String = "100 KAS",
        /// Over all channels that refund to one address.
        per_refund_address: String = "100 KAS",
        /// Over all channels whose deposit, last top-up, or last claim that competes with another spend has not its `confirmations`. At `0 KAS` none of them is served before.
        unconfirmed: String = "0 KAS",
        /// Over all channels.
        total: String = "none",
    }
}

section! {
    /// When the gateway claims what is owed.
    Claims {
        /// Claim without being told. `false` leaves it to `kas402 claim`.
        automatic: bool = true,
        /// A channel is claimed when it owes this much.
        above: String = "10 KAS",
        /// A channel is claimed when its oldest unclaimed charge is this old.
        after_seconds: u64 = 86_400u64,
        /// A channel is claimed, whatever it owes, when its refund timeout is nearer than this. Default: twice `refund_lead_seconds`, but no more than halfway between it and `refund_horizon_seconds`.
        before_refund_seconds: u64,
        /// The most of a claim that may go into its fee, in per cent. Dearer claims wait, and are reported.
        max_fee_percent: u64 = 10u64,
        /// Fee rate over the least that is relayed, sompi per gram of mass; 0 for the least.
        priority_sompi_per_gram: u64 = 0u64,
        /// Tell clients in every offer when channels are claimed (`claimPolicy`).
        announce: bool = false,
    }
}
