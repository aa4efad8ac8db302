extern crate self as cirrus;

include!("../it/stand_in.rs");

#[derive(Clone)]
struct Args;

#[cirrus::task]
unsafe fn not_safe(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task]
extern "C" fn foreign(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task]
fn generic<T>(_ctx: Context, _args: T) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task]
fn no_parameters() -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task]
fn three_parameters(_ctx: Context, _args: Args, _more: u32) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task]
fn borrowed(_ctx: &Context, _args: Args) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task]
fn no_result(_ctx: Context, _args: Args) {}

#[cirrus::task]
fn Decode(_ctx: Context, _args: Args) -> cirrus::Result<()> {
    Ok(())
}

// What is used elsewhere brings no further errors.
fn main() {
    let _: cirrus::Task<Args> = no_result::task();
    no_result(Context, Args);
}
