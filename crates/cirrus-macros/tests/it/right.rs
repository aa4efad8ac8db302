//! Right uses of the attribute, expanded, compiled and run.

#![deny(missing_docs, non_camel_case_types)]

use crate::{Context, Error};

/// Arguments of an application.
#[derive(Debug, Clone)]
pub struct Args {
    /// Whether the task is to succeed.
    pub is_right: bool,
}

#[cirrus::task]
fn plain(ctx: Context, args: Args) -> cirrus::Result<()> {
    let _ = ctx;
    if args.is_right { Ok(()) } else { Err(Error) }
}

/// Asks for everything.
#[cirrus::task(
    cpu = burst(0.5),
    memory = "8GiB",
    gpu = h100(2),
    disk = "10GiB",
    network = "1GiB/s",
    spot,
    replicas = 1..=64,
)]
pub async fn everything(_: Context, Args { is_right }: Args) -> cirrus::Result<()> {
    if is_right { Ok(()) } else { Err(Error) }
}

/// Runs with any arguments.
#[cirrus::task(cpu = 3, gpu = 1, spot = false, replicas = 4)]
pub fn any(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task]
async fn r#try(_ctx: Context) -> cirrus::Result<()> {
    Err(Error)
}

/// A task in a module, used from outside of it.
pub mod inner {
    /// Named like the function that is made for every task.
    #[cirrus::task]
    pub(super) fn task(_ctx: cirrus::Context, _args: super::Args) -> cirrus::Result<()> {
        Ok(())
    }
}

#[test]
fn a_task_is_still_a_function() {
    assert!(plain(Context, Args { is_right: true }).is_ok());
    assert!(any(Context).is_ok());
    assert!(inner::task(Context, Args { is_right: true }).is_ok());
}

#[test]
fn a_definition_has_the_name_the_demand_and_the_body() {
    for (task, name, demand) in [
        (plain::task(), "plain", "1 core, 512 MiB memory"),
        (
            everything::task(),
            "everything",
            "0.5 burst cores, 8 GiB memory, 2 h100 GPUs, 10 GiB disk, 1 GiB/s network, spot, \
             1 to 64 replicas",
        ),
        (any::task(), "any", "3 cores, 512 MiB memory, 1 GPU, 4 replicas"),
        (r#try::task(), "try", "1 core, 512 MiB memory"),
        (inner::task::task(), "task", "1 core, 512 MiB memory"),
    ] {
        assert_eq!(task.name, name);
        assert_eq!(task.demand.to_string(), demand);
        let right = (task.run)(Context, Args { is_right: true });
        assert_eq!(right.is_ok(), name != "try");
        let wrong = (task.run)(Context, Args { is_right: false });
        assert_eq!(wrong.is_err(), ["plain", "everything", "try"].contains(&name));
    }
}

#[test]
fn a_task_can_stand_in_a_function() {
    #[derive(Clone)]
    struct Local(u32);

    #[cirrus::task(replicas = 2)]
    fn local(_ctx: Context, args: Local) -> cirrus::Result<()> {
        if args.0 == 7 { Ok(()) } else { Err(Error) }
    }

    assert_eq!(local::task().demand.replicas.max(), 2);
    assert!((local::task().run)(Context, Local(7)).is_ok());
}

#[test]
fn a_macro_can_write_the_annotation() {
    macro_rules! sized {
        ($name:ident, $memory:literal, $replicas:expr) => {
            #[cirrus::task(memory = $memory, replicas = $replicas)]
            fn $name(_ctx: Context) -> cirrus::Result<()> {
                Ok(())
            }
        };
    }
    sized!(small, "1GiB", 1..=3);
    let task = small::task::<()>();
    assert_eq!(task.demand.to_string(), "1 core, 1 GiB memory, 1 to 3 replicas");
    assert!(small(Context).is_ok());
}
