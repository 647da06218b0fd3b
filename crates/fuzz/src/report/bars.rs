//! Histograms as SVG: one bar per bucket, whose bounds double.

use std::fmt::Write as _;
use std::time::Duration;

use super::milliseconds;

/// Of a plot, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;
/// Margins for the axis labels.
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 20.0;
const TOP: f64 = 8.0;

/// Bars of these counts, each up to its time; empty when there is nothing to show. Both axes are
/// logarithmic, since few values are long.
#[expect(clippy::cast_precision_loss, reason = "drawn in pixels")]
pub(super) fn bars(title: &str, buckets: &[(Duration, u64)]) -> String {
    let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let full = ((most + 1) as f64).ln();
    let width = (WIDTH - LEFT - 8.0) / buckets.len() as f64;
    let mut svg = format!(
        "<figure><figcaption>{title}</figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{most}</text>",
        LEFT - 6.0,
        TOP + 8.0
    );
    for (at, (to, count)) in buckets.iter().enumerate() {
        let height = ((count + 1) as f64).ln() / full * (HEIGHT - BOTTOM - TOP);
        let (x, y) = (LEFT + at as f64 * width, HEIGHT - BOTTOM - height);
        let to = milliseconds(*to);
        let label = match to {
            short if short < 10.0 => format!("{short:.1}"),
            long => format!("{long:.0}"),
        };
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" \
             fill=\"#2a6fb0\"><title>{count}, up to {label} ms</title></rect>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            (width - 2.0).max(1.0),
            x + width - 2.0,
            HEIGHT - 4.0
        );
    }
    svg.push_str("</svg></figure>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_bar_and_the_highest_has_full_height() {
        let bucket = |ms, count| (Duration::from_millis(ms), count);
        let svg = bars("t", &[bucket(1, 1_000), bucket(2, 0), bucket(4, 1)]);
        let heights = svg.split("<rect").skip(1).map(|bar| {
            let height = bar.split(" height=\"").nth(1).expect("a height");
            let height = height.split('"').next().expect("it ends");
            height.parse::<f64>().expect("a number")
        });
        let heights: Vec<f64> = heights.collect();
        let [highest, nothing, one] = heights[..] else {
            panic!("three bars: {svg}");
        };
        assert!((highest - (HEIGHT - BOTTOM - TOP)).abs() < 0.1, "{svg}");
        assert!(nothing < 0.1 && one > 10.0, "one of 1,000 is seen: {svg}");
        assert_eq!(bars("t", &[bucket(1, 0)]), "");
    }
}
