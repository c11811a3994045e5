//! Prints the tables of the section "Simulation" in `BENCHMARKS.md`, and draws `docs/simulation.svg`.
//!
//! `cargo run --release -p multicore-simulator --example simulate`

mod chart;

use std::path::Path;

use multicore_simulator::{Arrivals, Cell, Outcome, Policy, Scheduler, each, simulate};

use chart::{Chart, Line, Panel};

const LOADS: [u64; 10] = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95];
const CORES: [usize; 6] = [2, 4, 8, 16, 32, 64];
const REQUESTS: usize = 50_000;

fn main() -> std::io::Result<()> {
    policies();
    machines();
    promise();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/simulation.svg");
    std::fs::write(&path, curves())?;
    println!("\ndrawn: docs/simulation.svg");
    Ok(())
}

fn run(cell: &Cell, policies: &[Policy]) -> Vec<Outcome> {
    let requests = cell.traffic.requests();
    policies.iter().map(|policy| simulate(&cell.world, *policy, &requests, 1_000)).collect()
}

fn poisson(cores: usize, load: u64) -> Cell {
    let mut cell = Cell::new(cores, load, Arrivals::Poisson, Scheduler::Fair, REQUESTS);
    // The same requests at every load, only closer together.
    cell.traffic.seed = 1;
    cell
}

fn ms(nanos: u64) -> String {
    let ms = nanos as f64 / 1e6;
    match ms {
        ..10.0 => format!("{ms:.2}"),
        10.0..100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

fn mean_and_p99(outcome: &Outcome) -> String {
    format!("{} / {}", ms(outcome.mean()), ms(outcome.quantile(9_900)))
}

/// Every policy at some loads.
fn policies() {
    let at = [(2, 70), (4, 70), (16, 30), (16, 70), (16, 90), (64, 30), (64, 70), (64, 90)];
    let cells: Vec<Cell> = at.iter().map(|&(cores, load)| poisson(cores, load)).collect();
    let runs = each(&cells, |cell| run(cell, &Policy::ALL));
    let heads: Vec<String> = at.iter().map(|(cores, load)| format!("{cores}, {load}%")).collect();
    println!("mean / p99 in ms at cores, load\n\n| policy | {} |", heads.join(" | "));
    println!("|---|{}", "---|".repeat(at.len()));
    for (index, policy) in Policy::ALL.iter().enumerate() {
        let row: Vec<String> = runs.iter().map(|of| mean_and_p99(&of[index])).collect();
        println!("| {} | {} |", policy.name(), row.join(" | "));
    }
}

/// Other machines and other traffic.
fn machines() {
    let cell = |arrivals, scheduler| Cell::new(16, 70, arrivals, scheduler, REQUESTS);
    let fair = cell(Arrivals::Poisson, Scheduler::Fair);
    let cells = [
        fair.clone(),
        cell(Arrivals::Steps, Scheduler::Fair),
        cell(Arrivals::Bursts, Scheduler::Fair),
        cell(Arrivals::Poisson, Scheduler::RoundRobin),
        cell(Arrivals::Poisson, Scheduler::Siblings),
        fair.clone().with_database(),
        fair.clone().with_others(),
        fair.clone().with_quota(),
        fair.cold(),
    ];
    let compared = [Policy::Sequential, Policy::EqualSharing, Policy::Multicore];
    println!("\nmean / p99 in ms\n\n| machine and traffic | {} |", compared.map(Policy::name).join(" | "));
    println!("|---|---|---|---|");
    for (cell, of) in cells.iter().zip(each(&cells, |cell| run(cell, &compared))) {
        let row: Vec<String> = of.iter().map(mean_and_p99).collect();
        println!("| {} | {} |", cell.name, row.join(" | "));
    }
}

/// The worst any policy does to anybody, against sequential.
fn promise() {
    let compared = [
        Policy::ForkAlways,
        Policy::LoadGate,
        Policy::IdleCount,
        Policy::FewToMany,
        Policy::EqualSharing,
        Policy::Multicore,
    ];
    for (what, cells) in
        [("equal shares, no waits", Cell::monotone(20_000)), ("other", Cell::chaotic(20_000))]
    {
        let runs = each(&cells, |cell| {
            let requests = cell.traffic.requests();
            let alone = simulate(&cell.world, Policy::Sequential, &requests, 1_000);
            let inflated = simulate(&cell.world, Policy::Sequential, &requests, 1_005);
            let of = |policy| simulate(&cell.world, policy, &requests, 1_000).compare(&alone, &inflated);
            (requests.len(), compared.map(of), alone.compare(&alone, &inflated).losers)
        });
        let total: usize = runs.iter().map(|(requests, ..)| requests).sum();
        let alone: usize = runs.iter().map(|(.., losers)| losers).sum();
        println!(
            "\n{} cells with {what}, {total} requests; {alone} lose by half a per cent of cost\n",
            runs.len()
        );
        println!(
            "| policy | worst of median to p99.9 | worst of p1, p10 | requests that lose | by at most, ms |"
        );
        println!("|---|---|---|---|---|");
        for (index, policy) in compared.iter().enumerate() {
            let of = |pick: fn(&multicore_simulator::Comparison) -> u64| {
                runs.iter().map(|(_, of, _)| pick(&of[index])).max().unwrap_or(0) as f64 / 1e3
            };
            let losers: usize = runs.iter().map(|(_, of, _)| of[index].losers).sum();
            let loss = runs.iter().map(|(_, of, _)| of[index].worst_loss).max().unwrap_or(0);
            let loss = if losers == 0 { "none".to_owned() } else { ms(loss.unsigned_abs()) };
            let (high, low) = (of(|it| it.worst_quantile), of(|it| it.worst_low_quantile));
            println!("| {} | {high:.3}x | {low:.3}x | {losers} | {loss} |", policy.name());
        }
    }
}

/// Mean and p99 against load, for each number of cores.
fn curves() -> String {
    let grid = || CORES.iter().flat_map(|&cores| LOADS.iter().map(move |&load| (cores, load)));
    let cells: Vec<Cell> = grid().map(|(cores, load)| poisson(cores, load)).collect();
    let runs = each(&cells, |cell| {
        let of = run(cell, &Policy::ALL);
        of.iter().map(|it| (it.mean() as f64 / 1e6, it.quantile(9_900) as f64 / 1e6)).collect::<Vec<_>>()
    });
    let panel = |cores: usize, pick: fn(&(f64, f64)) -> f64| {
        let line = |index: usize| {
            let here = grid().zip(&runs).filter(|((of, _), _)| *of == cores);
            let points = here.map(|((_, load), of)| (load as f64, pick(&of[index]))).collect();
            Line { policy: Policy::ALL[index], points }
        };
        Panel { title: format!("{cores} cores"), lines: (0..Policy::ALL.len()).map(line).collect() }
    };
    Chart {
        title: "Latency of a request against load, in simulation".to_owned(),
        rows: vec![
            (
                "Mean in ms, against load".to_owned(),
                (0.05, 100.0),
                CORES.map(|cores| panel(cores, |it| it.0)).into(),
            ),
            (
                "99th percentile in ms, against load".to_owned(),
                (0.5, 1_000.0),
                CORES.map(|cores| panel(cores, |it| it.1)).into(),
            ),
        ],
    }
    .draw()
}
