//! Who has been writing: the sessions of a node's clients.
//!
//! Owns the table of sessions, how far each has acknowledged its answers, and when one is
//! forgotten. Invariant: a session with an open connection is never forgotten, and one that comes
//! back after it was forgotten has another life.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::Kind;

/// Sessions beyond this many are refused with [`Kind::Busy`] until idle ones are forgotten.
const SESSIONS_MAX: usize = 100_000;

/// One client, over all its connections.
#[derive(Debug)]
pub(super) struct Session {
    /// Names this life of the session; no other session of the node's life has had it.
    pub(super) life: u64,
    acknowledged: AtomicU64,
    last_seen_ms: AtomicU64,
}

impl Session {
    /// The client will not repeat writes up to this one.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    pub(super) fn acknowledge(&self, sequence: u64) {
        self.acknowledged.fetch_max(sequence, Ordering::AcqRel);
    }
}

/// The sessions of a node.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last_life: u64,
    sessions: HashMap<u64, Arc<Session>>,
}

/// What housekeeping needs to know about sessions, by their lives.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// Those that are gone.
    pub(super) forgotten: Vec<u64>,
    /// How far those that stay have acknowledged.
    pub(super) acknowledged: HashMap<u64, u64>,
}

impl Sessions {
    /// The session of this number, or a new one.
    pub(super) fn open(&self, id: u64, now_ms: u64) -> Result<Arc<Session>, Kind> {
        let mut table = self.0.lock();
        if let Some(session) = table.sessions.get(&id) {
            session.last_seen_ms.store(now_ms, Ordering::Relaxed);
            return Ok(session.clone());
        }
        if table.sessions.len() >= SESSIONS_MAX {
            return Err(Kind::Busy);
        }
        table.last_life += 1;
        let session = Arc::new(Session {
            life: table.last_life,
            acknowledged: AtomicU64::new(0),
            last_seen_ms: AtomicU64::new(now_ms),
        });
        table.sessions.insert(id, session.clone());
        Ok(session)
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().sessions.len()
    }

    /// Forgets sessions that have had no connection for `idle`; the others stay.
    pub(super) fn forget_idle(&self, now_ms: u64, idle: Duration) -> Census {
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let mut census = Census::default();
        self.0.lock().sessions.retain(|_, session| {
            // The table and each connection hold one reference.
            let connected = Arc::strong_count(session) > 1;
            if connected {
                session.last_seen_ms.store(now_ms, Ordering::Relaxed);
            }
            let last_seen = session.last_seen_ms.load(Ordering::Relaxed);
            let keep = connected || now_ms.saturating_sub(last_seen) < idle_ms;
            match keep {
                true => drop(census.acknowledged.insert(session.life, session.acknowledged())),
                false => census.forgotten.push(session.life),
            }
            keep
        });
        census
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_session_comes_back_with_another_life() {
        let sessions = Sessions::default();
        let idle = Duration::from_secs(1);
        let first = sessions.open(7, 0).unwrap();
        assert_eq!(sessions.open(7, 0).unwrap().life, first.life);
        assert!(sessions.forget_idle(9000, idle).forgotten.is_empty(), "it is connected");
        let life = first.life;
        drop(first);
        assert!(sessions.forget_idle(9500, idle).forgotten.is_empty(), "it was seen at 9000");
        assert_eq!(sessions.forget_idle(10_000, idle).forgotten, [life]);
        assert_ne!(sessions.open(7, 10_001).unwrap().life, life);
    }

    #[test]
    fn there_are_only_so_many_sessions() {
        let sessions = Sessions::default();
        for id in 0..SESSIONS_MAX as u64 {
            sessions.open(id, 0).unwrap();
        }
        assert_eq!(sessions.open(u64::MAX, 0).unwrap_err(), Kind::Busy);
        assert!(sessions.open(3, 0).is_ok());
    }
}
