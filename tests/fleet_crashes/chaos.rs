//! Kills what the test runs on, at moments that a seed draws, each after something was sold since the last: on a slow machine there are fewer
//! deaths in the same time, never deaths without work in between.

use crate::{
    buyer::Doors,
    support::{gateway::Gateway, redis::Server},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Sales between one death and the next.
const PROGRESS: u64 = 4;
/// However slow the machine is: so often at least something dies.
const DEATHS: u32 = 6;
/// Longest time without a sale while everything runs.
const STUCK: Duration = Duration::from_secs(120);

pub struct Chaos {
    pub gateways: Vec<Gateway>,
    redis: Server,
    doors: Arc<Doors>,
    sold: watch::Receiver<u64>,
    dice: StdRng,
    began: Instant,
    deaths: u32,
}

impl Chaos {
    pub fn new(seed: u64, redis: Server, gateways: Vec<Gateway>, doors: Arc<Doors>, sold: watch::Receiver<u64>) -> Self {
        Self { gateways, redis, doors, sold, dice: StdRng::seed_from_u64(seed), began: Instant::now(), deaths: 0 }
    }

    /// Everything runs when it returns.
    pub async fn rage(&mut self, length: Duration) {
        self.began = Instant::now();
        while self.began.elapsed() < length || self.deaths < DEATHS {
            self.work().await;
            self.pause(700).await;
            match self.dice.gen_range(0..6) {
                0 | 1 => {
                    self.say("redis dies");
                    self.redis.kill();
                    self.pause(1_500).await;
                    self.redis.run();
                }
                2 => {
                    let gateway = self.dice.gen_range(0..self.gateways.len());
                    self.kill(gateway).await;
                    self.say("redis dies");
                    self.redis.kill();
                    self.pause(800).await;
                    self.redis.run();
                    self.start(gateway).await;
                }
                3 => {
                    for gateway in 0..self.gateways.len() {
                        self.kill(gateway).await;
                    }
                    for gateway in 0..self.gateways.len() {
                        self.start(gateway).await;
                    }
                }
                _ => {
                    let gateway = self.dice.gen_range(0..self.gateways.len());
                    self.kill(gateway).await;
                    self.pause(1_500).await;
                    self.start(gateway).await;
                }
            }
            self.deaths += 1;
        }
        self.work().await;
        self.say(&format!("{} times something died", self.deaths));
    }

    async fn work(&mut self) {
        let enough = *self.sold.borrow() + PROGRESS;
        let worked = timeout(STUCK, self.sold.wait_for(|sold| *sold >= enough)).await.is_ok();
        assert!(worked, "nothing is sold any more\n{}", self.logs());
    }

    async fn pause(&mut self, most: u64) {
        let millis = self.dice.gen_range(0..most);
        sleep(Duration::from_millis(millis)).await; // why: the moment is what is drawn
    }

    async fn kill(&mut self, gateway: usize) {
        self.say(&format!("gateway {gateway} dies"));
        self.gateways[gateway].kill().await;
    }

    async fn start(&mut self, gateway: usize) {
        self.gateways[gateway].run(&[]).await;
        self.doors.moved(gateway, self.gateways[gateway].url());
    }

    fn say(&self, what: &str) {
        println!("{:>7} ms: {what}, {} sold", self.began.elapsed().as_millis(), *self.sold.borrow());
    }

    /// The last lines of every gateway.
    pub fn logs(&self) -> String {
        let last = |gateway: &Gateway| {
            let log = gateway.log();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        self.gateways.iter().map(last).collect::<Vec<_>>().join("\n\n")
    }
}
