//! Queries over a node against a plain computation over the same trips.

use std::collections::BTreeMap;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::util::display::array_value_to_string;

use super::*;
use crate::trips::{Trip, borough, months};

/// Three row groups a file.
const ROWS: u64 = 8 * 40_000;

/// 2026-03-09 and a week later, in UTC.
const WEEK_MS: std::ops::Range<i64> = 1_773_014_400_000..1_773_619_200_000;

struct Rig {
    node: Node,
    tables: Tables,
    /// Of all files.
    bytes: u64,
}

impl Rig {
    async fn new() -> Self {
        let node = Node::start(ByteSize::mib(256)).await.unwrap();
        let store = store(&node.address);
        let bytes = trips::write(&store, ROWS).await.unwrap();
        let url = format!("cirrus://{}", node.address);
        let tables = Tables::open(&url, store).await.unwrap();
        Self { node, tables, bytes }
    }

    /// The rows that a query answers, as text, and the bytes that it has read.
    async fn rows(&self, sql: &str) -> (Vec<Vec<String>>, u64) {
        let answer = self.tables.query(sql).await.unwrap();
        let mut rows = Vec::new();
        for batch in &answer.batches {
            let text = |column: &ArrayRef, row| array_value_to_string(column, row).unwrap();
            let columns = batch.columns();
            let row = |row| columns.iter().map(|column| text(column, row)).collect();
            rows.extend((0..batch.num_rows()).map(row));
        }
        (rows, answer.cost.reads.bytes)
    }
}

/// Adds up trips by what `by` says of them and their month; those of `None` do not count.
fn sums<K: Ord>(
    by: impl Fn(&str, &Trip) -> Option<K>,
    cents: impl Fn(&Trip) -> i32,
) -> BTreeMap<K, (u64, i64)> {
    let mut sums = BTreeMap::new();
    for month in months(ROWS) {
        for trip in month.trips() {
            let Some(key) = by(&month.name, &trip) else { continue };
            let (count, sum) = sums.entry(key).or_insert((0, 0));
            (*count, *sum) = (*count + 1, *sum + i64::from(cents(&trip)));
        }
    }
    sums
}

/// The largest sums first.
fn by_sum<K>(sums: BTreeMap<K, (u64, i64)>) -> Vec<(K, u64, i64)> {
    let mut rows: Vec<_> = sums.into_iter().map(|(key, (count, sum))| (key, count, sum)).collect();
    rows.sort_by_key(|(.., sum)| std::cmp::Reverse(*sum));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_by_hours_is_right_and_reads_a_part_of_one_file() {
    let rig = Rig::new().await;
    let (rows, read) = rig.rows(QUERIES[0]).await;
    let hour = |trip: &Trip| trip.pickup_ms / 3_600_000 % 24;
    let plain = sums(|_, t| WEEK_MS.contains(&t.pickup_ms).then(|| hour(t)), |t| t.fare_cents);
    let plain = by_sum(plain).into_iter().take(5);
    let plain: Vec<_> =
        plain.map(|(h, n, c)| vec![h.to_string(), n.to_string(), (c / 100).to_string()]).collect();
    assert_eq!(rows, plain);
    // A file is an eighth, two of its eight columns are less than half of it, and a row group of
    // three has none of the week.
    assert!(0 < read && read < rig.bytes / 16, "{read} of {}", rig.bytes);
    rig.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_is_right_and_reads_its_columns_only() {
    let rig = Rig::new().await;
    let (rows, read) = rig.rows(QUERIES[1]).await;
    let card = |trip: &Trip| (trip.payment == "card").then(|| borough(trip.zone));
    let plain = by_sum(sums(|_, trip| card(trip), |trip| trip.tip_cents)).into_iter();
    let plain: Vec<_> = plain
        .map(|(borough, n, c)| vec![borough.to_owned(), n.to_string(), (c / 100).to_string()])
        .collect();
    assert_eq!(rows, plain);
    assert!(0 < read && read < rig.bytes / 2, "{read} of {}", rig.bytes);
    rig.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_right() {
    let rig = Rig::new().await;
    let (rows, _) = rig.rows(QUERIES[2]).await;
    let by_zone = sums(|month, trip| Some((month.to_owned(), trip.zone)), |trip| trip.fare_cents);
    let mut best = BTreeMap::new();
    for ((month, zone), _, cents) in by_sum(by_zone) {
        best.entry(month).or_insert((zone, cents));
    }
    let plain: Vec<_> = best
        .into_iter()
        .map(|(month, (zone, c))| vec![month, zone.to_string(), (c / 100).to_string()])
        .collect();
    assert_eq!(rows, plain);
    assert_eq!(rows.len(), 8);
    rig.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_of_every_row_comes_back() {
    let rig = Rig::new().await;
    let (rows, read) = rig
        .rows(
            "SELECT count(*), count(DISTINCT month), sum(date_part('epoch', pickup)::bigint), \
                    sum(zone), sum(to_zone), sum(passengers), sum(metres), sum(fare_cents), \
                    sum(tip_cents), sum(CASE WHEN payment = 'cash' THEN 1 ELSE 0 END) \
             FROM trips",
        )
        .await;
    let mut plain = [0_i64; 8];
    for trip in months(ROWS).iter().flat_map(trips::Month::trips) {
        let columns = [trip.zone, trip.to_zone, trip.passengers, trip.metres, trip.fare_cents];
        let cash = i32::from(trip.payment == "cash");
        let ints = columns.into_iter().chain([trip.tip_cents, cash]).map(i64::from);
        // Whole seconds, as the query has them.
        let values = std::iter::once(trip.pickup_ms / 1000).chain(ints);
        plain.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    let plain = [i64::try_from(ROWS).unwrap(), 8].into_iter().chain(plain);
    assert_eq!(rows, [plain.map(|value| value.to_string()).collect::<Vec<_>>()]);
    assert!(read > rig.bytes * 8 / 10, "{read} of {}", rig.bytes);
    rig.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_query_writes_can_be_queried() {
    let rig = Rig::new().await;
    let folder = format!("cirrus://{}/synthetic/fares", rig.node.address);
    // Small buffers, so that each file goes as an upload of many parts.
    rig.rows("SET datafusion.execution.objectstore_writer_buffer_size = 65536").await;
    let copy = "COPY (SELECT zone, fare_cents, metres, pickup FROM trips)";
    let (copied, _) = rig.rows(&format!("{copy} TO '{folder}/' STORED AS PARQUET")).await;
    assert_eq!(copied, [[ROWS.to_string()]]);
    rig.rows(&format!("CREATE EXTERNAL TABLE fares STORED AS PARQUET LOCATION '{folder}/'")).await;
    let sum = "SELECT count(*), sum(fare_cents), sum(metres), max(pickup)";
    let (there, _) = rig.rows(&format!("{sum} FROM fares")).await;
    assert_eq!(there, rig.rows(&format!("{sum} FROM trips")).await.0);
    rig.node.stop().await.unwrap();
}

#[test]
fn a_node_is_host_and_port() {
    assert_eq!(address("cirrus://10.0.0.1:7070/").unwrap(), "10.0.0.1:7070");
    for url in
        ["10.0.0.1:7070", "cirrus://host", "cirrus://:7070", "cirrus://h:7070/a", "http://h:1"]
    {
        let error = address(url).unwrap_err().to_string();
        assert_eq!(error, format!("`{url}` is no node; expected cirrus://HOST:PORT"));
    }
}
