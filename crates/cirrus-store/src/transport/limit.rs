//! A bound on how long work may take.
//!
//! Owns when a timer is set. Knows nothing of what the work is. Invariant: work that is done when it
//! is first looked at costs no timer and no look at the clock, which is nearly all of it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// What the work comes to, unless it takes longer than `limit`. Dropping the future drops the work.
pub(crate) async fn within<F: Future>(limit: Duration, work: F) -> Result<F::Output, Elapsed> {
    let mut work = pin!(work);
    match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => timeout(limit, work).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_too_long_is_given_up() {
        let limit = Duration::from_secs(60);
        let began = tokio::time::Instant::now();
        assert_eq!(within(limit, std::future::ready(7)).await.unwrap(), 7);
        assert_eq!(began.elapsed(), Duration::ZERO);
        let nearly = tokio::time::sleep(limit - Duration::from_secs(1));
        assert!(within(limit, nearly).await.is_ok());
        assert!(within(limit, std::future::pending::<()>()).await.is_err());
        assert_eq!(began.elapsed(), 2 * limit - Duration::from_secs(1));
    }
}
