//! Data sets that are made up, of any size.
//!
//! Owns what they are drawn from. Knows no model.
//! Invariant: rows follow from the seed, and what there is to learn is known.

use super::rows::{Features, hashed};
use super::source::{Each, Options, Read, Reading};
use crate::error::{Error, Result};

/// The rows that a name asks for, such as `synthetic-clicks:5000000`.
pub(super) fn rows(data: &str, rows: &str, usual: u64) -> Result<u64> {
    match rows {
        "" => Ok(usual),
        rows => rows.parse().map_err(|_| {
            Error::input(format!("--data {data}: `{rows}` is no number of rows, such as {usual}"))
        }),
    }
}

struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Below 1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// Below `count`, the small ones far more often: a share of 1 / (1 + n) about.
    #[expect(clippy::cast_possible_truncation, reason = "rounded down")]
    fn zipf(&mut self, count: u64) -> u64 {
        let drawn = (count as f64).powf(self.uniform()) - 1.0;
        (drawn as u64).min(count - 1)
    }
}

fn mix(mut mixed: u64) -> u64 {
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A number around 0 that a thing has by its name.
fn weight(seed: u64, field: u64, token: u64) -> f64 {
    let mut draws = Draws(mix(seed ^ mix(field << 40 ^ token)));
    draws.normal()
}

/// Clicks like Criteo's: 39 categories a row, some frequent and most rare; one in four is a click, by a
/// logistic model of all of them.
pub(super) fn clicks(rows: u64, options: &Options, each: &mut Each<'_>) -> Result<Read> {
    let mut reading = Reading::new(options);
    let mut draws = Draws(options.seed);
    let mut features: Features = Vec::new();
    for row in 0..rows {
        features.clear();
        let mut score = -1.5;
        for field in 0..39_u32 {
            // From 2 values to a million.
            let values = 2_u64 << (field / 2);
            let token = draws.zipf(values);
            score += 0.25 * weight(options.seed, field.into(), token);
            features.push((hashed(field, &token.to_le_bytes(), options.bits), 1.0));
        }
        let is_click = draws.uniform() < 1.0 / (1.0 + (-score).exp());
        let label = if is_click { 1.0 } else { 0.0 };
        reading.row(|| format!("row {row}"), Ok(label), &features, each)?;
    }
    Ok(reading.done(1 << options.bits, 0))
}

/// Ratings from 1 to 5 of a user for each hundred and an item for each two hundred: biases, eight factors, and
/// noise of 0.5.
#[expect(clippy::cast_possible_truncation, reason = "a rating has one decimal")]
pub(super) fn ratings(rows: u64, options: &Options, each: &mut Each<'_>) -> Result<Read> {
    let (users, items) = ((rows / 100).max(2), (rows / 200).max(2));
    let mut reading = Reading::new(options);
    let mut draws = Draws(options.seed);
    let bound = |count: u64| {
        u32::try_from(count).map_err(|_| Error::input(format!("{rows} rows have too many users")))
    };
    let (user_count, item_count) = (bound(users)?, bound(items)?);
    for row in 0..rows {
        let (user, item) = (draws.next() % users, draws.zipf(items));
        let of = |field: u64, token: u64| weight(options.seed, field, token);
        let product: f64 = (0..8).map(|k| of(2 + k, user) * of(10 + k, item)).sum();
        let rating =
            3.5 + 0.4 * of(0, user) + 0.4 * of(1, item) + 0.25 * product + 0.5 * draws.normal();
        let rating = (rating.clamp(1.0, 5.0) * 2.0).round() / 2.0;
        let features = [(bound(user)?, 1.0), (user_count + bound(item)?, 1.0)];
        reading.row(|| format!("row {row}"), Ok(rating as f32), &features, each)?;
    }
    Ok(reading.done(user_count + item_count, user_count))
}

/// Documents of 100 words each, of one to three of 20 topics, each of which has 100 words that are its own.
#[expect(clippy::cast_possible_truncation, reason = "words are below 2000, topics three")]
pub(super) fn topics(rows: u64, options: &Options, each: &mut Each<'_>) -> Result<Read> {
    let mut reading = Reading::new(options);
    let mut draws = Draws(options.seed);
    for row in 0..rows {
        let count = 1 + draws.next() % 3;
        let topics: Vec<u64> = (0..count).map(|_| draws.next() % 20).collect();
        let mut words: Vec<u32> = Vec::new();
        for _ in 0..100 {
            let topic = topics[(draws.next() % count) as usize];
            words.push((topic * 100 + draws.zipf(100)) as u32);
        }
        words.sort_unstable();
        let counted = words.chunk_by(|a, b| a == b);
        let features: Features = counted.map(|same| (same[0], same.len() as f32)).collect();
        reading.row(|| format!("row {row}"), Ok(0.0), &features, each)?;
    }
    Ok(reading.done(2000, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::source::Side;

    #[test]
    fn made_up_rows_follow_from_the_seed_and_are_what_they_are_said_to_be() {
        let options = |seed: u64| Options {
            format: None,
            bits: 18,
            counts: true,
            seed,
            held_out: 0.2,
            bad_rows_max: 0,
            names: None,
        };
        type Made = fn(u64, &Options, &mut Each<'_>) -> Result<Read>;
        for (made, mean, features) in [
            (clicks as Made, 0.25, 1 << 18),
            (ratings as Made, 3.5, 300),
            (topics as Made, 0.0, 2000),
        ] {
            let all = |seed: u64| {
                let mut rows = Vec::new();
                let read = made(20_000, &options(seed), &mut |side, label, features| {
                    rows.push((side, label, features.to_vec()));
                    Ok(())
                });
                (read.unwrap(), rows)
            };
            let (read, rows) = all(1);
            assert!(all(1).1 == rows && all(2).1 != rows);
            assert_eq!(read.features, features);
            assert!(rows.iter().flat_map(|row| &row.2).all(|feature| feature.0 < features));
            let found = rows.iter().map(|row| f64::from(row.1)).sum::<f64>() / 20_000.0;
            assert!((found - mean).abs() < 0.12, "{found} {mean}");
            let held_out = rows.iter().filter(|row| row.0 == Side::Test).count();
            assert!((3_700..4_300).contains(&held_out), "{held_out}");
        }
    }
}
