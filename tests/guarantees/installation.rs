//! One compilation serves all sizes: nothing is compiled or installed after it.

use lehr::prelude::*;
use lehr::testing::fail_installation;

#[test]
fn batches_of_every_size_run_while_no_code_can_be_installed() {
    let _turn = crate::alone();
    let mut step = crate::small_step(crate::cpu());
    let (x, y) = crate::small_batch(7);
    let first: f32 = step.run([("x", &x), ("y", &y)]).unwrap().unpack().unwrap();
    assert!(first.is_finite());
    fail_installation(true).unwrap();
    let refused = std::panic::catch_unwind(|| {
        let x = Tensor::input("other", F32, ["n"]);
        Function::new("other").output("y", &(&x * 2)).compile(crate::cpu()).map(|_| ()).map_err(|e| e.to_string())
    });
    let losses: Vec<lehr::Result<f32>> = (1..=1000)
        .map(|n| {
            let (x, y) = crate::small_batch(n);
            step.run([("x", &x), ("y", &y)])?.unpack()
        })
        .collect();
    fail_installation(false).unwrap();
    let refused = refused.unwrap().unwrap_err();
    assert!(refused.contains("could not be installed"), "the fail-point is armed: {refused}");
    for (n, loss) in losses.into_iter().enumerate() {
        let loss = loss.unwrap_or_else(|e| panic!("batch {}: {e}", n + 1));
        assert!(loss.is_finite(), "batch {}: {loss}", n + 1);
    }
}
