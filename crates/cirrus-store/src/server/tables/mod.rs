//! Which tables of parameters does this node hold?
//!
//! Owns the tables by name, and what is asked of them. Knows neither sockets nor objects: tables share the node's
//! memory with objects, and nothing else. Locks: the list, then one table.
//! Invariant: a table is found whole or not at all, whatever fails while it is made or put back.

mod apply;
mod clocks;
mod index;
mod rows;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::Kind;
use crate::key::Key;
use crate::server::arena::Extents;
use crate::server::memory::{Memory, Reservation};
pub use crate::server::tables::snapshot::{TableRestore, TableSnapshot, table_rows};
pub(super) use crate::server::tables::table::Answer;
use crate::server::tables::table::Table;
use crate::table::{Call, Stand, Step, Stepped, TableSpec};
use crate::wire::Fault;

/// All tables of a node. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    extents: Extents,
    memory: Memory,
    named: Arc<RwLock<HashMap<Key, Arc<Mutex<Table>>>>>,
}

/// What comes of a step at once.
pub(super) enum Outcome {
    Answered(Stepped, Bytes, Reservation),
    /// The answer comes later, within the step's time or never.
    Waits(oneshot::Receiver<Answer>),
}

impl Tables {
    pub(super) fn new(extents: Extents, memory: Memory) -> Self {
        Self { extents, memory, named: Arc::default() }
    }

    /// Makes a table, or finds the same one. [`Kind::WrongType`]: it is there, and another one.
    pub(super) fn open(&self, name: &Key, spec: TableSpec) -> Result<Arc<Mutex<Table>>, Fault> {
        let spec = spec.validated().map_err(|error| Fault::from(&error))?;
        let mut named = self.named.write();
        if let Some(table) = named.get(name) {
            let found = table.lock().spec.generation;
            return match table.lock().spec == spec {
                true => Ok(table.clone()),
                false if found != spec.generation => {
                    Err(Fault { kind: Kind::WrongVersion, detail: found })
                }
                false => Err(Kind::WrongType.into()),
            };
        }
        let table =
            Arc::new(Mutex::new(Table::new(spec, self.extents.clone(), self.memory.clone())));
        named.insert(name.detached(), table.clone());
        Ok(table)
    }

    /// Carries out a step; `purse` pays for values until they have left, up to `bytes_max` of one
    /// answer.
    pub(super) fn step(
        &self,
        name: &Key,
        step: &Step,
        payload: &Bytes,
        purse: &Memory,
        bytes_max: u32,
    ) -> Result<Outcome, Fault> {
        self.find(name)?.lock().step(step, payload, purse, bytes_max)
    }

    /// Answers what else is asked.
    pub(super) fn call(&self, name: &Key, call: Call) -> Result<Stand, Fault> {
        if let Call::Open(spec) = call {
            return Ok(self.open(name, spec)?.lock().stand());
        }
        let table = self.find(name)?;
        let mut table = table.lock();
        let mut stand = table.stand();
        match call {
            Call::Open(_) | Call::Stand => {}
            Call::Join { worker, clock } => {
                stand.clock = table.join(worker, clock)?;
                stand.workers = table.stand().workers;
            }
            Call::Leave { worker } => table.leave(worker),
            Call::Beat { worker } => table.beat(worker)?,
            Call::Mark { split } => stand.mark = table.mark(split),
        }
        Ok(stand)
    }

    /// All of a table as it is now.
    pub(super) fn freeze(&self, name: &Key) -> Result<TableSnapshot, Fault> {
        let table = self.find(name)?;
        let mut table = table.lock();
        let (marks, rows) = table.freeze();
        Ok(TableSnapshot::new(table.spec.clone(), marks, rows))
    }

    /// An empty table beside the one of this name, to be filled.
    pub(super) fn beside(&self, spec: TableSpec) -> Table {
        Table::new(spec, self.extents.clone(), self.memory.clone())
    }

    /// Takes this table for the one of this name: whoever waits there is told.
    pub(super) fn replace(&self, name: &Key, table: Table) {
        let table = Arc::new(Mutex::new(table));
        if let Some(before) = self.named.write().insert(name.detached(), table) {
            before.lock().close();
        }
    }

    pub(super) fn forget_before(&self, name: &Key, split: u64) -> Result<(), Fault> {
        self.find(name)?.lock().forget_before(split);
        Ok(())
    }

    /// One step of housekeeping: seats of workers that are gone.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let tables: Vec<_> = self.named.read().values().cloned().collect();
        tables.iter().for_each(|table| table.lock().sweep(now));
    }

    fn find(&self, name: &Key) -> Result<Arc<Mutex<Table>>, Fault> {
        self.named.read().get(name).cloned().ok_or_else(|| Kind::NotFound.into())
    }
}
