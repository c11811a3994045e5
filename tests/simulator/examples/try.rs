use multicore_simulator::*;
fn main() {
    let args: Vec<usize> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let (cores, load, n) = (args[0], args[1], args[2]);
    for arrivals in
        [Arrivals::Poisson, Arrivals::Bursts].into_iter().take(if args.len() < 4 { 2 } else { args[3] })
    {
        for scheduler in [Scheduler::Fair, Scheduler::RoundRobin] {
            let requests = Traffic {
                requests: n,
                arrivals,
                load: load as u64,
                cores,
                database: 0,
                cold: false,
                seed: 1,
            }
            .requests();
            let world = World::new(cores, scheduler);
            let base = simulate(&world, Policy::Sequential, &requests, 1005);
            for policy in Policy::ALL.into_iter().filter(|p| {
                args.len() < 4 || matches!(p, Policy::Sequential | Policy::EqualSharing | Policy::Multicore)
            }) {
                let t = std::time::Instant::now();
                let o = simulate(&world, policy, &requests, 1000);
                let worst = o
                    .latencies
                    .iter()
                    .zip(&base.latencies)
                    .map(|(a, b)| *a as i64 - *b as i64)
                    .max()
                    .unwrap();
                let viol =
                    o.latencies.iter().zip(&base.latencies).filter(|(a, b)| **a > **b + 1_000_000).count();
                let q: Vec<_> =
                    [5000, 9000, 9900, 9990, 10000].iter().map(|q| o.quantile(*q) / 1000).collect();
                println!(
                    "{arrivals:?} {scheduler:?} {:24} mean {:6} q {:?} viol {viol} worst {worst} {:?} {:?}",
                    policy.name(),
                    o.mean() / 1000,
                    q,
                    o.watched,
                    t.elapsed()
                );
            }
        }
    }
}
