//! The error of elementary functions, as compiled code computes them.

#[path = "../../examples/accuracy/sweep.rs"]
#[allow(dead_code)]
mod sweep;

use lehr::Vectors;
use sweep::{functions, worst};

/// Every 257th of all arguments; `cargo run --release --example accuracy` takes them all.
#[test]
fn elementary_functions_are_within_their_bounds() {
    let _turn = crate::alone();
    let all = functions();
    assert!(all.len() >= 20, "only {} functions", all.len());
    for f in all {
        let found = worst(&f, 257, Vectors::Auto).unwrap();
        println!("{:10} {:.4} ULP at {:e}, bound {}", f.name, found.ulp, found.at, f.bound);
        assert!(found.ulp <= f.bound, "{}: {} ULP at {:e}, bound {}", f.name, found.ulp, found.at, f.bound);
    }
}
