//! What the example prints.

use std::fmt::Write;

use lehr::Program;
use lehr::prelude::*;

use crate::train::{CLASSES, PIXELS};

/// How often each digit (a row) was taken for each (a column).
pub fn confusion(labels: &[i64], found: &[i64]) -> String {
    let mut counts = [[0; CLASSES]; CLASSES];
    for (&label, &class) in labels.iter().zip(found) {
        counts[label as usize % CLASSES][class as usize % CLASSES] += 1;
    }
    let mut text = "predicted".to_owned();
    for class in 0..CLASSES {
        let _ = write!(text, "{class:>4}");
    }
    for (label, row) in counts.iter().enumerate() {
        let _ = write!(text, "\n  digit {label}");
        for count in row {
            let _ = if *count == 0 { write!(text, "   ·") } else { write!(text, "{count:>4}") };
        }
    }
    text + "\n"
}

/// A few images side by side, each with its label and prediction; wrong ones first.
pub fn digits(data: &Dataset, labels: &[i64], found: &[i64], count: usize) -> lehr::Result<String> {
    let pixels = data.column("x")?.as_slice::<f32>().unwrap_or_default();
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|&i| labels[i] == found[i]);
    order.truncate(count);
    let mut text = String::new();
    for row in (0..8).step_by(2) {
        for &i in &order {
            for column in 0..8 {
                let at = |r: usize| pixels.get(i * PIXELS + 8 * r + column).copied().unwrap_or(0.0);
                let dark = |v: f32| v >= 6.0;
                // Two rows stand in one line of text.
                text.push(match (dark(at(row)), dark(at(row + 1))) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            text.push_str("    ");
        }
        text.push('\n');
    }
    for &i in &order {
        let mark = if labels[i] == found[i] { "" } else { "!" };
        let _ = write!(text, "{:<12}", format!("{} → {}{mark}", labels[i], found[i]));
    }
    Ok(text + "\n")
}

/// The passes that a program went through.
pub fn passes(program: &Program) -> String {
    let mut text = format!("{}\n", program.signature());
    for pass in program.passes() {
        let change = if pass.changed {
            format!("{} -> {}", pass.nodes_before, pass.nodes_after)
        } else {
            "unchanged".to_owned()
        };
        let _ = writeln!(text, "{:<20} {change:<16} {:.2} ms", pass.name, pass.duration.as_secs_f64() * 1e3);
    }
    text
}
