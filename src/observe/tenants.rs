//! Metrics by tenant, for a bounded number of tenants: those that take most time have series of their own, all others
//! share one. As with shapes, what is told only grows, and a tenant only gives its place to one that is clearly hotter.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::buckets::Buckets;
use super::metrics::{Family, Kind, Labels, Value, label};
use crate::core::limits::MAX_TENANT_SERIES;
use crate::tenant::Tenant;
use crate::tenant::registry::OTHERS;

/// What is left of a tenant's heat after a scrape.
const COOLING: f64 = 0.9;
/// How much hotter a tenant must be than one whose place it takes.
const HOTTER: f64 = 1.5;

/// See the module. One for the process.
#[derive(Debug, Default)]
pub struct TenantSeries(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By the tenant's identity: what it had done when it was last looked at.
    seen: HashMap<u32, (Sums, f64)>,
    told: HashMap<Arc<str>, (Sums, f64)>,
    others: Sums,
}

/// What a tenant has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    statements: u64,
    rows: u64,
    errors: u64,
    throttled: u64,
    throttled_us: u64,
    over_rate: u64,
    shed: u64,
    query: Buckets,
    wait: Buckets,
}

impl Sums {
    fn of(tenant: &Tenant) -> Sums {
        let did = &tenant.did;
        Sums {
            statements: did.statements.get(),
            rows: did.rows.get(),
            errors: did.errors.get(),
            throttled: did.throttled.get(),
            throttled_us: did.throttled_us.get(),
            over_rate: did.over_rate.get(),
            shed: did.shed.get(),
            query: Buckets::counted(&did.query),
            wait: Buckets::counted(&did.wait),
        }
    }

    fn add_growth(&mut self, before: &Sums, now: &Sums) {
        self.statements += now.statements.saturating_sub(before.statements);
        self.rows += now.rows.saturating_sub(before.rows);
        self.errors += now.errors.saturating_sub(before.errors);
        self.throttled += now.throttled.saturating_sub(before.throttled);
        self.throttled_us += now.throttled_us.saturating_sub(before.throttled_us);
        self.over_rate += now.over_rate.saturating_sub(before.over_rate);
        self.shed += now.shed.saturating_sub(before.shed);
        self.query.add_growth(&before.query, &now.query);
        self.wait.add_growth(&before.wait, &now.wait);
    }
}

impl TenantSeries {
    /// The metrics of all tenants, of which these are known now. None where there are no tenants.
    pub fn families(&self, tenants: &[Arc<Tenant>], is_on: bool) -> Vec<Family> {
        let mut state = self.0.lock();
        if tenants.is_empty() && state.told.is_empty() && !is_on {
            return Vec::new();
        }
        state.look(tenants);
        state.families(tenants)
    }
}

impl State {
    fn look(&mut self, tenants: &[Arc<Tenant>]) {
        let here: HashSet<u32> = tenants.iter().map(|tenant| tenant.id).collect();
        self.seen.retain(|id, _| here.contains(id));
        let mut grown = Vec::new();
        for tenant in tenants {
            let now = Sums::of(tenant);
            let (before, heat) = self.seen.entry(tenant.id).or_default();
            *heat = *heat * COOLING + (now.query.sum - before.query.sum).max(0.0);
            if now != *before {
                grown.push((tenant.name.clone(), *before, now));
                *before = now;
            }
        }
        self.choose(tenants);
        for (name, before, now) in grown {
            self.told.get_mut(&name).map_or(&mut self.others, |(sums, _)| sums).add_growth(&before, &now);
        }
    }

    /// Decides which tenants have series of their own.
    fn choose(&mut self, tenants: &[Arc<Tenant>]) {
        let mut heats: HashMap<&Arc<str>, f64> = HashMap::new();
        for tenant in tenants.iter().filter(|tenant| &*tenant.name != OTHERS) {
            heats.insert(&tenant.name, self.seen.get(&tenant.id).map_or(0.0, |(_, heat)| *heat));
        }
        for (name, (_, heat)) in &mut self.told {
            *heat = heats.remove(name).unwrap_or(*heat * COOLING);
        }
        let mut rest: Vec<_> = heats.into_iter().collect();
        rest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        for (name, heat) in rest {
            if self.told.len() >= MAX_TENANT_SERIES {
                let coolest = self.told.iter().min_by(|a, b| a.1.1.total_cmp(&b.1.1));
                let Some((coolest, _)) = coolest.filter(|(_, (_, cool))| heat > cool * HOTTER) else {
                    return;
                };
                let coolest = coolest.clone();
                self.told.remove(&coolest);
            }
            self.told.insert(name.clone(), (Sums::default(), heat));
        }
    }

    fn families(&self, tenants: &[Arc<Tenant>]) -> Vec<Family> {
        let mut families = self.gauges(tenants);
        families.extend(self.counted());
        families
    }

