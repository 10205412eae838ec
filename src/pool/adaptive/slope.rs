//! How much more gets done with more at once: the elasticity of throughput over concurrency, from what differs between
//! one time and the next.
//!
//! Only differences count, each weighted by how much the limit moved in it, so that what changes by itself (the mix of
//! statements, others on the machine) does so in both directions as often, and averages out. What is old is forgotten
//! as new differences come.

/// What a difference is worth that is remembered for one more of its kind, as the square of a logarithm.
const MEMORY: f64 = 4.0;
/// What is left of it after each time in any case.
const KEPT: f64 = 0.98;
/// Weight of what is believed without having looked.
const PRIOR_WEIGHT: f64 = 0.05;
/// More cannot get less than that much done, nor more than that, and what says so is something else.
const MOST: f64 = 1.5;
/// So is a difference that is so many times what differences are otherwise, and how fast it is learned what they are.
const ODD: f64 = 3.0;
const LEARNED: f64 = 0.2;
const LEAST_SCALE: f64 = 0.01;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Slope {
    last: Option<(f64, f64)>,
    sum: f64,
    weight: f64,
    prior: f64,
    /// What differences are, as a rule.
    scale: f64,
    /// The sum of the squares of what the elasticity does not explain of them, and of how many that is.
    rest: f64,
    count: f64,
}

impl Slope {
    /// Nothing seen; believed is `prior`.
    pub fn new(prior: f64) -> Slope {
        Slope { last: None, sum: 0.0, weight: 0.0, prior, scale: 1.0, rest: 0.0, count: 0.0 }
    }

    /// With so many at once so much was done in a time.
    pub fn note(&mut self, limit: f64, done: f64) {
        if limit <= 0.0 || done <= 0.0 {
            return self.skip();
        }
        let now = (limit.ln(), done.ln());
        if let Some(last) = self.last {
            let more = now.0 - last.0;
            let weight = more * more;
            if weight <= 1e-6 {
                (self.sum, self.weight) = (self.sum * KEPT, self.weight * KEPT);
            } else {
                let odd = ODD * self.scale;
                let done = (now.1 - last.1).clamp(-odd, odd);
                self.scale = (self.scale * (1.0 - LEARNED) + done.abs() * LEARNED).max(LEAST_SCALE);
                let slope = (done / more).clamp(-MOST, MOST);
                let keep = KEPT * MEMORY / (MEMORY + weight);
                let rest = done - self.get() * more;
                self.rest = self.rest * keep + rest * rest;
                self.count = self.count * keep + 1.0;
                self.sum = self.sum * keep + slope * weight;
                self.weight = self.weight * keep + weight;
            }
        }
        self.last = Some(now);
    }

    /// What comes next is not to be compared with what was last.
    pub fn skip(&mut self) {
        self.last = None;
    }

    /// The elasticity: 1 where twice as many get twice as much done, 0 where they get no more done, less where they get
    /// in each other's way.
    pub fn get(&self) -> f64 {
        (self.sum + self.prior * PRIOR_WEIGHT) / (self.weight + PRIOR_WEIGHT)
    }

    /// Its standard error: of two neighbours that go up and down in turns, what disturbs one counts in both.
    pub fn doubt(&self) -> f64 {
        if self.count < 1.0 {
            return 0.0;
        }
        (2.0 * self.rest / self.count / (self.weight + PRIOR_WEIGHT)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found where the limit goes up and down around `limit`.
    fn found(limit: f64, rounds: u32, mut done: impl FnMut(f64, u32) -> f64) -> f64 {
        let mut slope = Slope::new(0.5);
        for round in 0..rounds {
            let at = if round % 2 == 0 { limit * 1.25 } else { limit / 1.25 };
            slope.note(at, done(at, round));
        }
        slope.get()
    }

    #[test]
    fn elasticities() {
        for want in [-0.5, 0.0, 0.3, 1.0] {
            let got = found(8.0, 30, |n, _| 100.0 * n.powf(want));
            assert!((got - want).abs() < 0.05, "{want}: {got}");
        }
        assert_eq!(Slope::new(0.5).get(), 0.5);
    }

    #[test]
    fn the_doubt_is_as_great_as_the_error() {
        for noise in [0.0, 0.05, 0.3] {
            let (mut slope, mut state) = (Slope::new(0.5), 88172645463325252u64);
            let (mut within, mut doubts, rounds) = (0, 0.0, 400);
            for round in 0..rounds {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let chance = (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
                let at = if round % 2 == 0 { 10.0 } else { 6.4f64 };
                slope.note(at, at.powf(0.3) * (noise * chance).exp());
                within += u32::from((slope.get() - 0.3).abs() < 2.0 * slope.doubt() + 0.02);
                doubts += slope.doubt() / f64::from(rounds);
            }
            assert!(within > 360, "{noise}: {within} of {rounds}");
            assert!(doubts < 0.02 + 2.0 * noise, "{noise}: {doubts}");
        }
    }

    #[test]
    fn what_changes_by_itself_is_not_taken_for_it() {
        let drifting = found(8.0, 30, |_, round| 100.0 * 1.1f64.powi(round as i32));
        assert!(drifting.abs() < 0.25, "{drifting}");
        let jumping = found(8.0, 40, |_, round| if round < 20 { 100.0 } else { 10.0 });
        assert!(jumping.abs() < 0.1, "{jumping}");
        let stopped = found(8.0, 40, |_, round| if round == 30 { 0.0 } else { 100.0 });
        assert!(stopped.abs() < 0.1, "{stopped}");
    }
}
