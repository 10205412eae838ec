//! The queue against a naive one, and what it promises.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;

fn tenant(id: u32, weight: u32, guaranteed: u32, max: u32) -> Arc<Tenant> {
    let tenant = Arc::new(Tenant::new(id, &format!("t{id}"), Arc::new(Notify::new())));
    tenant.set_share(weight, guaranteed, max);
    tenant
}

fn at(us: u64) -> Instant {
    start() + Duration::from_micros(us)
}

fn start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn comer(client: u64, tenant: Option<&Arc<Tenant>>, priority: Priority) -> Comer {
    Comer { client, tenant: tenant.cloned(), priority, since: start() }
}

fn interactive(queue: &mut Queue<u64>, client: u64, tenant: &Arc<Tenant>) {
    queue.push(comer(client, Some(tenant), Priority::Interactive), client);
}

/// Has connections serve a queue that never empties; tells what each tenant got of their time.
fn serve(
    tenants: &[Arc<Tenant>],
    took: impl Fn(u32, u64) -> u64,
    connections: usize,
    until: u64,
) -> Vec<u64> {
    let (mut queue, mut client) = (Queue::default(), 0);
    for tenant in tenants {
        for _ in 0..connections + 2 {
            client += 1;
            interactive(&mut queue, client, tenant);
        }
    }
    let mut got = vec![0; tenants.len()];
    let mut busy = BinaryHeap::new();
    let mut holds = HashMap::new();
    let mut now = 0;
    loop {
        while busy.len() < connections
            && let Some((served, Some(hold))) = queue.take(1, at(now), |_| true)
        {
            let (id, tenant) = (hold.tenant.id, hold.tenant.clone());
            busy.push(Reverse((now + took(id, served), served)));
            holds.insert(served, (hold, now));
            client += 1;
            interactive(&mut queue, client, &tenant);
        }
        let Some(Reverse((ends, served))) = busy.pop() else { return got };
        now = ends;
        if now >= until {
            return got;
        }
        let Some((hold, began)) = holds.remove(&served) else { return got };
        got[hold.tenant.id as usize - 1] += now - began;
        queue.charge(hold, at(now));
    }
}

#[test]
fn time_is_shared_by_weight_whatever_a_lease_takes() {
    let tenants = [tenant(1, 100, 0, 0), tenant(2, 100, 0, 0), tenant(3, 300, 0, 0)];
    // The first takes fifty times as long as the others with each lease.
    let got = serve(&tenants, |id, _| if id == 1 { 5_000 } else { 100 }, 4, 10_000_000);
    let shares: Vec<f64> = got.iter().zip([1.0, 1.0, 3.0]).map(|(us, weight)| *us as f64 / weight).collect();
    for share in &shares {
        assert!((share / shares[0] - 1.0).abs() < 0.02, "{got:?}");
    }
}

#[test]
fn who_was_away_saves_nothing_up_and_waits_behind_nobody() {
    let (busy, late) = (tenant(1, 100, 0, 0), tenant(2, 100, 0, 0));
    let mut queue = Queue::default();
    for client in 0..500 {
        interactive(&mut queue, client, &busy);
    }
    let mut now = 0;
    for _ in 0..100 {
        let (_, hold) = queue.take(1, at(now), |_| true).unwrap();
        now += 1_000;
        queue.charge(hold.unwrap(), at(now));
    }
    for client in 1_000..1_050 {
        interactive(&mut queue, client, &late);
    }
    let next: Vec<u64> = (0..20)
        .map(|_| {
            let (client, hold) = queue.take(1, at(now), |_| true).unwrap();
            now += 1_000;
            queue.charge(hold.unwrap(), at(now));
            client
        })
        .collect();
    let of_late = next.iter().filter(|client| **client >= 1_000).count();
    assert!((9..=11).contains(&of_late), "{next:?}");
    assert!(next[..2].iter().any(|client| *client >= 1_000), "{next:?}");
}

#[test]
fn who_has_time_waits_but_not_for_ever() {
    let mut queue = Queue::default();
    for client in 0..40 {
        let priority = if client < 20 { Priority::Batch } else { Priority::Interactive };
        queue.push(comer(client, None, priority), client);
    }
    let mut served = Vec::new();
    while let Some((client, _)) = queue.take(1, start(), |_| true) {
        served.push(client);
    }
    let batch: Vec<usize> = served.iter().enumerate().filter(|(_, c)| **c < 20).map(|(i, _)| i).collect();
    assert_eq!(batch[..2], [7, 15]);
    assert_eq!(served.len(), 40);
    // Within a priority, first come, first served.
    assert!(served.iter().filter(|c| **c >= 20).is_sorted());
    assert!(served.iter().filter(|c| **c < 20).is_sorted());
}

