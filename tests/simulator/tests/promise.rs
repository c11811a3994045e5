//! The promise of admission, over more than a million requests: nobody is worse off with the pool.

use multicore_simulator::{Cell, Comparison, Outcome, Policy, each, simulate};

/// A chunk of a helper may take this long, and one item more.
const LONGEST_CHUNK: u64 = 200_000;
/// What items may cost beyond what is known of their route, in per cent: requests of a route differ.
const UNCERTAIN: u64 = 300;

struct Run {
    name: String,
    requests: usize,
    pool: Outcome,
    compared: Comparison,
    /// The sequential run against itself at half a per cent more cost.
    alone: Comparison,
}

fn runs(cells: &[Cell]) -> Vec<Run> {
    each(cells, |cell| {
        let requests = cell.traffic.requests();
        let alone = simulate(&cell.world, Policy::Sequential, &requests, 1_000);
        let inflated = simulate(&cell.world, Policy::Sequential, &requests, 1_005);
        let pool = simulate(&cell.world, Policy::Multicore, &requests, 1_000);
        Run {
            name: cell.name.clone(),
            requests: requests.len(),
            compared: pool.compare(&alone, &inflated),
            alone: alone.compare(&alone, &inflated),
            pool,
        }
    })
}

/// What holds whatever the machine is like.
fn assert_takes_only_what_is_idle(run: &Run) {
    let watched = run.pool.watched;
    assert_eq!(watched.wakes_when_busy, 0, "{}: woken while all cores were busy", run.name);
    assert_eq!(watched.claims_when_crowded, 0, "{}: stayed for another chunk", run.name);
    let most = LONGEST_CHUNK * UNCERTAIN / 100;
    assert!(watched.longest_chunk <= most, "{}: a chunk of {} ns", run.name, watched.longest_chunk);
}

#[test]
fn no_request_is_slower_than_alone_at_half_a_per_cent_more_cost_and_a_millisecond() {
    let runs = runs(&Cell::monotone(20_000));
    for run in &runs {
        assert_takes_only_what_is_idle(run);
        assert_eq!(run.compared.losers, 0, "{}: the worst by {} ns", run.name, run.compared.worst_loss);
        let worst = run.compared.worst_quantile;
        assert!(worst <= 1_005, "{}: a quantile at {worst} thousandths", run.name);
    }
    assert!(runs.iter().map(|run| run.requests).sum::<usize>() >= 1_000_000);
    assert!(runs.iter().all(|run| run.pool.watched.wakes > 0), "somebody was helped everywhere");
}

#[test]
fn where_any_change_makes_losers_the_pool_makes_few_and_no_quantile_is_worse() {
    for run in runs(&Cell::chaotic(6_000)) {
        assert_takes_only_what_is_idle(&run);
        let worst = run.compared.worst_quantile;
        assert!(worst <= 1_005, "{}: a quantile at {worst} thousandths", run.name);
        // Half a per cent less cost alone already makes losers of some.
        let allowed = run.alone.losers * 5 / 4 + run.requests / 200;
        assert!(run.compared.losers <= allowed, "{}: {} losers", run.name, run.compared.losers);
    }
}
