extern crate self as cirrus;

include!("../it/stand_in.rs");

#[cirrus::task(memory = 512)]
fn bare(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(memory = 512MiB)]
fn unquoted(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(memory = "512")]
fn no_unit(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(disk = "10GIB", network = "1Gbit")]
fn wrong_units(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(network = 1Gbit/s)]
fn unquoted_rate(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(disk = "0B")]
fn nothing(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

fn main() {}
