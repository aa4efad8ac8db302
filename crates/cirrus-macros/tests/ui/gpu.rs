extern crate self as cirrus;

include!("../it/stand_in.rs");

#[cirrus::task(gpu = 0)]
fn zero(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(gpu = h100)]
fn uncounted(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(gpu = H100(1))]
fn upper_case(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(gpu = 0.5)]
fn half(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

fn main() {}