#[test]
fn who_is_owed_goes_first_and_who_has_its_most_stands_aside() {
    let (plain, owed, full) = (tenant(1, 100, 0, 0), tenant(2, 1, 2, 0), tenant(3, 100, 0, 1));
    let mut queue = Queue::default();
    let _has = full.hold(start(), 0).unwrap();
    for client in 0..5 {
        interactive(&mut queue, 100 + client, &plain);
        interactive(&mut queue, 200 + client, &owed);
        interactive(&mut queue, 300 + client, &full);
    }
    assert_eq!((queue.len(), queue.ready()), (15, 10));
    let mut holds = Vec::new();
    let mut next = |queue: &mut Queue<u64>| {
        let (client, hold) = queue.take(1, start(), |_| true)?;
        holds.push(hold);
        Some(client / 100)
    };
    let order: Vec<u64> = std::iter::from_fn(|| next(&mut queue)).collect();
    assert_eq!(order[..2], [2, 2], "{order:?}");
    assert_eq!(order[2..7], [1, 1, 1, 1, 1], "of little weight: {order:?}");
    assert_eq!(order[7..], [2, 2, 2]);
    assert_eq!((queue.len(), queue.ready()), (5, 0));
    drop(_has);
    assert!(queue.sweep(start(), Duration::MAX).is_empty());
    assert_eq!(queue.ready(), 5);
    assert!(queue.take(1, start(), |_| true).is_some());
}

#[test]
fn who_suits_may_pass_those_for_whom_connections_are_being_opened() {
    let (a, b) = (tenant(1, 100, 0, 0), tenant(2, 100, 0, 0));
    let mut queue = Queue::default();
    for client in 0..4 {
        interactive(&mut queue, client, if client % 2 == 0 { &a } else { &b });
    }
    assert!(queue.take(3, start(), |client| *client == 3).is_none());
    assert_eq!(queue.nth(3), Some(&3));
    assert_eq!(queue.take(4, start(), |client| *client == 3).map(|(client, _)| client), Some(3));
    assert_eq!(queue.nth(3), None);
}

#[test]
fn what_was_had_is_forgotten_after_a_while() {
    let tenant = tenant(1, 100, 0, 0);
    let mut queue = Queue::default();
    interactive(&mut queue, 1, &tenant);
    let (_, hold) = queue.take(1, start(), |_| true).unwrap();
    queue.charge(hold.unwrap(), at(1_000_000));
    assert!(queue.sweep(at(1_000_000), Duration::MAX).is_empty());
    assert_eq!(queue.flows.len(), 1);
    assert!(queue.sweep(at(3_000_000), Duration::MAX).is_empty());
    assert!(queue.flows.is_empty() && queue.order.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Push { client: u64, tenant: usize, batch: bool },
    Withdraw(u64),
    Take { near: usize, odd: bool },
    Return(usize),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..60u64, 0..5usize, any::<bool>())
            .prop_map(|(client, tenant, batch)| Step::Push { client, tenant, batch }),
        1 => (0..60u64).prop_map(Step::Withdraw),
        4 => (1..6usize, any::<bool>()).prop_map(|(near, odd)| Step::Take { near, odd }),
        3 => (0..8usize).prop_map(Step::Return),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Nobody is lost or served twice; within a tenant and a priority nobody is passed but by who fits; whoever may be
    /// served is.
    #[test]
    fn behaves_like_a_naive_queue(steps in steps()) {
        let tenants = [tenant(1, 100, 0, 0), tenant(2, 50, 2, 0), tenant(3, 500, 0, 2), tenant(4, 100, 1, 3)];
        let mut queue: Queue<u64> = Queue::default();
        let mut naive: Vec<(u64, usize, bool)> = Vec::new();
        let (mut holds, mut now) = (Vec::new(), 0);
        for step in steps {
            now += 10;
            match step {
                Step::Push { client, tenant, batch } => {
                    let priority = if batch { Priority::Batch } else { Priority::Interactive };
                    let whose = tenant.checked_sub(1).map(|i| &tenants[i]);
                    queue.push(comer(client, whose, priority), client);
                    naive.retain(|(c, ..)| *c != client);
                    naive.push((client, tenant, batch));
                }
                Step::Withdraw(client) => {
                    let known = naive.iter().position(|(c, ..)| *c == client);
                    prop_assert_eq!(queue.withdraw(client).is_some(), known.is_some());
                    known.map(|i| naive.remove(i));
                }
                Step::Take { near, odd } => {
                    let fits = |client: &u64| !odd || client % 2 == 1;
                    let ready = naive.iter().filter(|(_, t, _)| t.checked_sub(1).is_none_or(|i| tenants[i].room() > 0));
                    let ready = ready.count();
                    match queue.take(near, at(now), fits) {
                        None => prop_assert!(odd || ready == 0),
                        Some((client, hold)) => {
                            prop_assert!(fits(&client));
                            let i = naive.iter().position(|(c, ..)| *c == client);
                            prop_assert!(i.is_some(), "{} was served twice", client);
                            let (_, tenant, batch) = naive.remove(i.unwrap_or(0));
                            let passed = naive[..i.unwrap_or(0)].iter();
                            prop_assert!(passed.filter(|(c, t, b)| (*t, *b) == (tenant, batch) && fits(c)).count() == 0);
                            prop_assert_eq!(hold.is_some(), tenant > 0);
                            holds.extend(hold);
                        }
                    }
                }
                Step::Return(i) if !holds.is_empty() => {
                    let hold = holds.swap_remove(i % holds.len());
                    queue.charge(hold, at(now));
                }
                Step::Return(_) => {}
                Step::Sweep => prop_assert!(queue.sweep(at(now), Duration::MAX).is_empty()),
            }
            prop_assert_eq!(queue.len(), naive.len());
            for (tenant, max) in tenants.iter().zip([u32::MAX, u32::MAX, 2, 3]) {
                prop_assert!(tenant.leased() <= max);
            }
            let ordered: usize = queue.order.iter().map(|(_, id)| queue.flows[id].len()).sum();
            prop_assert_eq!(queue.ready(), ordered);
        }
        drop(holds);
        queue.sweep(at(now), Duration::MAX);
        let mut served = Vec::new();
        while let Some((client, hold)) = queue.take(1, at(now), |_| true) {
            served.push(client);
            if let Some(hold) = hold {
                queue.charge(hold, at(now));
            }
        }
        served.sort_unstable();
        let mut left: Vec<u64> = naive.iter().map(|(c, ..)| *c).collect();
        left.sort_unstable();
        prop_assert_eq!(served, left);
    }
}

