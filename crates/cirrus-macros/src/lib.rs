//! The attribute that turns a function into a task.
//!
//! Owns the attribute's language and its error messages. Knows of the crate `cirrus` only the few
//! paths that the expansion names. Whatever the mistake, the errors that a person sees are ours.

mod annotation;
mod expansion;
mod function;

/// Turns a function into a task.
///
/// The function stays as it is, so that a unit test can call it. Beside it appears a type of the
/// same name, whose `task()` gives the definition that an application runs.
///
/// | argument | what each replica needs |
/// |---|---|
/// | `cpu = 1`, `cpu = 0.5` | processors, used all the time |
/// | `cpu = burst(0.5)` | processors, used now and then |
/// | `memory = "512MiB"` | main memory |
/// | `gpu = 1`, `gpu = h100(2)` | accelerators, of any kind or of one |
/// | `disk = "10GiB"` | local disk |
/// | `network = "1Gbit/s"` | network bandwidth |
/// | `spot`, `spot = false` | whether the machine may be taken away at short notice |
/// | `replicas = 4`, `replicas = 1..=64` | how many copies run |
///
/// All may be left out; `cirrus::plan::Demand` says what holds then. The function takes
/// a `cirrus::Context` and, if it likes, the application's arguments, both by value, and returns
/// `cirrus::Result<()>`. It may be `async`.
///
/// ```
/// # extern crate self as cirrus;
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stand_in.rs"));
/// # #[derive(Clone)]
/// # pub struct Args;
/// #[cirrus::task(cpu = burst(0.5), memory = "1GiB", replicas = 1..=64)]
/// fn decode(ctx: Context, args: Args) -> cirrus::Result<()> {
///     Ok(())
/// }
///
/// fn main() {
///     let task: cirrus::Task<Args> = decode::task();
///     assert_eq!(task.demand.to_string(), "0.5 burst cores, 1 GiB memory, 1 to 64 replicas");
/// }
/// ```
#[proc_macro_attribute]
pub fn task(
    attribute: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    expansion::expand(attribute.into(), item.into()).into()
}
