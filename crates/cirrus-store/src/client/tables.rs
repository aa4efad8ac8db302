//! Tables of parameters, as their users see them.
//!
//! Owns [`Push`], [`Pull`] and what is made of them on the wire. A table lies on the node that holds
//! the slot of its name. Invariant: gradients of a minibatch may be sent any number of times, and are
//! applied once.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;
use zerocopy::FromBytes;
use zerocopy::little_endian::F32;

use crate::client::call::Target;
use crate::client::pool::{Lane, SMALL_BYTES_MAX};
use crate::client::{Client, WAIT_ROUND};
use crate::error::{Error, Kind, Result};
use crate::key::Key;
use crate::table::{Call, Stand, Step, Stepped, to_bf16};
use crate::wire::{Reply, Request};

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowList<'a> {
    /// These, in this order.
    Named(&'a [u32]),
    /// All of the part, so many.
    All(u32),
}

impl RowList<'_> {
    fn len(self) -> u32 {
        match self {
            Self::Named(rows) => u32::try_from(rows.len()).unwrap_or(u32::MAX),
            Self::All(rows) => rows,
        }
    }

    fn put(self, payload: &mut BytesMut) {
        if let Self::Named(rows) = self {
            rows.iter().for_each(|row| payload.put_u32_le(*row));
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Named(rows) => size_of_val(rows),
            Self::All(_) => 0,
        }
    }
}

/// Gradients of a minibatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Push<'a> {
    /// The split that the minibatch is of.
    pub split: u64,
    /// Its place there, from 0; applied once, and in this order.
    pub minibatch: u32,
    /// The learning rate.
    pub rate: f32,
    /// Rows that gradients are for; none, if it touches no row of this part.
    pub rows: RowList<'a>,
    /// The gradients, row by row.
    pub gradients: &'a [f32],
    /// Whether they travel as bfloat16, in half the bytes.
    pub half: bool,
}

/// Rows that are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pull<'a> {
    /// For which step of the worker.
    pub read_for: u32,
    /// Which rows; none asks for nothing.
    pub rows: RowList<'a>,
    /// How long slower workers are waited for.
    pub patience: Duration,
}

/// Who steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stepper {
    /// The worker, or [`OBSERVER`](crate::table::OBSERVER).
    pub worker: u64,
    /// The generation of the table that it means.
    pub generation: u64,
    /// The steps that it has done, with this one's gradients.
    pub clock: u32,
}

/// Values that were read, f32 row by row.
#[derive(Clone, Debug, Default)]
pub struct Values(Bytes);

impl Values {
    /// How many floats.
    pub fn len(&self) -> usize {
        self.0.len() / size_of::<f32>()
    }

    /// Whether none were asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each in turn.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> {
        let floats = <[F32]>::ref_from_bytes(&self.0).unwrap_or_default();
        floats.iter().map(|value| value.get())
    }
}

impl Client {
    /// Applies gradients, then reads values, in one round trip.
    ///
    /// # Errors
    ///
    /// [`Kind::WrongVersion`] when the table is of another generation, which is the detail, or (same
    /// generation) when the worker has no seat; [`Kind::NotFound`] when there is no such table: its
    /// node has lost it. [`Kind::Invalid`] when a minibatch before this one is missing, or a row is
    /// none of the part's. [`Kind::Timeout`] when slower workers did not come near in time: the
    /// gradients are applied, and the next step need not repeat them. [`Kind::OutOfMemory`] when
    /// there is no room for rows, [`Kind::TooLarge`] above 64 MiB.
    pub async fn step(
        &self,
        table: &Key,
        stepper: Stepper,
        push: Option<Push<'_>>,
        pull: Pull<'_>,
    ) -> Result<(Stepped, Values)> {
        let Stepper { worker, generation, clock } = stepper;
        let Pull { read_for, rows: wanted_rows, patience } = pull;
        let mut payload = BytesMut::with_capacity(
            push.map_or(0, |push| push.rows.bytes() + size_of_val(push.gradients))
                + wanted_rows.bytes(),
        );
        let wanted = wanted_rows.len();
        let wants_all = matches!(wanted_rows, RowList::All(_)) && wanted > 0;
        let mut step =
            Step { generation, worker, clock, read_for, wanted, wants_all, ..Step::default() };
        if let Some(Push { split, minibatch, rate, rows, gradients, half }) = push {
            rows.put(&mut payload);
            match half {
                true => gradients.iter().for_each(|value| payload.put_u16_le(to_bf16(*value))),
                false => gradients.iter().for_each(|value| payload.put_f32_le(*value)),
            }
            let pushed = rows.len();
            let pushes_all = matches!(rows, RowList::All(_)) && pushed > 0;
            let pushes = true;
            step = Step { split, minibatch, rate, pushes, half, pushed, pushes_all, ..step };
        }
        let list = payload.len();
        wanted_rows.put(&mut payload);
        let mut payload = payload.freeze();
        let began = Instant::now();
        loop {
            let round = patience.saturating_sub(began.elapsed()).min(WAIT_ROUND);
            step.timeout_ms = u32::try_from(round.as_millis()).unwrap_or(u32::MAX);
            let is_large = payload.len() > SMALL_BYTES_MAX as usize;
            let lane = if is_large { Lane::Large } else { Lane::Small };
            let limit = round.saturating_add(self.pool.options.request_timeout);
            let mut request =
                Request::Step { table: table.clone(), step, payload: payload.clone() };
            let target = Target::Slot(table.slot());
            let reply = self.pool.call_within(target, &mut request, lane, limit).await?.reply;
            match reply {
                Reply::Stepped { stepped, values } => return Ok((stepped, Values(values))),
                Reply::Failed(fault) if fault.kind == Kind::Timeout => {
                    if began.elapsed() >= patience {
                        return Err(request.fault(fault));
                    }
                    // The gradients are applied: only the values are still wanted.
                    if step.pushes {
                        payload = payload.slice(list..);
                        step = Step { pushes: false, pushed: 0, pushes_all: false, ..step };
                    }
                }
                _ => return Err(unexpected(table)),
            }
        }
    }

    /// Asks something of a table: see [`Call`] for what, and [`Client::step`] for errors.
    pub async fn table(&self, table: &Key, call: &Call) -> Result<Stand> {
        let json = serde_json::to_vec(call).map_err(|error| {
            Error::new(Kind::Invalid, format!("a call to {table:?}")).with_source(error)
        })?;
        let mut request = Request::Call { table: table.clone(), call: json.into() };
        let target = Target::Slot(table.slot());
        match self.pool.call(target, &mut request, Lane::Small).await? {
            Reply::Stood(json) => serde_json::from_slice(&json).map_err(|error| {
                Error::new(Kind::Protocol, format!("the state of {table:?}")).with_source(error)
            }),
            _ => Err(unexpected(table)),
        }
    }
}

fn unexpected(table: &Key) -> Error {
    Error::new(Kind::Protocol, format!("the node answered something else about table {table:?}"))
}
