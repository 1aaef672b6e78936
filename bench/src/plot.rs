//! A curve as a small SVG picture: one line, dots, both axes labelled, x logarithmic.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 56.0;
/// Lines across the picture.
const STEPS: u32 = 5;

/// What is drawn.
#[derive(Debug, Clone)]
pub struct Curve<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    /// x must be positive.
    pub points: &'a [(f64, f64)],
    /// A horizontal line: what must hold.
    pub limit: Option<(f64, &'a str)>,
}

impl Curve<'_> {
    /// The picture.
    pub fn svg(&self) -> String {
        let limit = self.limit.map_or(0.0, |(limit, _)| limit);
        let highest = self.points.iter().map(|(_, y)| *y).fold(limit, f64::max);
        let top = if highest > 0.0 { highest * 1.15 } else { 1.0 };
        let first = self.points.iter().map(|(x, _)| x.log10()).fold(f64::INFINITY, f64::min);
        let last = self.points.iter().map(|(x, _)| x.log10()).fold(f64::NEG_INFINITY, f64::max);
        let span = (last - first).max(0.1);
        let at_x = |x: f64| LEFT + (x.log10() - first) / span * (WIDTH - LEFT - RIGHT);
        let at_y = |y: f64| HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
            escape(self.title)
        );
        for step in 0..=STEPS {
            let value = top * f64::from(step) / f64::from(STEPS);
            let y = at_y(value);
            line(&mut svg, (LEFT, y), (WIDTH - RIGHT, y), "#dddddd");
            text(&mut svg, (LEFT - 8.0, y + 4.0), "end", &short(value));
        }
        for (x, _) in self.points {
            text(&mut svg, (at_x(*x), HEIGHT - BOTTOM + 18.0), "middle", &short(*x));
        }
        text(&mut svg, (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, HEIGHT - 14.0), "middle", self.x);
        text(&mut svg, (LEFT, TOP - 8.0), "start", self.y);
        if let Some((limit, name)) = self.limit {
            line(&mut svg, (LEFT, at_y(limit)), (WIDTH - RIGHT, at_y(limit)), "#b00020");
            text(&mut svg, (WIDTH - RIGHT, at_y(limit) - 5.0), "end", name);
        }
        let path: Vec<String> = self.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
        push(
            &mut svg,
            &format!("<polyline points=\"{}\" fill=\"none\" stroke=\"#1f4e79\" stroke-width=\"2\"/>", path.join(" ")),
        );
        for (x, y) in self.points {
            push(
                &mut svg,
                &format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"#1f4e79\"/>", at_x(*x), at_y(*y)),
            );
            text(&mut svg, (at_x(*x), at_y(*y) - 9.0), "middle", &short(*y));
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Writes the picture.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, self.svg()).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn push(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
    let drawn =
        writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>");
    drawn.expect("a string takes everything");
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let drawn = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(words));
    drawn.expect("a string takes everything");
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Three digits, whatever the size.
fn short(value: f64) -> String {
    if value >= 100.0 || value == value.trunc() {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_holds_every_point_and_its_limit() {
        let points = [(12.0, 1.0), (120.0, 0.98), (1200.0, 0.9)];
        let limit = Some((0.9, "at least 0.9"));
        let svg = Curve { title: "a < b", x: "partitions", y: "ratio", points: &points, limit }.svg();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("a &lt; b") && svg.contains("at least 0.9") && svg.ends_with("</svg>\n"));
    }
}
