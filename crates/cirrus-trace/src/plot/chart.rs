//! Lines over two axes.
//!
//! Owns [`Chart`]: where axes, ticks, labels and the legend stand. Knows nothing of figures.
//! Invariant: shares go up, from 0 to 1 or to the most that is drawn; the legend is above the lines.

use cirrus_plan::svg::{Anchor, Svg};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 52.0;
/// What a letter of a legend takes, at the font's size.
const LETTER: f64 = 7.0;
const INK: &str = "#222222";
const GRID: &str = "#dddddd";

/// A line and what it is.
pub(super) struct Line {
    name: &'static str,
    stroke: &'static str,
    dashed: bool,
    /// Between pieces nothing is drawn.
    pieces: Vec<Vec<[f64; 2]>>,
}

impl Line {
    pub(super) fn solid(
        name: &'static str,
        stroke: &'static str,
        pieces: Vec<Vec<[f64; 2]>>,
    ) -> Self {
        Self { name, stroke, dashed: false, pieces }
    }

    pub(super) fn dashed(
        name: &'static str,
        stroke: &'static str,
        pieces: Vec<Vec<[f64; 2]>>,
    ) -> Self {
        Self { name, stroke, dashed: true, pieces }
    }
}

/// Shares over something.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) across: &'static str,
    pub(super) across_range: [f64; 2],
    pub(super) lines: Vec<Line>,
}

impl Chart {
    pub(super) fn draw(&self) -> String {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        svg.text([LEFT, 22.0], Anchor::Start, self.title);
        let points = self.lines.iter().flat_map(|line| line.pieces.iter().flatten());
        let most = points.map(|point| point[1]);
        let most = most.fold(1.0, f64::max);
        self.axes(&mut svg, most);
        let mut legend = LEFT;
        for line in self.lines.iter().filter(|line| !line.pieces.is_empty()) {
            for piece in &line.pieces {
                let drawn: Vec<_> = piece.iter().map(|point| self.at(*point, most)).collect();
                svg.polyline(&drawn, line.stroke, line.dashed);
            }
            svg.polyline(&[[legend, 42.0], [legend + 22.0, 42.0]], line.stroke, line.dashed);
            svg.text([legend + 28.0, 46.0], Anchor::Start, line.name);
            legend += 28.0 + LETTER * f64::from(u16::try_from(line.name.len()).unwrap_or(0)) + 18.0;
        }
        if self.lines.iter().all(|line| line.pieces.is_empty()) {
            let middle = [(LEFT + WIDTH - RIGHT) / 2.0, (TOP + HEIGHT - BOTTOM) / 2.0];
            svg.text(middle, Anchor::Middle, "not in this trace");
        }
        svg.finish()
    }

    fn axes(&self, svg: &mut Svg, most: f64) {
        let [first, last] = self.across_range;
        for share in ticks([0.0, most]) {
            let [left, y] = self.at([first, share], most);
            svg.line([left, y], [WIDTH - RIGHT, y], GRID);
            svg.text([left - 8.0, y + 4.5], Anchor::End, &format!("{:.0} %", share * 100.0));
        }
        for value in ticks(self.across_range) {
            let [x, bottom] = self.at([value, 0.0], most);
            svg.line([x, bottom], [x, bottom + 5.0], INK);
            // A tick as people write it: 0.3, not 0.30000000000000004.
            let label = (value * 1e6).round() / 1e6;
            svg.text([x, bottom + 20.0], Anchor::Middle, &label.to_string());
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        svg.text([middle, HEIGHT - 10.0], Anchor::Middle, self.across);
        svg.line(self.at([first, 0.0], most), self.at([last, 0.0], most), INK);
        svg.line(self.at([first, 0.0], most), self.at([first, most], most), INK);
    }

    fn at(&self, [across, share]: [f64; 2], most: f64) -> [f64; 2] {
        let [first, last] = self.across_range;
        let x = LEFT + (across - first) / (last - first) * (WIDTH - LEFT - RIGHT);
        let y = HEIGHT - BOTTOM - share / most * (HEIGHT - TOP - BOTTOM);
        [x, y]
    }
}

/// Drawings one above the other, in one.
pub(super) fn stacked(charts: &[String]) -> String {
    let height = HEIGHT * f64::from(u16::try_from(charts.len()).unwrap_or(u16::MAX));
    let mut all = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\">\n"
    );
    for (chart, at) in charts.iter().zip(0u16..) {
        let down = HEIGHT * f64::from(at);
        all += &format!("<g transform=\"translate(0 {down})\">\n{chart}</g>\n");
    }
    all + "</svg>\n"
}

/// Round values in a range, five to ten of them.
pub(super) fn ticks([first, last]: [f64; 2]) -> Vec<f64> {
    let length = last - first;
    let power = 10f64.powf((length / 10.0).log10().floor());
    let fits = |step: &f64| length / step <= 10.0 + 1e-9;
    let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(fits);
    let Some(step) = step.filter(|step| step.is_finite() && *step > 0.0) else {
        return vec![first];
    };
    (0..=10)
        .map(|tick| first + f64::from(tick) * step)
        .filter(|value| *value <= last + step * 1e-9)
        .collect()
}
