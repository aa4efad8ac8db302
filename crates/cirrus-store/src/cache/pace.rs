//! How far ahead to fetch so that a reader does not wait and memory stays small.
//!
//! Owns what was measured of the source and of the reader. Knows neither objects nor a clock: it is
//! told what time it is. Invariant: what is wanted never exceeds the budget, nor falls below 64 KiB.
//!
//! A reader that takes `rate` bytes a second from a source of that latency needs their product on
//! its way. Wanted is twice that, with the latency taken as its mean and four deviations, as a
//! sender of TCP does for its timeout (Jacobson 1988, "Congestion avoidance and control"), and two
//! objects; it is approached in steps of an eighth, or of an object. A reader that waited has shown that it can take more than it was given: what is wanted
//! doubles, and halves again if nothing came of that, since then it is the source that is slow.

use std::time::Duration;

use tokio::time::Instant;

/// Wanted before anything was measured.
const START_BYTES: u64 = 1 << 20;

/// Wanted at least: with less, small objects could not share requests.
const LEAST_BYTES: u64 = 64 << 10;

/// The part of a round that a reader may wait without getting more: one in so many.
const WAITED_PART: u32 = 100;

/// Rounds after a doubling in vain before the next.
const HOLD_ROUNDS: u32 = 16;

/// Guesses may always come so late: a fetch takes longer than that, and varies by more.
const LATE_MIN: Duration = Duration::from_micros(10);

/// What is measured within less than this says little.
const ROUND_MIN: Duration = Duration::from_millis(1);

/// Decides how many bytes should be ahead of a reader.
#[derive(Debug)]
pub(crate) struct Pace {
    budget: u64,
    wanted: u64,
    /// The most that one get brought.
    object_bytes: u64,
    latency: Option<Latency>,
    round: Round,
    /// Bytes a second that the reader takes.
    rate: Option<f64>,
    /// Bytes that it may read before that is told.
    untold: u64,
    /// The last doubling, while it is not known what came of it.
    trial: Option<Trial>,
    /// Rounds before the next one.
    hold_rounds: u32,
}

/// In seconds.
#[derive(Debug, Clone, Copy)]
struct Latency {
    mean: f64,
    deviation: f64,
}

/// What happened since the last decision.
#[derive(Debug, Default)]
struct Round {
    began: Option<Instant>,
    read_bytes: u64,
    waited: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    wanted_before: u64,
    rate_before: f64,
}

