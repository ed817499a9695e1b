//! Two operations that lehr does not have, added from outside: differentiated, batched, compiled and run like its own.
//!
//! `cargo run --example custom_op`

mod running_sum;
mod softsign;

use lehr::prelude::*;

use running_sum::running_sum;
use softsign::softsign;

fn main() -> lehr::Result<()> {
    let x = Tensor::input("x", F32, ("batch", 4));
    let f = |row: &Tensor| running_sum(&softsign(&(row * 2))).square().sum();
    let losses = vmap(&x, 0, f);
    let gradients = vmap(&x, 0, |row| grad(&f(row), row));
    for backend in [Backend::Interp, Backend::Cpu] {
        let mut step = Function::new("step")
            .output("losses", &losses)
            .output("gradients", &gradients)
            .compile(Options::default().backend(backend))?;
        let out = step.run([("x", [[1.0f32, -1.0, 0.5, 0.0], [2.0, 2.0, 2.0, 2.0]])])?;
        println!("{backend:?}: losses {:?}", out.get::<Vec<f32>>("losses")?);
        println!("{backend:?}: gradients {:?}", out.array("gradients")?.as_slice::<f32>().unwrap_or_default());
    }
    Ok(())
}
