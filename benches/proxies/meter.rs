//! What a proxy spends over time, so that any part of a run can be weighed by itself.

use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;

use crate::Failure;
use crate::targets::Target;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(10);

/// Processor time of a proxy by the time of day, as far as somebody has looked.
#[derive(Debug, Default)]
pub struct Meter {
    /// Microseconds since 1970, and microseconds of processor time by then.
    looks: Vec<(f64, f64)>,
}

impl Meter {
    /// Does something, and looks at what the target spends meanwhile. Nothing is seen of one that is no proxy.
    pub async fn beside<T>(target: &Target, work: impl Future<Output = T>) -> Result<(T, Meter), Failure> {
        let mut meter = Meter::default();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    meter.look(target)?;
                    return Ok((done, meter));
                }
                _ = ticks.tick() => meter.look(target)?,
            }
        }
    }

    fn look(&mut self, target: &Target) -> Result<(), Failure> {
        if let Some(cpu) = target.cpu()? {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
            self.looks.push((micros(now), micros(cpu)));
        }
        Ok(())
    }

    /// Microseconds of processor time from one time of day to another, in microseconds since 1970.
    pub fn spent(&self, from: f64, until: f64) -> Option<f64> {
        Some(self.by(until)? - self.by(from)?)
    }

    /// What had been spent by a time of day: between two looks, in proportion.
    fn by(&self, time: f64) -> Option<f64> {
        let after = self.looks.partition_point(|look| look.0 < time);
        let (from, to) = (self.looks.get(after.checked_sub(1)?)?, self.looks.get(after)?);
        Some(from.1 + (to.1 - from.1) * (time - from.0) / (to.0 - from.0))
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
