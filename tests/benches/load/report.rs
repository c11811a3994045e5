//! What is made of the numbers: targets met or missed, tables, charts, and where they are written.
//! A run that was whole replaces its own sections of `BENCHMARKS.md`; any other one is left beside the
//! build's output.

use std::fmt::Write;
use std::path::Path;

use crate::Outcome;
use crate::chart::{Chart, Line, Panel, svg};
use crate::documents::{commit, section};
use crate::plan::{Cell, Contestant, Page, Plan, Site};
use crate::results::{Results, Slot, Spread, folder};

use Contestant::{JoinSet, Multicore, Plain, Rayon, SpawnBlocking};

const SITES: [Site; 2] = [Site::Sqlite, Site::Postgres];

type Number = fn(&Slot) -> f64;
const PER_SECOND: Number = |slot| slot.per_second;
const MEAN: Number = |slot| slot.mean_ms;
const P50: Number = |slot| slot.p50_ms;
const P99: Number = |slot| slot.p99_ms;
const LIGHT: Number = |slot| slot.light_p99_ms;

/// Prints the report and writes it down. `whole`: into the documents.
pub(crate) fn write(plan: &Plan, results: &Results, machine: &str, generator: &str, whole: bool) -> Outcome {
    let origin = format!(
        "`{}` at {}; {machine}; {generator}. Server, database and generators share the cores.",
        plan.command(),
        commit()
    );
    let targets = targets(plan, results);
    let mut curve = format!("{origin}\n\n{METHOD}\n\n{targets}");
    for site in SITES {
        curve.push_str(&summary(plan, results, site));
    }
    let limits = format!("{origin}\n\n{}", limits(plan, results));
    let every = format!("# The load curve, every cell\n\n{origin}\n\n{EVERY}\n{}", every(plan, results));
    println!("\n{curve}\n{limits}");

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let docs = if whole { root.join("docs") } else { folder() };
    let put = |path: &Path, text: &str| {
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(&docs).map_err(|error| format!("no docs folder: {error}"))?;
    for site in SITES {
        if let Some(chart) = chart(plan, results, site) {
            put(&docs.join(picture(site)), &svg(&chart))?;
        }
    }
    put(&docs.join("load.md"), &every)?;
    if !whole {
        put(&folder().join("report.md"), &format!("{curve}\n{limits}"))?;
        println!(
            "\nNot the whole run, so BENCHMARKS.md stays as it is. Tables and charts are in target/tmp/load."
        );
        return Ok(());
    }
    let path = root.join("BENCHMARKS.md");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("no BENCHMARKS.md: {error}"))?;
    let text = section(&section(&text, "load", &curve)?, "limits", &limits)?;
    put(&path, &text)?;
    println!("\nWritten into BENCHMARKS.md and docs/.");
    Ok(())
}

const METHOD: &str = "\
`wrk` asks one list over 1 to 4 x cores connections that never pause; a second `wrk` asks a neighbour that answers \
`ok` over one connection, 1 to 3 ms after each answer. Each contestant is a server process of its own over the same \
database, takes its turn in every round, in another order each time, and was checked to answer the same bytes. \
Values are medians over rounds; ratios are of the same round, with the extremes in brackets. Lists a second are \
complete answers where rows cost nothing; where they cost something, rows rendered over rows of a page, since answers \
under way at the window's end would be up to a tenth of it. Mean times are connections over rate; percentiles are \
`wrk`'s, which adds samples for what a stalled connection would have asked. `plain` is axum, `fetch_all` and `Json`; \
`rayon` and `spawn_blocking` render what `fetch_all` gave elsewhere; `JoinSet` reads and renders a range a core over \
the pool. [Every cell](docs/load.md).";

const EVERY: &str = "\
Medians over rounds. Lists a second also as a ratio to `plain` of the same round, with the extremes. Times in ms; \
`light` is the neighbour. `n` is the number of answers behind the percentiles of one turn: below 100, the 99th is \
the slowest.";

fn picture(site: Site) -> &'static str {
    if site == Site::Sqlite { "load-sqlite.svg" } else { "load-postgresql.svg" }
}

