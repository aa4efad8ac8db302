//! Queries over Parquet files in Cirrus, with DataFusion.
//!
//! Owns the command line, and the node that it starts. Invariant: tables go to stdout and the rest
//! to stderr; what fails is said in one line, with exit code 1.

mod counted;
mod tables;
#[cfg(test)]
mod tests;
mod trips;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cirrus_store::objects::PathStore;
use cirrus_store::server::{NodeOptions, Server};
use cirrus_store::{ByteSize, Client, ClientOptions};
use clap::Parser;
use clap::builder::ValueParser;
use datafusion::object_store::ObjectStore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::tables::{Cost, Tables};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Of the node that is started here: more than 20 million trips take.
const CAPACITY: ByteSize = ByteSize::gib(1);

/// What is asked unless the command line has questions of its own.
const QUERIES: [&str; 3] = [
    // One file of eight by its month, a quarter of its row groups by `pickup`, two of its columns.
    "SELECT date_part('hour', pickup) AS hour, count(*) AS trips, sum(fare_cents) / 100 AS fares\n\
     FROM trips\n\
     WHERE month = '2026-03' AND pickup >= '2026-03-09' AND pickup < '2026-03-16'\n\
     GROUP BY hour ORDER BY fares DESC LIMIT 5",
    // All files, three of their columns.
    "SELECT borough, count(*) AS trips, sum(tip_cents) / 100 AS tips\n\
     FROM trips JOIN zones ON trips.zone = zones.zone\n\
     WHERE payment = 'card'\n\
     GROUP BY borough ORDER BY tips DESC",
    // All files, two of their columns.
    "SELECT month, zone, fares FROM (\n\
    \x20 SELECT month, zone, sum(fare_cents) / 100 AS fares,\n\
    \x20        rank() OVER (PARTITION BY month ORDER BY sum(fare_cents) DESC) AS place\n\
    \x20 FROM trips GROUP BY month, zone)\n\
     WHERE place = 1 ORDER BY month",
];

/// Write synthetic taxi trips into a Cirrus node as Parquet files, and query them with DataFusion.
///
/// The tables are trips (pickup, zone, to_zone, passengers, metres, fare_cents, tip_cents, payment,
/// month) and zones (zone, borough).
#[derive(Debug, Parser)]
#[command(name = "cirrus-datafusion")]
struct Cli {
    /// A node that runs already, as cirrus://HOST:PORT [default: starts one]
    ///
    /// What lies there under `synthetic/` is written over, and stays.
    #[arg(long, value_name = "URL")]
    at: Option<String>,
    /// Trips to write
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = rows())]
    rows: u64,
    /// Queries to run instead of the example's own, an argument each
    sql: Vec<String>,
}

/// At least a trip for each file, and no more than the node has room for.
fn rows() -> ValueParser {
    ValueParser::from(clap::value_parser!(u64).range(8..=20_000_000))
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            print(error.to_string().trim_end());
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error.to_string()),
    };
    match run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

async fn run(cli: &Cli) -> Result<()> {
    match &cli.at {
        Some(url) => Box::pin(show(cli, address(url)?)).await,
        None => {
            let node = Node::start(CAPACITY).await?;
            say(&format!("memory node of {CAPACITY} on cirrus://{}", node.address));
            let shown = Box::pin(show(cli, &node.address)).await;
            node.stop().await?;
            shown
        }
    }
}

/// Writes the data set into the node at `address`, and runs the queries over it.
async fn show(cli: &Cli, address: &str) -> Result<()> {
    let store = store(address);
    let begin = Instant::now();
    let bytes = trips::write(&store, cli.rows).await?;
    let (size, took) = (ByteSize::new(bytes), begin.elapsed().as_secs_f64());
    say(&format!("wrote {} synthetic trips in 8 files, {size}, in {took:.1} s", cli.rows));
    let tables = Tables::open(&format!("cirrus://{address}"), store).await?;
    say(&format!("opened trips and zones; {}", cost(tables.opened, size)));
    let own = QUERIES.map(str::to_owned);
    let queries = if cli.sql.is_empty() { &own[..] } else { &cli.sql[..] };
    for sql in queries {
        say(&format!("\n{sql}"));
        let answer = tables.query(sql).await?;
        print(&answer.text()?);
        say(&cost(answer.cost, size));
    }
    Ok(())
}

fn cost(cost: Cost, size: ByteSize) -> String {
    let (took, read) = (cost.took.as_secs_f64(), ByteSize::new(cost.reads.bytes));
    format!("{took:.3} s, read {} ranges with {read} of {size}", cost.reads.ranges)
}

/// The objects of the node at `address`.
fn store(address: &str) -> Arc<dyn ObjectStore> {
    let mut options = ClientOptions::default();
    // A person waits: say soon that nobody is there.
    options.request_timeout = Duration::from_secs(10);
    Arc::new(PathStore::new(Client::new(address, options)))
}

/// The HOST:PORT of a node's URL.
fn address(url: &str) -> Result<&str> {
    let address = url.strip_prefix("cirrus://").map(|rest| rest.trim_end_matches('/'));
    let is_whole = |address: &&str| match address.rsplit_once(':') {
        Some((host, port)) => !host.is_empty() && port.parse::<u16>().is_ok(),
        None => false,
    };
    let expected = || format!("`{url}` is no node; expected cirrus://HOST:PORT");
    Ok(address.filter(is_whole).ok_or_else(expected)?)
}

/// A memory node in this process.
struct Node {
    address: String,
    cancel: CancellationToken,
    task: JoinHandle<cirrus_store::Result<()>>,
}

impl Node {
    /// On a free port of the loopback.
    async fn start(capacity: ByteSize) -> Result<Self> {
        let server = Server::bind("127.0.0.1:0", NodeOptions::new(capacity)).await?;
        let address = server.local_address().ok_or("a node without an address")?.to_string();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(server.run(cancel.clone()));
        Ok(Self { address, cancel, task })
    }

    async fn stop(self) -> Result<()> {
        self.cancel.cancel();
        Ok(self.task.await??)
    }
}

/// Data. A reader that has gone away, as behind `| head`, wants no more.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// For the person at the terminal. Without a terminal to write to there is nobody to tell.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says in one line what is wrong, without the usage that follows it.
fn fail(text: &str) -> ExitCode {
    let text = text.split("\n\n").next().unwrap_or(text).trim_start_matches("error: ");
    let words: Vec<&str> = text.split_whitespace().collect();
    say(&format!("cirrus-datafusion: {}", words.join(" ")));
    ExitCode::from(1)
}
