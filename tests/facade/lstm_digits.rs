//! The LSTM example, a few epochs only.

#[path = "../../examples/lstm_digits/train.rs"]
#[allow(dead_code)]
mod train;

use std::path::Path;

use train::{Config, run};

#[test]
fn an_lstm_learns_to_read_digits_row_by_row() {
    let csv = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits.csv");
    let report = run(&csv, &Config { epochs: 8, ..Config::default() }).unwrap();
    assert!(report.accuracy >= 0.9, "{}", report.accuracy);
    assert!(report.losses[0] > 4.0 * report.losses[report.losses.len() - 1], "{:?}", report.losses);
}
