//! Steps of a table of parameters, against a socket that copies the same bytes.
//!
//! A step pushes gradients of some rows and pulls their values: the bare socket takes as many bytes and gives as
//! many. What is compared is what a second of the server's processor does: one shard on one core.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cirrus_store::client::{Pull, Push, RowList, Stepper};
use cirrus_store::rule::{Adagrad, Optimizer, Penalty};
use cirrus_store::table::{Call, Initial, TableSpec};
use cirrus_store::{Client, ClientOptions, Key};
use tokio::runtime::Runtime;

use crate::comparisons::{Bench, Cell, Family};
use crate::load::Latency;
use crate::ratio::Target;
use crate::row::{Number, Row, Subject};
use crate::servers::{BareClient, Kind};
use crate::side::{Compared, Side, Work};

const TARGET: Target = Target::AtLeast(0.7);

pub(super) const FAMILY: Family = Family {
    name: "tables",
    about: "gradients in and parameters out of one shard, against a socket that copies as many bytes",
    cells: || {
        use Optimizer::Sgd;
        let adagrad = Optimizer::Adagrad(Adagrad::default());
        let mut cells = Vec::new();
        for (optimizer, rule) in [(Sgd, "sgd"), (adagrad, "adagrad")] {
            for (shape, all, rows, columns) in [
                ("weights", 1 << 18, 4_000, 1),
                ("hashed", 1 << 28, 4_000, 1),
                ("factors", 100_000, 500, 17),
                ("dense", 8_192, 8_192, 16),
            ] {
                let name = format!("tables/{shape}/{rule}");
                let load = Load { optimizer, all, rows, columns };
                cells.push(Cell {
                    name: name.clone(),
                    is_quick: rule == "adagrad",
                    measure: Box::new(move |bench| measured(bench, &name, load)),
                });
            }
        }
        cells
    },
};

/// What a step is.
#[derive(Debug, Clone, Copy)]
struct Load {
    optimizer: Optimizer,
    /// Rows of the table.
    all: u32,
    /// Rows of a step.
    rows: u32,
    columns: u32,
}

impl Load {
    fn is_dense(self) -> bool {
        self.all == self.rows
    }

    fn list_bytes(self) -> usize {
        if self.is_dense() { 0 } else { 4 * self.rows as usize }
    }

    fn value_bytes(self) -> usize {
        4 * (self.rows * self.columns) as usize
    }
}

fn measured(bench: &mut Bench, name: &str, load: Load) -> Result<Vec<Row>> {
    let runtime = bench.runtime.clone();
    let node = bench.servers.of(Kind::Cirrus)?;
    let mut ours = Shard::prepare(node.pid(), &node.address.to_string(), runtime, name, load)?;
    let bare = bench.servers.of(Kind::Bare)?;
    let mut theirs =
        Copied { server: bare.pid(), client: BareClient::connect(bare.address)?, load };
    let value_bytes = 2 * (load.list_bytes() + load.value_bytes());
    let peer = "a socket that copies".to_owned();
    let subject = Subject { name: name.to_owned(), peer, value_bytes };
    let compared = Compared::run(&mut ours, &mut theirs, bench.turns)?;
    Ok(vec![
        subject.row(&compared, Number::OperationsPerServerSecond, Some(TARGET)),
        subject.row(&compared, Number::GigabytesPerSecond, None),
    ])
}

struct Shard {
    server: u32,
    runtime: Rc<Runtime>,
    client: Client,
    table: Key,
    load: Load,
    stepper: Stepper,
    gradients: Vec<f32>,
}

const WORKER: u64 = 1;

impl Shard {
    fn prepare(
        server: u32,
        address: &str,
        runtime: Rc<Runtime>,
        name: &str,
        load: Load,
    ) -> Result<Self> {
        let mut options = ClientOptions::default();
        // Over TCP, as the socket is.
        options.maps = false;
        let client = Client::new(address, options);
        let table = Key::new(name.to_owned().into_bytes())?;
        let spec = TableSpec {
            first_row: 0,
            rows: load.all,
            columns: load.columns,
            initial: Initial::Zero,
            optimizer: load.optimizer,
            penalty: Penalty::default(),
            staleness: None,
            seat_ms: 600_000,
            generation: 1,
        };
        runtime.block_on(async {
            client.table(&table, &Call::Open(spec)).await?;
            client.table(&table, &Call::Join { worker: WORKER, clock: 0 }).await
        })?;
        let stepper = Stepper { worker: WORKER, generation: 1, clock: 0 };
        let gradients = vec![0.001; (load.rows * load.columns) as usize];
        Ok(Self { server, runtime, client, table, load, stepper, gradients })
    }
}

impl Side for Shard {
    fn server(&self) -> u32 {
        self.server
    }

    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work> {
        let (began, mut operations) = (Instant::now(), 0);
        let mut now = began;
        while now - began < slice {
            let step = u64::from(self.stepper.clock);
            // Rows from all over the table, ascending; of a large one, a million or so.
            let stride = self.load.all / self.load.rows;
            let first = u32::try_from(step * 7_919 % u64::from(stride.min(256)))?;
            let named: Vec<u32> = (0..self.load.rows).map(|place| first + place * stride).collect();
            let rows = match self.load.is_dense() {
                true => RowList::All(self.load.rows),
                false => RowList::Named(&named),
            };
            let (gradients, minibatch) = (self.gradients.as_slice(), 0);
            self.stepper.clock += 1;
            let push = Push { split: step, minibatch, rate: 0.1, rows, gradients, half: false };
            let pull = Pull { read_for: 0, rows, patience: Duration::from_secs(10) };
            let stepping = self.client.step(&self.table, self.stepper, Some(push), pull);
            let (stepped, values) = self.runtime.block_on(stepping)?;
            ensure!(!stepped.repeated && values.len() == gradients.len(), "a step was not done");
            let end = Instant::now();
            latency.record(end - now);
            (now, operations) = (end, operations + 1);
        }
        Ok(Work { operations, elapsed: began.elapsed() })
    }
}

/// The same bytes, copied.
struct Copied {
    server: u32,
    client: BareClient,
    load: Load,
}

impl Side for Copied {
    fn server(&self) -> u32 {
        self.server
    }

    fn work(&mut self, slice: Duration, latency: &mut Latency) -> Result<Work> {
        let (began, mut operations) = (Instant::now(), 0);
        let mut now = began;
        while now - began < slice {
            // The list of what is pushed, the gradients, and the list of what is pulled.
            self.client.put(2 * self.load.list_bytes() + self.load.value_bytes())?;
            self.client.get(self.load.value_bytes())?;
            let end = Instant::now();
            latency.record(end - now);
            (now, operations) = (end, operations + 1);
        }
        Ok(Work { operations, elapsed: began.elapsed() })
    }
}
