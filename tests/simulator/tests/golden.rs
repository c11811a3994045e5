//! Latencies by exact value: whoever changes a decision sees here what it changes.

use std::fmt::Write;

use multicore_simulator::{Arrivals, Cell, Policy, Scheduler, each, simulate};

fn table() -> String {
    let mut cells = Vec::new();
    for (cores, load) in [(2, 50), (2, 90), (4, 70), (16, 70), (64, 30), (64, 90)] {
        cells.push(Cell::new(cores, load, Arrivals::Poisson, Scheduler::Fair, 4_000));
    }
    let cell = |arrivals, scheduler| Cell::new(16, 70, arrivals, scheduler, 4_000);
    cells.push(cell(Arrivals::Steps, Scheduler::Fair));
    cells.push(cell(Arrivals::Poisson, Scheduler::RoundRobin));
    cells.push(cell(Arrivals::Poisson, Scheduler::Siblings));
    let fair = cell(Arrivals::Poisson, Scheduler::Fair);
    cells.push(fair.clone().with_database());
    cells.push(fair.clone().with_others());
    cells.push(fair.clone().with_quota());
    cells.push(fair.cold());
    cells.push(Cell::new(2, 70, Arrivals::Bursts, Scheduler::RoundRobin, 4_000));

    let mut table = String::from("# Nanoseconds: mean, median, 99th percentile, longest.\n");
    for lines in each(&cells, |cell| {
        let requests = cell.traffic.requests();
        let mut lines = format!("\n{}\n", cell.name);
        for policy in Policy::ALL {
            let outcome = simulate(&cell.world, policy, &requests, 1_000);
            let [median, p99, longest] = [5_000, 9_900, 10_000].map(|q| outcome.quantile(q));
            let (name, mean) = (policy.name(), outcome.mean());
            writeln!(lines, "{name:<24}{mean:>12}{median:>12}{p99:>14}{longest:>14}").unwrap();
        }
        lines
    }) {
        table.push_str(&lines);
    }
    table
}

#[test]
fn latencies_are_exactly_those_of_the_golden_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");
    let table = table();
    if std::env::var_os("MULTICORE_RENEW_GOLDEN").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (line, (is, was)) in table.lines().zip(golden.lines()).enumerate() {
        assert_eq!(
            is,
            was,
            "line {} of {path}; if decisions were meant to change, renew it with MULTICORE_RENEW_GOLDEN=1 \
             and say in the commit what became better",
            line + 1
        );
    }
    assert_eq!(table.lines().count(), golden.lines().count());
}

#[test]
fn the_targets_are_met() {
    let run = |cores, load| {
        let cell = Cell::new(cores, load, Arrivals::Poisson, Scheduler::Fair, 40_000);
        let requests = cell.traffic.requests();
        let of = |policy| simulate(&cell.world, policy, &requests, 1_000);
        (of(Policy::Sequential), of(Policy::EqualSharing), of(Policy::Multicore))
    };
    let (alone, ideal, pool) = run(16, 70);
    assert!(4 * pool.mean() <= alone.mean() && pool.mean() <= ideal.mean());
    assert!(4 * pool.quantile(9_900) <= alone.quantile(9_900));
    assert!(pool.quantile(9_900) <= ideal.quantile(9_900));
    let (alone, _, pool) = run(64, 90);
    assert!(6 * pool.quantile(9_900) <= alone.quantile(9_900));
}