#[test]
fn a_guarantee_that_is_given_later_counts_for_who_waits_already() {
    let (many, vip) = (tenant(1, 100, 0, 0), tenant(2, 1, 0, 0));
    let mut queue = Queue::default();
    (1..=4).for_each(|client| interactive(&mut queue, client, &many));
    (11..=14).for_each(|client| interactive(&mut queue, client, &vip));
    vip.set_share(1, 2, 0);
    assert!(queue.sweep(start(), Duration::MAX).is_empty());
    assert!(queue.is_owed());
    let served = |queue: &mut Queue<u64>| queue.take(1, start(), |_| true).unwrap();
    let (first, second) = (served(&mut queue), served(&mut queue));
    assert_eq!((first.0, second.0), (11, 12));
    // And what is taken back is not owed any more.
    vip.set_share(1, 0, 0);
    drop((first, second));
    assert!(queue.sweep(start(), Duration::MAX).is_empty());
    assert!(!queue.is_owed());
    assert_eq!(served(&mut queue).0, 1);
}

/// However many others have what is guaranteed to them and wait for more, and however long its last turn was.
#[test]
fn who_is_owed_is_found_among_many_who_are_not() {
    let many: Vec<_> = (1..=200).map(|id| tenant(id, 100, 1, 0)).collect();
    let (mut queue, late) = (Queue::default(), tenant(201, 100, 1, 0));
    interactive(&mut queue, 0, &late);
    let (_, long) = queue.take(1, at(0), |_| true).unwrap();
    let mut holds: Vec<_> = many.iter().map(|tenant| tenant.hold(at(0), 0).unwrap()).collect();
    for (client, tenant) in (1..).zip(&many) {
        interactive(&mut queue, client, tenant);
    }
    interactive(&mut queue, 1000, &late);
    assert!(!queue.is_owed(), "all have theirs");
    queue.charge(long.unwrap(), at(60_000_000));
    assert!(queue.is_owed());
    assert_eq!(queue.take(1, at(60_000_000), |_| true).unwrap().0, 1000);
    assert!(!queue.is_owed());
    // What ends in another pool is noticed, too.
    drop(holds.remove(150));
    queue.sweep(at(60_000_000), Duration::from_secs(600));
    assert!(queue.is_owed());
    assert_eq!(queue.take(1, at(60_000_000), |_| true).unwrap().0, 151);
}
