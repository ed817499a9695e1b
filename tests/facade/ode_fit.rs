//! The example that fits a differential equation, with fewer observations.

#[path = "../../examples/ode_fit/fit.rs"]
#[allow(dead_code)]
mod fit;
#[path = "../../examples/ode_fit/plot.rs"]
mod plot;

use fit::{Config, TRUE, run};

#[test]
fn parameters_are_found_again() {
    let fit = run(&Config { points: 25, noise: 0.01, ..Config::default() }).unwrap();
    assert!(fit.converged, "{} iterations", fit.iterations);
    for (found, want) in fit.found.iter().zip(TRUE) {
        assert!((found / want - 1.0).abs() < 0.05, "{:?}", fit.found);
    }
    let svg = plot::svg(&fit);
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<circle").count(), 50);
}
