// Stands for the crate `cirrus`, which these tests cannot depend on: it depends on the macro.
// Included at the root of a test, beside `extern crate self as cirrus;`.

pub use cirrus_macros::task;
pub use cirrus_plan as plan;

#[derive(Debug)]
pub struct Context;

#[derive(Debug)]
pub struct Error;

pub type Result<T> = std::result::Result<T, Error>;

pub trait TaskArgs: Clone + Send + 'static {}

impl<T: Clone + Send + 'static> TaskArgs for T {}

#[derive(Debug)]
pub struct Task<A> {
    pub name: &'static str,
    pub demand: plan::Demand,
    pub run: fn(Context, A) -> Result<()>,
}

impl<A: TaskArgs> Task<A> {
    pub fn new(
        name: &'static str,
        demand: plan::Demand,
        run: fn(Context, A) -> Result<()>,
    ) -> Self {
        Self { name, demand, run }
    }
}

pub fn block_on<T>(future: impl std::future::Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
