//! The synthetic data set: taxi trips of eight months, and the zones that they begin in.
//!
//! Owns what a trip is and where its file lies. Knows nothing of nodes: any object store will do.
//! Invariant: a trip follows from its number and the number of rows, so tests compute from the same
//! trips what a query has to answer.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray, TimestampMillisecondArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::buffered::BufWriter;
use datafusion::object_store::path::Path;
use datafusion::parquet::arrow::AsyncArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;

use crate::Result;

/// Where the trips lie: a folder of `month=2026-01/trips.parquet` and so on.
pub(crate) const TRIPS: &str = "synthetic/trips";

/// Where the zones lie.
pub(crate) const ZONES: &str = "synthetic/zones";

/// Days of the months, each of which is a file.
const DAYS: [i64; 8] = [31, 28, 31, 30, 31, 30, 31, 31];

const DAY_MS: i64 = 24 * HOUR_MS;
const HOUR_MS: i64 = 3_600_000;

/// 2026-01-01 in UTC.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// Few, so that a query which wants a week reads a few of them.
const ROW_GROUP_ROWS: usize = 16_384;

const ZONE_COUNT: i32 = 260;
/// What people like moves by so many zones a month.
const ZONE_SHIFT: i32 = 33;
const BOROUGHS: [&str; 5] = ["Centre", "East", "North", "South", "West"];
const PAYMENTS: [&str; 4] = ["card", "card", "app", "cash"];

/// A row of the table `trips`, but for its month, which is in the file's path.
#[derive(Debug, Clone)]
pub(crate) struct Trip {
    pub(crate) pickup_ms: i64,
    pub(crate) zone: i32,
    pub(crate) to_zone: i32,
    pub(crate) passengers: i32,
    pub(crate) metres: i32,
    pub(crate) fare_cents: i32,
    pub(crate) tip_cents: i32,
    pub(crate) payment: &'static str,
}

/// The trips of one month, in the order of their times.
#[derive(Debug, Clone)]
pub(crate) struct Month {
    /// As in `2026-01`.
    pub(crate) name: String,
    /// How far the zones that most trips begin in have moved by then.
    shift: i32,
    begin_ms: i64,
    len_ms: i64,
    rows: Range<u64>,
}

/// The months of a data set of so many rows.
pub(crate) fn months(rows: u64) -> Vec<Month> {
    let mut months: Vec<Month> = Vec::with_capacity(DAYS.len());
    let share = |month: usize| rows * month as u64 / DAYS.len() as u64;
    let (mut begin_ms, mut shift) = (BEGIN_MS, 0);
    for (at, days) in DAYS.into_iter().enumerate() {
        let (name, len_ms) = (format!("2026-{:02}", at + 1), days * DAY_MS);
        months.push(Month { name, shift, begin_ms, len_ms, rows: share(at)..share(at + 1) });
        begin_ms += len_ms;
        shift += ZONE_SHIFT;
    }
    months
}

/// The borough of a zone.
pub(crate) fn borough(zone: i32) -> &'static str {
    BOROUGHS[zone.unsigned_abs() as usize % BOROUGHS.len()]
}

/// Writes both tables, one file after the other, over what lies there, and returns how many bytes
/// they have.
pub(crate) async fn write(store: &Arc<dyn ObjectStore>, rows: u64) -> Result<u64> {
    let zones: Vec<i32> = (1..=ZONE_COUNT).collect();
    let boroughs = StringArray::from_iter_values(zones.iter().map(|zone| borough(*zone)));
    let columns = [
        ("zone", Arc::new(Int32Array::from(zones)) as ArrayRef),
        ("borough", Arc::new(boroughs) as ArrayRef),
    ];
    let zones = RecordBatch::try_from_iter(columns)?;
    let mut bytes = write_file(store, &format!("{ZONES}/zones.parquet"), [zones]).await?;
    for month in months(rows) {
        let path = format!("{TRIPS}/month={}/trips.parquet", month.name);
        let groups = month.rows.clone().step_by(ROW_GROUP_ROWS).map(|first| {
            let end = month.rows.end.min(first + ROW_GROUP_ROWS as u64);
            batch(&(first..end).map(|row| month.trip(row)).collect::<Vec<_>>())
        });
        bytes += write_file(store, &path, groups).await?;
    }
    Ok(bytes)
}

async fn write_file(
    store: &Arc<dyn ObjectStore>,
    path: &str,
    batches: impl IntoIterator<Item = RecordBatch>,
) -> Result<u64> {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_compression(Compression::SNAPPY)
        .build();
    let mut batches = batches.into_iter().peekable();
    let schema = batches.peek().ok_or("a file without rows")?.schema();
    let object = BufWriter::new(store.clone(), Path::from(path));
    let mut writer = AsyncArrowWriter::try_new(object, schema, Some(properties))?;
    for batch in batches {
        writer.write(&batch).await?;
    }
    // Not `close`: the size is known once the footer is written.
    writer.finish().await?;
    Ok(writer.bytes_written() as u64)
}

fn batch(trips: &[Trip]) -> RecordBatch {
    let int = |of: fn(&Trip) -> i32| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(trips.iter().map(of)))
    };
    let pickups = trips.iter().map(|trip| trip.pickup_ms);
    let payments = trips.iter().map(|trip| trip.payment);
    let columns = [
        ("pickup", Arc::new(TimestampMillisecondArray::from_iter_values(pickups)) as ArrayRef),
        ("zone", int(|trip| trip.zone)),
        ("to_zone", int(|trip| trip.to_zone)),
        ("passengers", int(|trip| trip.passengers)),
        ("metres", int(|trip| trip.metres)),
        ("fare_cents", int(|trip| trip.fare_cents)),
        ("tip_cents", int(|trip| trip.tip_cents)),
        ("payment", Arc::new(StringArray::from_iter_values(payments)) as ArrayRef),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

impl Month {
    /// All of its trips, as they are in its file.
    #[cfg(test)]
    pub(crate) fn trips(&self) -> impl Iterator<Item = Trip> {
        self.rows.clone().map(|row| self.trip(row))
    }

    fn trip(&self, row: u64) -> Trip {
        let mut random = Random(row);
        let at = |row: u64| i64::try_from(row - self.rows.start).expect("few rows");
        let pickup_ms = self.begin_ms + self.len_ms * at(row) / at(self.rows.end);
        let hour = pickup_ms % DAY_MS / HOUR_MS;
        // A product of two is small more often than large.
        let liked = random.below(ZONE_COUNT) * random.below(ZONE_COUNT) / ZONE_COUNT;
        let zone = 1 + (liked + self.shift) % ZONE_COUNT;
        let metres = 400 + random.below(6000) + random.below(200) * random.below(60);
        let at_night = if (6..22).contains(&hour) { 0 } else { 350 };
        let fare_cents = 390 + metres / 5 + at_night;
        let payment = PAYMENTS[random.below(4).unsigned_abs() as usize];
        let tip_cents = if payment == "cash" { 0 } else { fare_cents * random.below(30) / 100 };
        Trip {
            pickup_ms,
            zone,
            to_zone: 1 + random.below(ZONE_COUNT),
            passengers: 1 + random.below(5) * random.below(5) / 5,
            metres,
            fare_cents,
            tip_cents,
            payment,
        }
    }
}

/// `SplitMix64`: numbers that look random and are always the same.
struct Random(u64);

impl Random {
    /// From 0 to `end`, which is not among them.
    fn below(&mut self, end: i32) -> i32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        i32::try_from(bits % u64::from(end.unsigned_abs())).expect("less than an i32")
    }
}
