extern crate self as cirrus;

include!("../it/stand_in.rs");

#[cirrus::task(cpu = 0)]
fn zero(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(cpu)]
fn empty(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(cpu = "1")]
fn quoted(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(cpu = -1)]
fn negative(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(cpu = burst(1, 2))]
fn burst(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

fn main() {}
