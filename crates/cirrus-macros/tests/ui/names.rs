extern crate self as cirrus;

include!("../it/stand_in.rs");

#[cirrus::task(memroy = "512MiB", cpu = 1)]
fn misspelt(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(ram = "512MiB")]
fn unknown(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(cpu = 1, spot, cpu = 2)]
fn twice(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task(cpu = 1,, spot)]
fn comma(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

#[cirrus::task("512MiB")]
fn nameless(_ctx: Context) -> cirrus::Result<()> {
    Ok(())
}

// What is used elsewhere brings no further errors.
fn main() {
    let _: cirrus::Task<()> = misspelt::task();
    let _ = misspelt(Context);
}
