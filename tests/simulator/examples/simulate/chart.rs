//! The picture: small panels with a logarithmic axis upwards, as SVG. It brings its own background, light
//! or dark as the reader's system is, so it can be read on any page.

use std::fmt::Write;

use multicore_simulator::Policy;

const WIDTH: f64 = 960.0;
const COLUMNS: usize = 3;
const LEFT: f64 = 52.0;
const PANEL: (f64, f64) = (262.0, 150.0);
const GAP: (f64, f64) = (36.0, 46.0);
const TOP: f64 = 112.0;
/// Above each group of panels, for its heading.
const HEADING: f64 = 34.0;
const LOADS: (f64, f64) = (10.0, 100.0);

const STYLE: &str = "
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 17px; font-weight: 600 }
.heading { font-size: 14px; font-weight: 600 }
.panel { font-weight: 600 }
.page { fill: #ffffff }
.grid { stroke: #d8dee4; stroke-width: 1 }
.frame { fill: none; stroke: #8c959f }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.sequential { stroke: #57606a; stroke-width: 2 }
.fork { stroke: #d55e00 }
.gate { stroke: #d55e00; stroke-dasharray: 2 4; stroke-width: 2.4 }
.idle { stroke: #cc79a7 }
.few { stroke: #d79b00 }
.equal { stroke: #009e73; stroke-dasharray: 7 4; stroke-width: 2 }
.multicore { stroke: #0969da; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .page { fill: #0d1117 }
  .grid { stroke: #30363d }
  .sequential { stroke: #afb8c1 }
  .equal { stroke: #2ec4a0 }
  .multicore { stroke: #58a6ff }
}
";

/// One policy in one panel: latencies in milliseconds over load in per cent.
pub(crate) struct Line {
    pub(crate) policy: Policy,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One number of cores.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
}

/// A heading, the range of milliseconds, and the panels under it.
pub(crate) type Group = (String, (f64, f64), Vec<Panel>);

/// The whole picture.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) rows: Vec<Group>,
}

fn class(policy: Policy) -> &'static str {
    match policy {
        Policy::Sequential => "sequential",
        Policy::ForkAlways => "fork",
        Policy::LoadGate => "gate",
        Policy::IdleCount => "idle",
        Policy::FewToMany => "few",
        Policy::EqualSharing => "equal",
        Policy::Multicore => "multicore",
    }
}

impl Chart {
    pub(crate) fn draw(&self) -> String {
        let mut body = String::new();
        let mut y = TOP;
        for (heading, range, panels) in &self.rows {
            let _ = writeln!(body, r#"<text class="heading" x="{LEFT}" y="{:.0}">{heading}</text>"#, y);
            y += HEADING;
            for row in panels.chunks(COLUMNS) {
                for (column, panel) in row.iter().enumerate() {
                    let x = LEFT + column as f64 * (PANEL.0 + GAP.0);
                    panel.draw(&mut body, (x, y), *range, column == 0);
                }
                y += PANEL.1 + GAP.1;
            }
            y += 6.0;
        }
        let height = y - 14.0;
        let title = &self.title;
        let legend = legend();
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" role="img" aria-label="{title}">
<style>{STYLE}</style>
<rect class="page" width="{WIDTH}" height="{height:.0}" rx="6"/>
<text class="title" x="{LEFT}" y="30">{title}</text>
{legend}{body}</svg>
"##
        )
    }
}

fn legend() -> String {
    let mut legend = String::new();
    // Ours first.
    for (index, policy) in Policy::ALL.iter().rev().enumerate() {
        let x = LEFT + (index % 4) as f64 * 222.0;
        let y = 54.0 + (index / 4) as f64 * 22.0;
        let (to, text, class) = (x + 34.0, x + 42.0, class(*policy));
        let _ = writeln!(
            legend,
            r#"<path class="line {class}" d="M{x:.0} {y:.0}H{to:.0}"/><text x="{text:.0}" y="{:.0}">{}</text>"#,
            y + 4.0,
            policy.name()
        );
    }
    legend
}

impl Panel {
    fn draw(&self, body: &mut String, (x, y): (f64, f64), range: (f64, f64), is_first: bool) {
        let (width, height) = PANEL;
        let across = |load: f64| x + (load - LOADS.0) / (LOADS.1 - LOADS.0) * width;
        let decades = (range.1 / range.0).log10();
        let up = |ms: f64| y + height - (ms.clamp(range.0, range.1) / range.0).log10() / decades * height;
        let (right, bottom) = (x + width, y + height);
        let mut decade = 10_f64.powf(range.0.log10().ceil());
        while decade <= range.1 {
            let at = up(decade);
            let _ = writeln!(body, r#"<path class="grid" d="M{x:.1} {at:.1}H{right:.1}"/>"#);
            if is_first {
                let (x, y) = (x - 7.0, at + 4.0);
                let _ = writeln!(body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="end">{decade}</text>"#);
            }
            decade *= 10.0;
        }
        for load in [20.0, 40.0, 60.0, 80.0, 100.0] {
            let at = across(load);
            let _ = writeln!(body, r#"<path class="grid" d="M{at:.1} {y:.1}V{bottom:.1}"/>"#);
            let (y, unit) = (bottom + 16.0, if load == 100.0 { " %" } else { "" });
            let _ =
                writeln!(body, r#"<text x="{at:.1}" y="{y:.1}" text-anchor="middle">{load}{unit}</text>"#);
        }
        let _ = writeln!(
            body,
            r#"<rect class="frame" x="{x:.1}" y="{y:.1}" width="{width}" height="{height}"/>"#
        );
        for line in &self.lines {
            let mut path = String::new();
            for (index, (load, ms)) in line.points.iter().enumerate() {
                let step = if index == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{step}{:.1} {:.1}", across(*load), up(*ms));
            }
            let _ = writeln!(body, r#"<path class="line {}" d="{path}"/>"#, class(line.policy));
        }
        let _ =
            writeln!(body, r#"<text class="panel" x="{:.1}" y="{:.1}">{}</text>"#, x, y - 6.0, self.title);
    }
}
