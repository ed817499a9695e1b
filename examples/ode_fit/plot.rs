//! A drawing of data and solution, as SVG.

use std::fmt::Write;

use super::fit::{Fit, Series};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 40.0;
/// Prey and predators.
const COLOURS: [&str; 2] = ["#1f6f8b", "#c0392b"];
const NAMES: [&str; 2] = ["prey", "predators"];

/// The page: dots for data, lines for the solution.
pub fn svg(fit: &Fit) -> String {
    let scale = Scale::of(&[&fit.data, &fit.curve]);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let (left, bottom) = scale.place(0.0, 0.0);
    let (right, top) = scale.place(scale.time, scale.count);
    let _ = writeln!(
        text,
        "<path d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"#444\"/>\n\
         <text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">time {:.0}</text>\n\
         <text x=\"{left:.1}\" y=\"{:.1}\">{:.0}</text>",
        bottom + 16.0,
        scale.time,
        top - 6.0,
        scale.count
    );
    for (i, (colour, name)) in COLOURS.iter().zip(NAMES).enumerate() {
        let points: Vec<String> = scale.points(&fit.curve, i).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            points.join(" ")
        );
        for (x, y) in scale.points(&fit.data, i) {
            let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>");
        }
        let at = top + 14.0 * i as f64;
        let _ =
            writeln!(text, "<text x=\"{right:.1}\" y=\"{at:.1}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>");
    }
    text + "</svg>\n"
}

/// From times and counts to places on the page.
struct Scale {
    time: f64,
    count: f64,
}

impl Scale {
    fn of(all: &[&Series]) -> Self {
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(1e-9, f64::max);
        Self {
            time: most(&mut all.iter().flat_map(|s| s.times.iter().copied())),
            count: most(&mut all.iter().flat_map(|s| s.counts.iter().flatten().copied())),
        }
    }

    fn place(&self, time: f64, count: f64) -> (f64, f64) {
        let x = MARGIN + (WIDTH - 2.0 * MARGIN) * time / self.time;
        (x, HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * count / self.count)
    }

    fn points<'a>(&'a self, series: &'a Series, which: usize) -> impl Iterator<Item = (f64, f64)> + 'a {
        series.times.iter().zip(&series.counts[which]).map(|(&t, &c)| self.place(t, c))
    }
}
