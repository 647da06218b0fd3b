//! Plots as SVG: lines over time, nothing else.

use std::fmt::Write as _;

/// Of a plot, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;
/// Margins for the axis labels.
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 20.0;
const TOP: f64 = 8.0;

/// One line of a plot.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Its label.
    pub(super) label: &'static str,
    /// Seconds and values, in order. Values are not negative.
    pub(super) points: Vec<(f64, f64)>,
    /// Of the stroke.
    pub(super) colour: &'static str,
}

/// A plot of these lines; empty when there is nothing to show.
pub(super) fn plot(title: &str, unit: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    if points().next().is_none() {
        return String::new();
    }
    let last = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let most = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let most = round_up(most);
    let x = |seconds: f64| LEFT + seconds / last * (WIDTH - LEFT - 8.0);
    let y = |value: f64| HEIGHT - BOTTOM - value / most * (HEIGHT - BOTTOM - TOP);

    let mut svg = format!(
        "<figure><figcaption>{title}</figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
    );
    for share in [0.0, 0.5, 1.0] {
        let value = most * share;
        let at = y(value);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\" class=\"grid\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} {unit}</text>",
            LEFT - 6.0,
            at + 4.0,
            number(value)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{0}\">0 s</text>\
         <text x=\"{WIDTH}\" y=\"{0}\" text-anchor=\"end\">{last:.0} s</text>",
        HEIGHT - 4.0
    );
    for line in lines {
        svg.push_str(&polyline(line, &x, &y));
    }
    svg.push_str("</svg>");
    legend(&mut svg, lines);
    svg.push_str("</figure>\n");
    svg
}

fn polyline(line: &Line, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> String {
    let mut points = String::new();
    for (seconds, value) in &line.points {
        let _ = write!(points, "{:.1},{:.1} ", x(*seconds), y(*value));
    }
    let mut svg = format!(
        "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"{}\"/>",
        line.colour,
        points.trim_end()
    );
    // A line needs two points.
    if let [(seconds, value)] = line.points.as_slice() {
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\" fill=\"{}\"/>",
            x(*seconds),
            y(*value),
            line.colour
        );
    }
    svg
}

fn legend(svg: &mut String, lines: &[Line]) {
    if lines.len() < 2 {
        return;
    }
    svg.push_str("<p class=\"legend\">");
    for line in lines {
        let _ = write!(
            svg,
            "<span style=\"color:{}\">&#9632;</span> {} ",
            line.colour, line.label
        );
    }
    svg.push_str("</p>");
}

/// The next of 1, 2, 5, 10, 20, 50, …, as an axis limit.
fn round_up(value: f64) -> f64 {
    let mut step = 1.0;
    loop {
        for nice in [1.0, 2.0, 5.0] {
            if value <= nice * step {
                return nice * step;
            }
        }
        step *= 10.0;
    }
}

fn number(value: f64) -> String {
    match value {
        big if big >= 10_000.0 => format!("{:.0}k", big / 1_000.0),
        whole if (whole - whole.round()).abs() < 1e-9 => format!("{whole:.0}"),
        other => format!("{other:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_round_number() {
        for (value, end) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (3.0, 5.0),
            (11.0, 20.0),
            (9_001.0, 10_000.0),
        ] {
            assert!((round_up(value) - end).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn the_greatest_value_is_within_the_plot_and_an_empty_plot_is_empty() {
        let line = |points| Line {
            label: "a",
            points,
            colour: "#000",
        };
        let svg = plot("t", "", &[line(vec![(0.0, 0.0), (10.0, 7.0)])]);
        let drawn = svg
            .split("points=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        for point in drawn.expect("a line").split(' ') {
            let (x, y) = point.split_once(',').expect("two numbers");
            let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
            assert!((LEFT..=WIDTH).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y));
        }
        assert_eq!(plot("t", "", &[line(vec![])]), "");
    }
}