impl Pace {
    /// For a reader with `budget` bytes ahead at most.
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            budget,
            wanted: START_BYTES.min(budget),
            object_bytes: 0,
            latency: None,
            round: Round::default(),
            rate: None,
            untold: 0,
            trial: None,
            hold_rounds: 0,
        }
    }

    /// A get took `latency` and brought `bytes`.
    pub(crate) fn landed(&mut self, latency: Duration, bytes: u64) {
        self.object_bytes = self.object_bytes.max(bytes);
        let sample = latency.as_secs_f64();
        self.latency = Some(match self.latency {
            None => Latency { mean: sample, deviation: sample / 2.0 },
            Some(Latency { mean, deviation }) => Latency {
                mean: mean + (sample - mean) / 8.0,
                deviation: deviation + ((sample - mean).abs() - deviation) / 4.0,
            },
        });
    }

    /// The reader is done with `bytes` more, for which it `waited` so long, and it is `now`.
    pub(crate) fn read(&mut self, bytes: u64, waited: Duration, now: Instant) {
        self.round.read_bytes += bytes;
        self.round.waited += waited;
        let began = *self.round.began.get_or_insert(now);
        let elapsed = now.duration_since(began);
        let latency = self.latency.map_or(0.0, |latency| latency.mean);
        // Long enough for what was decided last to have come, and some of what came after it.
        let long_enough = Duration::from_secs_f64(2.0 * latency).max(ROUND_MIN);
        if elapsed >= long_enough && self.round.read_bytes > 0 {
            let rate = self.round.read_bytes as f64 / elapsed.as_secs_f64();
            self.decide(rate, self.round.waited * WAITED_PART > elapsed);
            self.round = Round { began: Some(now), ..Round::default() };
        }
    }

    /// How many bytes should be ahead: here or on their way.
    pub(crate) fn wanted(&self) -> u64 {
        let objects = self.object_bytes.saturating_mul(2);
        self.wanted.saturating_add(objects).max(LEAST_BYTES).min(self.budget)
    }

    /// How many bytes of what is held the reader may read before that is told here and to what guesses:
    /// so many that they are told at most a 16th of the latency late, or 10 µs. As long as it
    /// reads no slower than before: one that turns slow is late once.
    pub(crate) fn untold(&self) -> u64 {
        self.untold
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    fn decide(&mut self, rate: f64, was_starved: bool) {
        let mean = self.rate.map_or(rate, |mean| mean + (rate - mean) / 4.0);
        self.rate = Some(mean);
        let latency = self.latency.map_or(0.0, |latency| latency.mean);
        let late = (latency / 16.0).max(LATE_MIN.as_secs_f64());
        self.untold = (rate.min(mean) * late) as u64;
        match (was_starved, self.trial.take()) {
            (true, Some(trial)) if rate < trial.rate_before * 1.1 => {
                self.wanted = trial.wanted_before;
                self.hold_rounds = HOLD_ROUNDS;
            }
            (true, _) if self.hold_rounds == 0 && self.wanted < self.budget => {
                self.trial = Some(Trial { wanted_before: self.wanted, rate_before: rate });
                self.wanted = self.wanted.max(1).saturating_mul(2).min(self.budget);
            }
            (true, _) => self.hold_rounds = self.hold_rounds.saturating_sub(1),
            (false, _) => {
                self.hold_rounds = self.hold_rounds.saturating_sub(1);
                let step = (self.wanted / 8).max(self.object_bytes);
                let most = self.wanted.saturating_add(step).min(self.budget);
                self.wanted = self.needed(mean).clamp(self.wanted.saturating_sub(step), most);
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    fn needed(&self, rate: f64) -> u64 {
        let latency = self.latency.map_or(0.0, |latency| latency.mean + 4.0 * latency.deviation);
        (2.0 * rate * latency) as u64
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "numbers of bytes")]

    use super::*;

    const KIB: u64 = 1024;

    /// A pace, and what time it is for it.
    struct Run {
        pace: Pace,
        now: Instant,
    }

    impl Run {
        fn new(budget: u64) -> Self {
            Self { pace: Pace::new(budget), now: Instant::now() }
        }

        fn wanted(&self) -> u64 {
            self.pace.wanted()
        }

        /// A reader of `rate` bytes a second that waits where less than a latency's worth is ahead;
        /// the source has `source` bytes a second. In how many rounds it waited.
        fn read(&mut self, rounds: u32, latency: Duration, rate: u64, source: u64) -> u64 {
            let mut waits = 0;
            for _ in 0..rounds {
                self.pace.landed(latency, 64 * KIB);
                let limit = (self.wanted() as f64 / latency.as_secs_f64()) as u64;
                let got = rate.min(limit).min(source);
                let elapsed = 4 * latency;
                self.now += elapsed;
                let waited = elapsed - elapsed.mul_f64(got as f64 / rate as f64);
                waits += u64::from(got < rate);
                self.pace.read((got as f64 * elapsed.as_secs_f64()) as u64, waited, self.now);
            }
            waits
        }
    }

    #[test]
    fn it_settles_at_twice_what_is_on_its_way() {
        for (latency, rate) in [(1, 400_000_000u64), (20, 400_000_000), (20, 10_000_000)] {
            let latency = Duration::from_millis(latency);
            let mut run = Run::new(64 << 20);
            run.read(60, latency, rate, u64::MAX);
            let waits = run.read(100, latency, rate, u64::MAX);
            let product = rate as f64 * latency.as_secs_f64();
            let wanted = (run.wanted() - 128 * KIB) as f64 / product;
            assert!(waits == 0 && (1.9..2.2).contains(&wanted), "{waits} waits, {wanted}");
        }
    }

    #[test]
    fn what_is_not_told_is_read_within_a_part_of_the_latency() {
        for (latency, late) in [(20_000, 1250.0), (100, 10.0)] {
            let latency = Duration::from_micros(latency);
            let mut run = Run::new(64 << 20);
            assert_eq!(run.pace.untold(), 0);
            run.read(100, latency, 400_000_000, u64::MAX);
            let untold = run.pace.untold() as f64 / 400.0;
            assert!((0.9 * late..1.01 * late).contains(&untold), "{latency:?}: {untold} us");
            // One that turns slow is told at once from the second decision on.
            run.read(6, latency, 100_000, u64::MAX);
            assert!(run.pace.untold() < 200, "{}", run.pace.untold());
        }
    }

    #[test]
    fn a_slow_source_is_not_asked_for_ever_more() {
        let mut run = Run::new(1 << 30);
        let latency = Duration::from_millis(1);
        run.read(1000, latency, 1_000_000_000, 50_000_000);
        assert!(run.wanted() <= (4 << 20) + 128 * KIB, "{}", run.wanted());
    }

    #[test]
    fn it_follows_a_latency_that_rises_and_falls() {
        let mut run = Run::new(64 << 20);
        let (near, far) = (Duration::from_millis(1), Duration::from_millis(20));
        run.read(100, near, 100_000_000, u64::MAX);
        assert!(run.wanted() < KIB * KIB / 2, "{}", run.wanted());
        run.read(100, far, 100_000_000, u64::MAX);
        assert_eq!(run.read(100, far, 100_000_000, u64::MAX), 0);
        assert!(run.wanted() > 4_000_000, "{}", run.wanted());
        run.read(200, near, 100_000_000, u64::MAX);
        assert!(run.wanted() < KIB * KIB / 2, "{}", run.wanted());
    }

    #[test]
    fn the_budget_is_the_most_and_two_objects_the_least() {
        let mut run = Run::new(300 * KIB);
        let latency = Duration::from_millis(20);
        run.read(100, latency, 1_000_000_000, u64::MAX);
        assert_eq!(run.wanted(), 300 * KIB);
        run.read(300, latency, 1000, u64::MAX);
        assert!((128 * KIB..132 * KIB).contains(&run.wanted()), "{}", run.wanted());
        assert_eq!(Pace::new(0).wanted(), 0);
        // Of small objects more than two.
        let mut pace = Pace::new(300 * KIB);
        let now = Instant::now();
        for round in 0..300 {
            pace.landed(Duration::ZERO, 1000);
            pace.read(1000, Duration::ZERO, now + Duration::from_millis(5 * round));
        }
        assert_eq!(pace.wanted(), 64 * KIB);
    }
}
