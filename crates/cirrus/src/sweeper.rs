//! Deleting what the coordinator says nobody needs any more.
//!
//! Owns a thread beside the coordinator that deletes objects of freed splits and abandoned
//! attempts. May not decide what is garbage. Invariant: a sweep is reported only after its
//! objects are gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cirrus_store::{Client, ClientOptions, Key, Kind as StoreKind};
use tokio_util::sync::CancellationToken;

use crate::api::Garbage;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::spec::AppSpec;
use crate::views::PoolViews;

/// How often garbage is asked for.
const INTERVAL: Duration = Duration::from_millis(500);

/// Sweeps the first pool until `cancel`.
pub(crate) fn start(coordinator: SocketAddr, spec: &AppSpec, cancel: CancellationToken) {
    let Some(pool) = spec.pools.first().map(|pool| pool.name.clone()) else { return };
    let control = Arc::new(Control::new(coordinator).with_patience(Duration::ZERO));
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(run(control, pool, cancel)),
            Err(error) => tracing::error!("nothing will be swept: {error}"),
        }
    };
    if let Err(error) = std::thread::Builder::new().name("cirrus-sweeper".to_owned()).spawn(run) {
        tracing::error!("nothing will be swept: {error}");
    }
}

async fn run(control: Arc<Control>, pool: String, cancel: CancellationToken) {
    let mut client = None;
    while !cancel.is_cancelled() {
        match sweep(&control, &pool, &mut client).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) if cancel.is_cancelled() => tracing::debug!("sweeping: {error}"),
            Err(error) => tracing::warn!("sweeping, will try again: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = cancel.cancelled() => {}
        }
    }
}

/// Deletes what is pending now; whether there was anything.
async fn sweep(control: &Arc<Control>, pool: &str, open: &mut Option<Client>) -> Result<bool> {
    let asked = control.clone();
    let sweeps = blocking(move || asked.sweeps()).await?;
    if sweeps.is_empty() {
        return Ok(false);
    }
    let client = match open {
        Some(client) => client,
        None => {
            let views = PoolViews { control: control.clone(), pool: pool.to_owned() };
            open.insert(Client::with_views(Arc::new(views), ClientOptions::default()).await?)
        }
    };
    let mut done = Vec::with_capacity(sweeps.len());
    for sweep in sweeps {
        match &sweep.what {
            Garbage::Prefix(prefix) => delete_prefix(client, prefix).await?,
            Garbage::Key(key) => match client.delete(&Key::try_from(key.as_str())?).await {
                Ok(()) => {}
                Err(error) if error.kind() == StoreKind::NotFound => {}
                Err(error) => return Err(error.into()),
            },
        }
        done.push(sweep.sweep);
    }
    let told = control.clone();
    blocking(move || told.swept(done)).await?;
    Ok(true)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a call was cut off").with_source(error))?
}

/// Removes every object whose key begins with `prefix`; what is gone already is fine.
pub(crate) async fn delete_prefix(client: &Client, prefix: &str) -> cirrus_store::Result<()> {
    let names = client.list(prefix.as_bytes()).await?;
    let keys: Vec<Key> = names.into_iter().map(|name| name.key).collect();
    for deleted in client.delete_many(&keys).await {
        match deleted {
            Ok(()) => {}
            Err(error) if error.kind() == cirrus_store::Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
