extern crate self as cirrus;

include!("../it/stand_in.rs");

#[cirrus::task(replicas = 0)]
fn zero(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(replicas = 1..64)]
fn half_open(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(replicas = 8..=4)]
fn empty(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(replicas = 1..)]
fn endless(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(replicas = 100_000)]
fn too_many(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(spot = "yes")]
fn spot(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

fn main() {}
