//! Servers that have processors, queues and bad moments, in virtual time: what limit is found, how soon, and how fair
//! the pools on it are.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::core::work::class;

/// Numbers that look like chance and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, with that deviation.
    fn noise(&mut self, deviation: f64) -> f64 {
        ((0..12).map(|_| self.unit()).sum::<f64>() - 6.0) * deviation
    }
}

/// How much a server gets done with so many at once, in seconds of work a second.
#[derive(Clone, Copy, Debug)]
struct Server {
    /// That much at most.
    cores: f64,
    /// What part of the work is done by one at a time (G. Amdahl).
    contention: f64,
    /// How much of everything is lost for each beyond what there are cores for.
    disturbance: f64,
}

impl Server {
    fn throughput(&self, n: f64) -> f64 {
        let scaled = n / (1.0 + self.contention * (n - 1.0).max(0.0));
        scaled.min(self.cores) / (1.0 + self.disturbance * (n - self.cores).max(0.0))
    }

    fn best(&self, most: u32) -> f64 {
        (1..=most).map(|n| self.throughput(f64::from(n))).fold(0.0, f64::max)
    }
}

/// One pool and its clients: so many, who ask again as soon as they are answered.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    clients: u32,
    least: u32,
    most: u32,
}

const ALONE: Crowd = Crowd { clients: 100, least: 0, most: 64 };
const STATEMENT_US: f64 = 200.0;

/// A server in the large: what each look sees of it.
struct World {
    server: Server,
    crowds: Vec<Crowd>,
    grants: Vec<u32>,
    limiter: Limiter,
    dice: Dice,
    noise: f64,
    /// At that part of the looks clients happen to be on their way, so that few are on loan and none waits.
    away: f64,
}

