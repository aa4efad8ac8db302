//! The event loops of a node: one is the caller's, the others are threads.
//!
//! Owns which loop serves a connection, and the threads. May not know what a connection says.
//! Invariant: a connection stays on its loop from its first byte to its last, and every loop is
//! joined before [`Loops::join`] returns.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::error::{Error, Kind, Result};
use crate::transport::Incoming;

/// Serves one connection until its end.
pub(super) trait Serve: Clone + Send + 'static {
    /// The future that does so, on the loop where it is called.
    fn serve(self, incoming: Incoming) -> impl Future<Output = ()> + Send + 'static;

    /// What runs on each loop beside its connections, as long as it has some.
    fn beside(self, number: usize) -> impl Future<Output = ()> + Send + 'static;
}

/// Where connections are served.
#[derive(Debug)]
pub(super) struct Loops<S> {
    serve: S,
    /// The caller's own.
    here: JoinSet<()>,
    open_here: usize,
    /// What runs beside them.
    beside: JoinSet<()>,
    others: Vec<Loop>,
}

#[derive(Debug)]
struct Loop {
    incoming: mpsc::UnboundedSender<Incoming>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl<S: Serve> Loops<S> {
    /// `threads` loops, the caller's included; they end when `cancel` is called.
    pub(super) fn start(threads: usize, serve: S, cancel: &CancellationToken) -> Result<Self> {
        let mut others = Vec::new();
        for number in 1..threads {
            others.push(Loop::start(number, serve.clone(), cancel.clone())?);
        }
        let mut beside = JoinSet::new();
        beside.spawn(serve.clone().beside(0));
        Ok(Self { serve, here: JoinSet::new(), open_here: 0, beside, others })
    }

    /// Has the loop with the fewest connections serve this one.
    pub(super) fn hand_out(&mut self, incoming: Incoming) {
        let open = |other: &&Loop| other.open.load(Ordering::Relaxed);
        match self.others.iter().min_by_key(open).filter(|other| open(other) < self.open_here) {
            Some(other) => other.take(incoming),
            None => {
                self.open_here += 1;
                self.here.spawn(self.serve.clone().serve(incoming));
            }
        }
    }

    /// Waits until a connection of the caller's loop has ended; for ever when there is none.
    pub(super) async fn ended(&mut self) {
        match self.here.join_next().await {
            Some(_) => self.open_here -= 1,
            None => std::future::pending().await,
        }
    }

    /// Waits for the end of every connection, which [`CancellationToken::cancel`] brings about.
    pub(super) async fn join(mut self) {
        while self.here.join_next().await.is_some() {}
        for Loop { incoming, thread, .. } in self.others {
            drop(incoming);
            // On a thread of its own: those who are still served here must not stand still.
            let joined = tokio::task::spawn_blocking(|| thread.join());
            if !matches!(joined.await, Ok(Ok(()))) {
                debug!("an event loop ended by a panic");
            }
        }
        self.beside.shutdown().await;
    }
}

impl Loop {
    fn start<S: Serve>(number: usize, serve: S, cancel: CancellationToken) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::new(Kind::Invalid, "cannot start an event loop; take fewer threads")
                .with_source(error)
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (incoming, mut arrivals) = mpsc::unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let count = open.clone();
        let run = async move {
            let mut connections = JoinSet::new();
            tokio::spawn(serve.clone().beside(number));
            loop {
                tokio::select! {
                    Some(arrived) = arrivals.recv() => {
                        connections.spawn(serve.clone().serve(arrived));
                    }
                    Some(_) = connections.join_next() => {
                        count.fetch_sub(1, Ordering::Relaxed);
                    }
                    () = cancel.cancelled() => break,
                }
            }
            while connections.join_next().await.is_some() {}
        };
        let thread = std::thread::Builder::new()
            .name(format!("cirrus-loop-{number}"))
            .spawn(move || runtime.block_on(run))
            .map_err(failed)?;
        Ok(Self { incoming, open, thread })
    }

    fn take(&self, incoming: Incoming) {
        self.open.fetch_add(1, Ordering::Relaxed);
        // The loop ends only when the node does, and then nobody waits for an answer.
        let _ = self.incoming.send(incoming);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread::ThreadId;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Notes where a connection is served, and serves it until the end.
    #[derive(Debug, Clone)]
    struct Noted {
        on: Arc<Mutex<Vec<ThreadId>>>,
        cancel: CancellationToken,
    }

    impl Serve for Noted {
        async fn beside(self, _number: usize) {}

        async fn serve(self, incoming: Incoming) {
            let _link = incoming.open().unwrap();
            self.on.lock().unwrap().push(std::thread::current().id());
            self.cancel.cancelled().await;
        }
    }

    #[tokio::test]
    async fn connections_are_spread_over_the_loops_and_all_are_joined() {
        let cancel = CancellationToken::new();
        let serve = Noted { on: Arc::default(), cancel: cancel.clone() };
        let on = serve.on.clone();
        let mut loops = Loops::start(3, serve, &cancel).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peers = Vec::new();
        for _ in 0..9 {
            peers.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            let accepted = listener.accept().await.unwrap().0.into_std().unwrap();
            loops.hand_out(Incoming::Tcp(accepted));
        }
        while on.lock().unwrap().len() < 9 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        loops.join().await;
        let on = on.lock().unwrap();
        for thread in on.iter() {
            assert_eq!(on.iter().filter(|other| *other == thread).count(), 3);
        }
    }
}