/// What was promised, and what came of it.
fn targets(plan: &Plan, results: &Results) -> String {
    let mut rows = Vec::new();
    let mut missed = 0;
    let mut check = |what: &str, site: Site, cell: &Cell, is: Option<Spread>, target: f64, least: bool| {
        let Some(is) = is else { return };
        let over = if least { is.median / target - 1.0 } else { 1.0 - is.median / target };
        missed += usize::from(over < 0.0);
        let verdict = if over >= 0.0 { "met" } else { "**missed**" };
        let word = if least { "at least" } else { "at most" };
        rows.push(format!(
            "| {}, {}, c = {} | {what} | {word} {target}x | {is} | {verdict} by {:.1}% |",
            site.name(),
            cell.page,
            cell.connections,
            over.abs() * 100.0
        ));
    };
    for site in SITES {
        for cell in plan.cells(site).iter().filter(|cell| !cell.limit) {
            let us = cell.page.render_us;
            if cell.connections == 1 && us > 0 {
                let target = if us >= 200 { 1.9 } else { 1.75 };
                let is = results.ratio(site, cell, Multicore, Plain, PER_SECOND);
                check("lists a second, ours / plain", site, cell, is, target, true);
            }
            if plan.saturated(cell.connections) {
                let is = results.ratio(site, cell, Multicore, Plain, PER_SECOND);
                check("lists a second, ours / plain", site, cell, is, 0.995, true);
                let is = results.ratio(site, cell, Multicore, Plain, P99);
                check("list p99, ours / plain", site, cell, is, 1.05, false);
                for (peer, what) in
                    [(Plain, "light p99, plain / ours"), (JoinSet, "light p99, JoinSet / ours")]
                {
                    let is = results.ratio(site, cell, peer, Multicore, LIGHT);
                    check(what, site, cell, is, 5.0, true);
                }
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let (met, all) = (rows.len() - missed, rows.len());
    format!(
        "Targets: {met} of {all} met.\n\n| | | target | is | |\n|---|---|---|---|---|\n{}\n",
        rows.join("\n")
    )
}

/// The two ends of the curve, and the picture of it.
fn summary(plan: &Plan, results: &Results, site: Site) -> String {
    let mut text = String::new();
    for (heading, wanted) in [("One connection", false), ("4 x cores connections", true)] {
        let mut rows = String::new();
        for cell in plan.cells(site).iter().filter(|cell| {
            !cell.limit && if wanted { plan.saturated(cell.connections) } else { cell.connections == 1 }
        }) {
            let value = |who, number, digits| show(results.value(site, cell, who, number), digits);
            let ratio = |who| results.ratio(site, cell, who, Plain, PER_SECOND);
            let Some(ours) = ratio(Multicore) else { continue };
            let median = |who| ratio(who).map_or("-".to_owned(), |spread| format!("{:.2}x", spread.median));
            let _ = writeln!(
                rows,
                "| {} | {} | {ours} | {}, {}, {} | {}, {} | {}, {} | {}, {}, {} |",
                cell.page,
                value(Plain, PER_SECOND, 1),
                median(Rayon),
                median(SpawnBlocking),
                median(JoinSet),
                value(Plain, MEAN, 1),
                value(Multicore, MEAN, 1),
                value(Plain, P99, 1),
                value(Multicore, P99, 1),
                value(Plain, LIGHT, 2),
                value(JoinSet, LIGHT, 2),
                value(Multicore, LIGHT, 2),
            );
        }
        if !rows.is_empty() {
            let _ = write!(
                text,
                "\n### {}: {heading}\n\n| rows x µs a row | lists/s plain | ours / plain | rayon, spawn_blocking, JoinSet \
                 / plain | mean ms plain, ours | p99 ms plain, ours | light p99 ms plain, JoinSet, ours |\n\
                 |---|---|---|---|---|---|---|\n{rows}",
                site.name()
            );
        }
    }
    if chart(plan, results, site).is_some() {
        let _ = write!(text, "\n![Load curves over {}](docs/{})\n", site.name(), picture(site));
    }
    text
}

/// Small pages, sorts and far databases, beside what the main cells say of a busy server.
fn limits(plan: &Plan, results: &Results) -> String {
    let mut rows = String::new();
    for site in [Site::Sqlite, Site::Postgres, Site::Distant] {
        for cell in plan.cells(site) {
            let small = cell.connections == 1 && cell.page.rows <= 100 && cell.page.render_us == 0;
            let busy = plan.saturated(cell.connections) && cell.page.rows == 1_000;
            if !(cell.limit || small || busy) {
                continue;
            }
            let Some(ours) = results.ratio(site, &cell, Multicore, Plain, PER_SECOND) else { continue };
            let why = match () {
                () if site == Site::Distant => "the database is far away",
                () if cell.page.sorted => "no index has the order",
                () if busy => "all cores are busy",
                () => "the page is small",
            };
            let joined = results.ratio(site, &cell, JoinSet, Plain, PER_SECOND);
            let _ = writeln!(
                rows,
                "| {why} | {} | {} | {} | {} | {ours} | {} |",
                site.name(),
                cell.page,
                cell.connections,
                show(results.value(site, &cell, Plain, MEAN), 2),
                joined.map_or("-".to_owned(), |spread| spread.to_string())
            );
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "| why | database | rows x µs a row | connections | mean ms plain | lists/s, ours / plain | JoinSet / plain |\n\
         |---|---|---|---|---|---|---|\n{rows}"
    )
}

fn every(plan: &Plan, results: &Results) -> String {
    let mut text = String::new();
    for site in [Site::Sqlite, Site::Postgres, Site::Distant] {
        let mut rows = String::new();
        for cell in plan.cells(site) {
            for who in Contestant::ALL {
                if results.value(site, &cell, who, PER_SECOND).is_none() {
                    continue;
                }
                let value = |number, digits| show(results.value(site, &cell, who, number), digits);
                let ratio = results.ratio(site, &cell, who, Plain, PER_SECOND);
                let _ = writeln!(
                    rows,
                    "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                    cell.page,
                    cell.connections,
                    who.name(),
                    value(PER_SECOND, 1),
                    ratio.map_or("-".to_owned(), |spread| spread.to_string()),
                    value(MEAN, 2),
                    value(P50, 2),
                    value(P99, 2),
                    value(LIGHT, 2),
                    value(|slot| slot.requests, 0),
                );
            }
        }
        if !rows.is_empty() {
            let _ = write!(
                text,
                "\n## {}\n\n| rows x µs a row | connections | | lists/s | / plain | mean | p50 | p99 | light p99 | n |\n\
                 |---|---|---|---|---|---|---|---|---|---|\n{rows}",
                site.name()
            );
        }
    }
    text
}

/// Throughput, and the neighbour's wait, against connections. Nothing where fewer than two were measured.
fn chart(plan: &Plan, results: &Results, site: Site) -> Option<Chart> {
    let cells = plan.cells(site);
    let measured = |cell: &Cell| !cell.limit && results.value(site, cell, Plain, PER_SECOND).is_some();
    let mut connections: Vec<usize> =
        cells.iter().filter(|cell| measured(cell)).map(|cell| cell.connections).collect();
    connections.sort_unstable();
    connections.dedup();
    if connections.len() < 2 {
        return None;
    }
    let mut pages: Vec<Page> = cells.iter().filter(|cell| measured(cell)).map(|cell| cell.page).collect();
    pages.dedup();
    pages.retain(|page| page.rows == 1_000);
    let numbers: [(&str, &str, bool, Number); 3] = [
        ("throughput", "lists a second", false, PER_SECOND),
        ("list p99", "ms, logarithmic", true, P99),
        ("light neighbour's p99", "ms, logarithmic", true, LIGHT),
    ];
    let mut panels = Vec::new();
    for (name, unit, logarithmic, number) in numbers {
        for page in &pages {
            let lines = Contestant::ALL.into_iter().enumerate().map(|(colour, who)| {
                let values = connections.iter().map(|connections| {
                    let cell = Cell { page: *page, connections: *connections, limit: false };
                    Some(results.value(site, &cell, who, number)?.median)
                });
                Line { name: who.name(), colour, values: values.collect() }
            });
            panels.push(Panel {
                title: format!("{page} µs: {name}"),
                unit,
                logarithmic,
                lines: lines.collect(),
            });
        }
    }
    Some(Chart {
        title: format!(
            "{}, {} cores: a list under load (rows x µs of rendering a row)",
            site.name(),
            plan.cores()
        ),
        across: "connections",
        places: connections.iter().map(ToString::to_string).collect(),
        columns: pages.len().max(1),
        panels,
    })
}

fn show(value: Option<Spread>, digits: usize) -> String {
    value.map_or("-".to_owned(), |spread| {
        let digits = if spread.median >= 100.0 { 0 } else { digits };
        format!("{:.digits$}", spread.median)
    })
}