impl World {
    fn new(server: Server, crowds: &[Crowd], seed: u64, noise: f64) -> World {
        let grants = vec![1; crowds.len()];
        let (limiter, dice) = (Limiter::default(), Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
        World { server, crowds: crowds.to_vec(), grants, limiter, dice, noise, away: 0.0 }
    }

    /// One look; tells how much was done in a second.
    fn step(&mut self) -> f64 {
        let lent: Vec<u32> = self.crowds.iter().zip(&self.grants).map(|(c, g)| c.clients.min(*g)).collect();
        let n: u32 = lent.iter().sum();
        let factor = self.dice.noise(self.noise).exp();
        let stalled = if self.dice.unit() < 0.01 { 0.3 } else { 1.0 };
        let done = self.server.throughput(f64::from(n)) * factor * stalled;
        let took = STATEMENT_US * f64::from(n.max(1)) / done.max(0.1);
        let away = self.dice.unit() < self.away;
        let seen = self.dice.unit();
        let sight = |(crowd, lent): (&Crowd, &u32)| {
            let part = done * 0.1 * f64::from(*lent) / f64::from(n.max(1));
            let count = (part * 1e6 / STATEMENT_US) as u64;
            let mut done = Done::default();
            let at = class(STATEMENT_US as u64);
            (done.usual_us[at], done.took_us[at]) = (STATEMENT_US as u64 * count, took as u64 * count);
            let waiting = crowd.clients - lent;
            let waits = if waiting > 0 { count } else { 0 };
            let (waiting, lent) = if away { (0, (f64::from(*lent) * seen) as u32) } else { (waiting, *lent) };
            let (least, most) = (crowd.least, crowd.most);
            let ages = Default::default();
            Sight { least, most, lent, waiting, ages, done, statements: count, loans: count, waits }
        };
        let sights: Vec<Sight> = self.crowds.iter().zip(&lent).map(sight).collect();
        self.grants = self.limiter.look(Duration::from_millis(100), &sights, None);
        done
    }

    /// Mean of what is done in a second, over some seconds.
    fn run(&mut self, seconds: u32) -> f64 {
        (0..seconds * 10).map(|_| self.step()).sum::<f64>() / f64::from(seconds * 10)
    }
}

fn server(cores: f64, contention: f64, disturbance: f64) -> Server {
    Server { cores, contention, disturbance }
}

/// Servers that differ in how they bear it.
const SERVERS: &[Server] = &[
    Server { cores: 2.0, contention: 0.0, disturbance: 0.0 },
    Server { cores: 2.0, contention: 0.0, disturbance: 0.01 },
    Server { cores: 2.0, contention: 0.1, disturbance: 0.001 },
    Server { cores: 8.0, contention: 0.02, disturbance: 0.002 },
    Server { cores: 16.0, contention: 0.03, disturbance: 0.005 },
    Server { cores: 32.0, contention: 0.0, disturbance: 0.0 },
    Server { cores: 1000.0, contention: 0.0, disturbance: 0.0 },
    Server { cores: 1000.0, contention: 0.1, disturbance: 0.0 },
    // As where transactions wait for each other's locks: more get a little more done, for long.
    Server { cores: 1000.0, contention: 0.5, disturbance: 0.0 },
];

/// Of several seeds, the median of what a world does.
fn typical(seeds: u64, mut run: impl FnMut(u64) -> f64) -> f64 {
    let mut all: Vec<f64> = (1..=seeds).map(&mut run).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn it_comes_near_the_best_fixed_limit_on_every_server() {
    for (noise, want) in [(0.02, 0.92), (0.1, 0.9), (0.2, 0.86)] {
        for server in SERVERS {
            let ratio = typical(5, |seed| {
                let mut world = World::new(*server, &[ALONE], seed, noise);
                world.run(5);
                world.run(30) / server.best(64)
            });
            assert!(ratio > want, "{server:?}, noise {noise}: {ratio}");
        }
    }
}

#[test]
fn no_more_than_needed() {
    for (server, most) in [(server(2.0, 0.0, 0.01), 8.0), (server(8.0, 0.02, 0.002), 24.0)] {
        let level = typical(5, |seed| {
            let mut world = World::new(server, &[ALONE], seed, 0.05);
            world.run(30);
            world.limiter.level
        });
        assert!(level < most, "{server:?}: {level}");
    }
}

#[test]
fn it_follows_within_five_seconds() {
    for (before, after) in [(2.0, 32.0), (32.0, 2.0), (4.0, 16.0)] {
        let disturbed = |cores| server(cores, 0.0, 0.01);
        let ratio = typical(5, |seed| {
            let mut world = World::new(disturbed(before), &[ALONE], seed, 0.05);
            world.run(20);
            world.server = disturbed(after);
            world.run(5);
            world.run(2) / world.server.best(64)
        });
        assert!(ratio > 0.8, "from {before} to {after} cores: {ratio}");
    }
}

#[test]
fn noise_does_not_carry_it_away() {
    for server in SERVERS {
        let spread = typical(5, |seed| {
            let mut world = World::new(*server, &[ALONE], seed, 0.2);
            world.run(5);
            let levels: Vec<f64> = (0..300).map(|_| (world.step(), world.limiter.level).1).collect();
            let mean = levels.iter().sum::<f64>() / 300.0;
            // One more or less of a few is not far.
            (levels.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / 300.0).sqrt() / mean.max(6.0)
        });
        assert!(spread < 0.7, "{server:?}: {spread}");
    }
}

#[test]
fn who_asks_for_more_gets_no_more_than_the_others() {
    let crowd = |clients| Crowd { clients, least: 0, most: 64 };
    let mut world = World::new(server(16.0, 0.0, 0.005), &[crowd(500), crowd(30), crowd(2)], 7, 0.05);
    world.run(20);
    let mut sums = [0u32; 3];
    for _ in 0..100 {
        world.step();
        sums.iter_mut().zip(&world.grants).for_each(|(sum, grant)| *sum += grant);
    }
    let ratio = f64::from(sums[0]) / f64::from(sums[1]);
    assert!((0.9..1.1).contains(&ratio), "{sums:?}");
    assert!((190..=210).contains(&sums[2]), "who wants two has two: {sums:?}");
}

#[test]
fn everybody_has_a_turn() {
    let crowds = [Crowd { clients: 5, least: 0, most: 64 }; 40];
    let mut world = World::new(server(2.0, 0.0, 0.05), &crowds, 3, 0.05);
    world.run(10);
    let mut since = [0u32; 40];
    for _ in 0..200 {
        world.step();
        for (since, grant) in since.iter_mut().zip(&world.grants) {
            *since = if *grant > 0 { 0 } else { *since + 1 };
            assert!(*since <= 2 * TURNS, "{:?}", world.grants);
        }
    }
}

#[test]
fn where_nobody_waits_it_stays() {
    let crowd = Crowd { clients: 3, least: 0, most: 64 };
    let mut world = World::new(server(16.0, 0.0, 0.0), &[crowd], 5, 0.05);
    world.run(30);
    assert_eq!((world.limiter.level, world.limiter.why), (START, Why::Start));
    world.limiter.expect(20);
    world.run(1);
    assert_eq!((world.limiter.level, world.limiter.why), (20.0, Why::Hour));
}

#[test]
fn those_who_happen_to_be_away_are_not_taken_for_few() {
    let ratio = typical(5, |seed| {
        let mut world = World::new(server(12.0, 0.05, 0.005), &[ALONE], seed, 0.1);
        world.away = 0.6;
        world.run(7);
        world.run(30) / world.server.best(64)
    });
    assert!(ratio > 0.9, "{ratio}");
}

#[test]
fn what_was_found_out_stays_while_nobody_comes() {
    let mut world = World::new(server(16.0, 0.03, 0.005), &[ALONE], 3, 0.05);
    world.run(20);
    let before = world.limiter.level;
    world.crowds[0].clients = 0;
    world.run(20);
    assert_eq!(world.limiter.level, before);
}

#[test]
fn too_many_whom_nobody_keeps_waiting_become_fewer() {
    let crowd = Crowd { clients: 50, least: 0, most: 100 };
    let mut world = World::new(server(4.0, 0.0, 0.02), &[crowd], 5, 0.05);
    world.limiter.expect(100);
    world.run(20);
    assert!(world.limiter.level < 20.0, "{}", world.limiter.level);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn bounds_hold_whatever_happens(
        seed in 1u64..1_000_000,
        cores in 0.5f64..100.0,
        noise in 0.0f64..0.5,
        bound in proptest::option::of(1u32..40),
        crowds in proptest::collection::vec((0u32..200, 0u32..6, 0u32..60), 1..6),
    ) {
        let crowds: Vec<Crowd> = crowds
            .into_iter()
            .map(|(clients, least, more)| Crowd { clients, least, most: (least + more).max(1) })
            .collect();
        let mut world = World::new(server(cores, 0.01, 0.01), &crowds, seed, noise);
        for second in 0..20 {
            world.server.cores = if second % 7 == 0 { cores * 3.0 } else { cores };
            world.run(1);
            for (grant, crowd) in world.grants.iter().zip(&crowds) {
                prop_assert!(*grant >= crowd.least && *grant <= crowd.most, "{crowds:?} {:?}", world.grants);
            }
            let most: u32 = crowds.iter().map(|c| c.most).sum();
            let top = bound.map_or(most, |bound| most.min(bound));
            prop_assert!(world.limiter.level >= 1.0 && world.limiter.level <= f64::from(most.max(1)));
            let mut bounded = world.limiter.clone();
            bounded.end_round(f64::from(top.max(1)));
            prop_assert!(bounded.limit <= top.max(1));
        }
    }
}

/// What a client does, again and again: it waits for a disk and then for a processor, so long if it has them alone.
#[derive(Clone, Copy, Debug)]
struct Habit {
    pool: usize,
    disk_ms: f64,
    cpu_ms: f64,
}

#[derive(Clone, Copy, Debug)]
struct Loan {
    client: usize,
    since: f64,
    disk_ms: f64,
    cpu_ms: f64,
}

/// A server in the small: each statement of each client.
struct Detail {
    cores: f64,
    clients: Vec<Habit>,
    queues: Vec<VecDeque<usize>>,
    loans: Vec<Loan>,
    done: Vec<Done>,
    ended: Vec<u64>,
    /// Answers to each client.
    answers: Vec<u64>,
    grants: Vec<u32>,
    most: u32,
    ms: f64,
}

const STEP_MS: f64 = 1.0;

impl Detail {
    fn new(cores: f64, crowds: &[(usize, Habit)], most: u32) -> Detail {
        let clients: Vec<Habit> = crowds.iter().flat_map(|(n, habit)| vec![*habit; *n]).collect();
        let pools = clients.iter().map(|c| c.pool + 1).max().unwrap_or(1);
        let mut queues = vec![VecDeque::new(); pools];
        // In turns, as they would come.
        let mut all: Vec<usize> = (0..clients.len()).collect();
        all.sort_by_key(|i| i * 7 % clients.len().max(1));
        all.into_iter().for_each(|i| queues[clients[i].pool].push_back(i));
        Detail {
            cores,
            answers: vec![0; clients.len()],
            clients,
            queues,
            loans: Vec::new(),
            done: vec![Done::default(); pools],
            ended: vec![0; pools],
            grants: vec![4; pools],
            most,
            ms: 0.0,
        }
    }

    fn lent(&self, pool: usize) -> u32 {
        self.loans.iter().filter(|l| self.clients[l.client].pool == pool).count() as u32
    }

    /// Lends to those who wait what may be lent.
    fn lend(&mut self) {
        for pool in 0..self.queues.len() {
            let mut lent = self.lent(pool);
            while lent < self.grants[pool]
                && let Some(client) = self.queues[pool].pop_front()
            {
                let Habit { disk_ms, cpu_ms, .. } = self.clients[client];
                self.loans.push(Loan { client, since: self.ms, disk_ms, cpu_ms });
                lent += 1;
            }
        }
    }

    fn step(&mut self, standing: bool) {
        self.ms += STEP_MS;
        let running = self.loans.iter().filter(|l| l.disk_ms <= 0.0).count() as f64;
        let speed = if standing { 0.0 } else { (self.cores / running.max(1.0)).min(1.0) };
        for loan in &mut self.loans {
            if loan.disk_ms > 0.0 {
                loan.disk_ms -= if standing { 0.0 } else { STEP_MS };
            } else {
                loan.cpu_ms -= STEP_MS * speed;
            }
        }
        let over = |l: &Loan| l.disk_ms <= 0.0 && l.cpu_ms <= 1e-9;
        for loan in self.loans.extract_if(.., |l| over(l)) {
            let habit = self.clients[loan.client];
            let usual = ((habit.disk_ms + habit.cpu_ms) * 1e3) as u64;
            let done = &mut self.done[habit.pool];
            done.usual_us[class(usual)] += usual;
            done.took_us[class(usual)] += ((self.ms - loan.since) * 1e3) as u64;
            self.ended[habit.pool] += 1;
            self.answers[loan.client] += 1;
            self.queues[habit.pool].push_back(loan.client);
        }
        self.lend();
    }

    fn sights(&mut self) -> Vec<Sight> {
        let sight = |pool: usize| {
            let mut ages = [0; CLASSES];
            for loan in self.loans.iter().filter(|l| self.clients[l.client].pool == pool) {
                ages[class(((self.ms - loan.since) * 1e3) as u64)] += 1;
            }
            let (lent, waiting) = (self.lent(pool), self.queues[pool].len() as u32);
            let (done, ended) = (self.done[pool], self.ended[pool]);
            let (least, most) = (0, self.most);
            Sight { least, most, lent, waiting, ages, done, statements: ended, loans: ended, waits: ended }
        };
        let sights = (0..self.queues.len()).map(sight).collect();
        self.done.fill(Done::default());
        self.ended.fill(0);
        sights
    }

    /// Lets some seconds pass; without a limiter, the grants stay.
    fn run(&mut self, seconds: f64, limiter: &mut Option<Limiter>, standing: bool) {
        let looks = (seconds * 10.0) as usize;
        for _ in 0..looks {
            for _ in 0..(100.0 / STEP_MS) as usize {
                self.step(standing);
            }
            let sights = self.sights();
            if let Some(limiter) = limiter {
                self.grants = limiter.look(Duration::from_millis(100), &sights, None);
            }
        }
    }

    /// Answers a second to clients of one habit, after a time to settle.
    fn rates(&mut self, limiter: &mut Option<Limiter>, seconds: f64) -> Vec<f64> {
        self.run(5.0, limiter, false);
        self.answers.fill(0);
        self.run(seconds, limiter, false);
        self.answers.iter().map(|n| *n as f64 / seconds).collect()
    }
}

const READS: Habit = Habit { pool: 0, disk_ms: 0.0, cpu_ms: 2.0 };
const REPORTS: Habit = Habit { pool: 0, disk_ms: 1000.0, cpu_ms: 10.0 };

/// Answers a second to readers, and to those who want reports.
fn mixed(limiter: &mut Option<Limiter>, grant: u32, report: Habit) -> (f64, f64) {
    let mut detail = Detail::new(2.0, &[(32, READS), (4, report)], 64);
    detail.grants = vec![grant];
    let rates = detail.rates(limiter, 10.0);
    (rates[..32].iter().sum(), rates[32..].iter().sum())
}

/// The best that any fixed limit gives to readers, among those that give at least so many reports.
fn best_mixed(reports: f64) -> f64 {
    let fixed = [2, 4, 8, 16, 64].map(|grant| mixed(&mut None, grant, REPORTS));
    fixed.into_iter().filter(|(_, n)| *n >= reports).map(|(reads, _)| reads).fold(0.0, f64::max)
}

#[test]
fn reports_among_reads_are_no_overload() {
    let mut limiter = Some(Limiter::default());
    let (reads, reports) = mixed(&mut limiter, 4, REPORTS);
    assert!(reads > 0.9 * best_mixed(3.0) && reports > 3.5, "{reads} {reports}");
}

#[test]
fn reports_that_wait_for_disks_are_let_in() {
    let mut detail = Detail::new(2.0, &[(20, REPORTS)], 64);
    let mut limiter = Some(Limiter::default());
    detail.run(15.0, &mut limiter, false);
    assert!(detail.lent(0) > 15, "{}", detail.lent(0));
}

#[test]
fn a_server_that_stands_still_is_not_buried() {
    let mut detail = Detail::new(2.0, &[(200, READS)], 100);
    let mut limiter = Some(Limiter::default());
    detail.run(10.0, &mut limiter, false);
    let before = detail.lent(0);
    detail.run(2.0, &mut limiter, true);
    assert!(detail.lent(0) <= before + 25, "one more with each look: {before}, then {}", detail.lent(0));
    detail.run(3.0, &mut limiter, false);
    assert!(detail.lent(0) <= before + 10, "{}", detail.lent(0));
}

#[test]
fn reports_of_one_pool_do_not_take_the_place_of_anothers_reads() {
    let reads = Habit { pool: 1, ..READS };
    let mut detail = Detail::new(4.0, &[(30, REPORTS), (30, reads)], 64);
    let rates = detail.rates(&mut Some(Limiter::default()), 20.0);
    let (reports, reads) = (rates[..30].iter().sum::<f64>(), rates[30..].iter().sum::<f64>());
    assert!(reads > 1_500.0 && reports > 10.0, "{reads} {reports}");
}
