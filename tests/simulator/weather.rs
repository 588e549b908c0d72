//! How bad one run is: drawn once, so that some runs have one kind of trouble only and others all of it.

use crate::dice::Dice;

/// All rates are per thousand.
#[derive(Clone, Debug)]
pub struct Weather {
    pub gateways: usize,
    pub shoppers: usize,
    pub subscribers: usize,
    pub thieves: usize,
    /// Of verbs of the store.
    pub store_faults: u64,
    /// Of seconds in which a gateway loses its store for a while.
    pub partitions: u64,
    /// Of verbs that take their time.
    pub slow_store: u64,
    pub submit_faults: u64,
    /// Of seconds in which the node of a gateway goes away, and its mempool with it or not.
    pub node_faults: u64,
    /// Of blocks.
    pub reorgs: u64,
    /// Of payments whose payer spends the coin again.
    pub double_spends: u64,
    /// Of seconds in which a gateway is killed.
    pub crashes: u64,
    /// Of verbs in whose middle a gateway is killed.
    pub crash_points: u64,
    pub upstream_faults: u64,
    /// Of requests.
    pub hang_ups: u64,
    /// Of blocks that take what is in the mempool.
    pub blocks: u64,
    /// One gateway's clock is wrong by more than a hold lasts.
    pub skewed: bool,
    /// Seconds of trouble.
    pub seconds: u64,
}

impl Weather {
    pub fn draw(dice: &Dice) -> Self {
        let kinds = dice.draw();
        let some = |bit: u32, rates: [u64; 3]| if kinds >> bit & 1 == 1 { rates[dice.index(3)] } else { 0 };
        let shoppers = usize::try_from(dice.roll(4)).unwrap();
        Self {
            gateways: [1, 2, 2, 3][dice.index(4)],
            shoppers,
            subscribers: if shoppers == 0 { 2 } else { usize::try_from(dice.roll(3)).unwrap() },
            thieves: usize::try_from(dice.roll(2)).unwrap(),
            store_faults: some(0, [10, 40, 120]),
            partitions: some(1, [10, 30, 60]),
            slow_store: some(2, [20, 100, 300]),
            submit_faults: some(3, [100, 300, 600]),
            node_faults: some(4, [10, 30, 60]),
            reorgs: some(5, [30, 100, 200]),
            double_spends: some(6, [100, 300, 600]),
            crashes: some(7, [10, 30, 60]),
            crash_points: some(8, [2, 8, 20]),
            upstream_faults: some(9, [100, 250, 500]),
            hang_ups: some(10, [100, 250, 500]),
            blocks: [950, 700, 400][dice.index(3)],
            skewed: dice.one_in(12),
            seconds: dice.between(40, 110),
        }
    }
}
