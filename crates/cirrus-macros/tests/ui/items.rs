extern crate self as cirrus;

include!("../it/stand_in.rs");

struct Decoder;

impl Decoder {
    #[cirrus::task(cpu = 1)]
    fn decode(&self, _ctx: Context) -> cirrus::Result<()> {
        Ok(())
    }
}

#[cirrus::task(cpu = 1)]
/// Not a function.
struct Task2;

fn main() {}
