//! Line charts as SVG: panels in a grid, a common legend, lines labelled at their ends. Readable on light
//! and on dark pages, since the picture brings its own background for both. Knows nothing of what it
//! draws.

use std::fmt::Write;

/// One line: a name, and a value at each place of the horizontal axis where there is one.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// Which of the style's colours, from 0.
    pub(crate) colour: usize,
    pub(crate) values: Vec<Option<f64>>,
}

pub(crate) struct Panel {
    pub(crate) title: String,
    /// What the vertical axis counts, with its unit.
    pub(crate) unit: &'static str,
    /// Equal factors have equal heights; else the axis starts at 0.
    pub(crate) logarithmic: bool,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Chart {
    pub(crate) title: String,
    /// What the horizontal axis counts, with its unit.
    pub(crate) across: &'static str,
    /// The places on it, equally far from each other.
    pub(crate) places: Vec<String>,
    pub(crate) columns: usize,
    pub(crate) panels: Vec<Panel>,
}

/// A panel's cell in the grid, and the plot within it.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 108.0;
const TOP: f64 = 42.0;
const BOTTOM: f64 = 44.0;
/// The title's height.
const HEAD: f64 = 40.0;
/// How far apart labels must be to be read.
const LABEL: f64 = 13.0;

/// Colours that colour-blind people can tell apart (Okabe and Ito), a shade lighter on dark.
const STYLE: &str = "
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 } .panel { font-weight: 600 } .small { font-size: 11px; fill: #57606a }
.page { fill: #ffffff } .grid { stroke: #d0d7de } .line { fill: none; stroke-width: 2 }
.s0 { stroke: #57606a } .s1 { stroke: #b35a00 } .s2 { stroke: #9a4a80 } .s3 { stroke: #007a5a } .s4 { stroke: #0060a8; stroke-width: 3 }
path.join { fill: none; stroke-width: .6 }
.f0 { fill: #57606a } .f1 { fill: #b35a00 } .f2 { fill: #9a4a80 } .f3 { fill: #007a5a } .f4 { fill: #0060a8; font-weight: 600 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 } .page { fill: #0d1117 } .grid { stroke: #30363d }
.s0 { stroke: #b1bac4 } .s1 { stroke: #f0a030 } .s2 { stroke: #e59ac8 } .s3 { stroke: #3fc79a } .s4 { stroke: #58b0f5 }
.f0 { fill: #b1bac4 } .f1 { fill: #f0a030 } .f2 { fill: #e59ac8 } .f3 { fill: #3fc79a } .f4 { fill: #58b0f5 }
}
";

/// The picture.
pub(crate) fn svg(chart: &Chart) -> String {
    let rows = chart.panels.len().div_ceil(chart.columns);
    let (width, height) = (chart.columns as f64 * WIDTH, HEAD + rows as f64 * HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"16\" y=\"26\">{title}</text>\n",
        title = escape(&chart.title)
    );
    for (index, panel) in chart.panels.iter().enumerate() {
        let x = (index % chart.columns) as f64 * WIDTH;
        let y = HEAD + (index / chart.columns) as f64 * HEIGHT;
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        draw(&mut out, chart, panel);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, chart: &Chart, panel: &Panel) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let values = || panel.lines.iter().flat_map(|line| line.values.iter().copied().flatten());
    let ticks = if panel.logarithmic { decades(values()) } else { steps(values()) };
    let (Some(&low), Some(&high)) = (ticks.first(), ticks.last()) else { return };
    let scale = |value: f64| if panel.logarithmic { value.log10() } else { value };
    let up = |value: f64| bottom - (scale(value) - scale(low)) / (scale(high) - scale(low)) * (bottom - TOP);
    let step = (right - LEFT - 16.0) / (chart.places.len().max(2) - 1) as f64;
    let across = |place: usize| LEFT + 8.0 + place as f64 * step;

    let _ = writeln!(out, "<text class=\"panel\" x=\"{LEFT}\" y=\"14\">{}</text>", escape(&panel.title));
    let _ = writeln!(out, "<text class=\"small\" x=\"{LEFT}\" y=\"31\">{}</text>", escape(panel.unit));
    for tick in ticks {
        let y = up(tick);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text class=\"small\" x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            number(tick)
        );
    }
    for (place, name) in chart.places.iter().enumerate() {
        let _ = writeln!(
            out,
            "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            across(place),
            bottom + 16.0,
            escape(name)
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(LEFT, right),
        bottom + 32.0,
        escape(chart.across)
    );

    let mut labels = Vec::new();
    for line in &panel.lines {
        let mut path = String::new();
        let mut end = None;
        for (place, value) in line.values.iter().enumerate() {
            let Some(value) = value else { continue };
            let (x, y) = (across(place), up(*value));
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
            let _ =
                writeln!(out, "<circle class=\"f{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>", line.colour);
            end = Some((x, y));
        }
        let _ = writeln!(out, "<path class=\"line s{}\" d=\"{path}\"/>", line.colour);
        if let Some((x, y)) = end {
            labels.push((x, y, line));
        }
    }
    // Labels that would lie on each other are moved down, and all of them up again if the last is too low.
    labels.sort_by(|(_, one, _), (_, other, _)| one.total_cmp(other));
    let mut places: Vec<f64> = Vec::new();
    for (_, y, _) in &labels {
        places.push(places.last().map_or(*y, |last| y.max(last + LABEL)));
    }
    let over = places.last().map_or(0.0, |last| (last - bottom).max(0.0));
    for ((x, y, line), place) in labels.into_iter().zip(places) {
        let place = place - over;
        let _ = writeln!(
            out,
            "<path class=\"join s{colour}\" d=\"M{:.1} {y:.1}L{:.1} {place:.1}\"/><text class=\"f{colour}\" \
             x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 3.0,
            right + 8.0,
            right + 11.0,
            place + 4.0,
            escape(line.name),
            colour = line.colour
        );
    }
}

/// The powers of ten around the values, with what lies between where there are few.
fn decades(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| *value > 0.0) {
        (low, high) = (low.min(value), high.max(value));
    }
    if low > high {
        return Vec::new();
    }
    let between: &[f64] = if high / low > 300.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let mut ticks = Vec::new();
    for power in low.log10().floor() as i32 - 1..=high.log10().ceil() as i32 + 1 {
        ticks.extend(between.iter().map(|part| part * 10_f64.powi(power)));
    }
    // From the last that is not above all values to the first that is not below.
    let first = ticks.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let last = ticks.iter().position(|tick| *tick >= high).unwrap_or(ticks.len() - 1).max(first + 1);
    ticks[first..=last].to_vec()
}

/// 0 to what is above all values, in four or five round steps.
fn steps(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let high = values.fold(0.0, f64::max);
    if high <= 0.0 {
        return Vec::new();
    }
    let rough = high / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|part| part * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    (0..=(high / step).ceil() as u32).map(|count| f64::from(count) * step).collect()
}

fn number(value: f64) -> String {
    let text = if value >= 10.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    match text.split_once('.') {
        Some((whole, part)) => match part.trim_end_matches('0') {
            "" => whole.to_owned(),
            part => format!("{whole}.{part}"),
        },
        None if value >= 10_000.0 => format!("{}k", value / 1e3),
        None => text,
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