    /// What tenants have now. Of the others, the sum.
    fn gauges(&self, tenants: &[Arc<Tenant>]) -> Vec<Family> {
        type Read = fn(&Tenant) -> u32;
        const GAUGES: &[(&str, &str, Read)] = &[
            ("turnpike_tenant_connections", "Server connections on loan, by tenant.", Tenant::leased),
            ("turnpike_tenant_waiting", "Clients that wait for one, by tenant.", Tenant::waiting),
            (
                "turnpike_tenant_guaranteed",
                "Connections that a tenant gets before others.",
                Tenant::guaranteed,
            ),
            ("turnpike_tenant_max", "Most connections of a tenant; 0 is no bound.", Tenant::max),
        ];
        let family = |(name, help, read): &(&'static str, &'static str, Read)| {
            let (told, others): (Vec<_>, Vec<_>) =
                tenants.iter().partition(|t| self.told.contains_key(&t.name));
            let of = |name: &str, n: u64| (vec![label("tenant", name)], Value::Number(n as f64));
            let mut samples: Vec<(Labels, Value)> =
                told.iter().map(|t| of(&t.name, u64::from(read(t)))).collect();
            samples.push(of(OTHERS, others.iter().map(|t| u64::from(read(t))).sum()));
            Family::of(*name, Kind::Gauge, *help, samples)
        };
        GAUGES.iter().map(family).collect()
    }

    /// What they have done.
    fn counted(&self) -> Vec<Family> {
        let mut rows: Vec<(&str, &Sums)> =
            self.told.iter().map(|(name, (sums, _))| (&**name, sums)).collect();
        rows.sort_by_key(|(name, _)| *name);
        rows.push((OTHERS, &self.others));
        let samples = |value: &dyn Fn(&Sums) -> Value| {
            rows.iter().map(|(name, sums)| (vec![label("tenant", *name)], value(sums))).collect::<Vec<_>>()
        };
        let counter = |name: &'static str, help: &'static str, read: fn(&Sums) -> f64| {
            Family::of(name, Kind::Counter, help, samples(&|sums| Value::Number(read(sums))))
        };
        let histogram = |name: &'static str, help: &'static str, read: fn(&Sums) -> Buckets| {
            Family::of(name, Kind::Histogram, help, samples(&|sums| Value::Durations(Box::new(read(sums)))))
        };
        vec![
            counter("turnpike_tenant_statements_total", "Statements ended, by tenant.", |s| {
                s.statements as f64
            }),
            counter("turnpike_tenant_rows_total", "Rows read or written, by tenant.", |s| s.rows as f64),
            counter("turnpike_tenant_errors_total", "Statements that failed, by tenant.", |s| {
                s.errors as f64
            }),
            counter(
                "turnpike_tenant_throttled_total",
                "Statements that waited for a rate, by tenant.",
                |s| s.throttled as f64,
            ),
            counter("turnpike_tenant_throttled_seconds_total", "Time that they waited, by tenant.", |s| {
                s.throttled_us as f64 * 1e-6
            }),
            self.refused(&rows),
            histogram(
                "turnpike_tenant_query_seconds",
                "From a statement's first byte to ReadyForQuery, by tenant.",
                |s| s.query,
            ),
            histogram(
                "turnpike_tenant_wait_seconds",
                "From wanting a server connection to having it, of those who waited, by tenant.",
                |s| s.wait,
            ),
        ]
    }

    fn refused(&self, rows: &[(&str, &Sums)]) -> Family {
        let sample = |name: &str, reason: &'static str, n: u64| {
            (vec![label("tenant", name), label("reason", reason)], Value::Number(n as f64))
        };
        let samples = rows.iter().flat_map(|(name, sums)| {
            [sample(name, "rate", sums.over_rate), sample(name, "queue", sums.shed)]
        });
        let help = "Statements refused for a rate or for a limit on those who wait, by tenant.";
        Family::of("turnpike_tenant_refused_total", Kind::Counter, help, samples.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(families: &[Family], name: &str) -> f64 {
        let family = families.iter().find(|f| f.name == name).expect("a family");
        let value = |value: &Value| match value {
            Value::Number(n) => *n,
            Value::Durations(buckets) => buckets.count() as f64,
        };
        family.samples.iter().map(|(_, v)| value(v)).sum()
    }

    #[test]
    fn however_many_tenants_there_are_series_are_few_and_nothing_is_lost() {
        let series = TenantSeries::default();
        assert!(series.families(&[], false).is_empty());
        let tenants: Vec<_> =
            (1..500).map(|id| Arc::new(Tenant::new(id, &format!("t{id}"), Arc::default()))).collect();
        let mut total = 0;
        for round in 0..10u64 {
            for (i, tenant) in tenants.iter().enumerate() {
                // Others are hot in each round.
                let us = if i as u64 / 50 == round { 10_000 } else { 1 };
                tenant.ended(3, true);
                tenant.did.query.record_us(us);
                total += 1;
            }
            let families = series.families(&tenants, true);
            for family in &families {
                let most = 2 * (MAX_TENANT_SERIES + 1);
                assert!(family.samples.len() <= most, "{}: {}", family.name, family.samples.len());
            }
        }
        // A tenant that loses its place takes what was told of it along.
        let families = series.families(&tenants, true);
        assert!(sum(&families, "turnpike_tenant_statements_total") <= f64::from(total));
        assert!(sum(&families, "turnpike_tenant_query_seconds") > 0.0);
        let hot = families[0].samples.iter().filter(|(labels, _)| labels[0].1.len() == 4).count();
        assert!(hot > 0, "who is hot now has a place");
    }
}
