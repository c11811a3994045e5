use multicore_simulator::*;
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let cells = Cell::promised(n);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let lines = std::sync::Mutex::new(vec![String::new(); cells.len()]);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| loop {
        let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let Some(cell) = cells.get(i) else { break };
        let requests = cell.traffic.requests();
        let base = simulate(&cell.world, Policy::Sequential, &requests, 1005);
        let seq = simulate(&cell.world, Policy::Sequential, &requests, 1000);
        let es = simulate(&cell.world, Policy::EqualSharing, &requests, 1000);
        let o = simulate(&cell.world, Policy::Multicore, &requests, 1000);
        let worst = o.latencies.iter().zip(&base.latencies).map(|(a, b)| *a as i64 - *b as i64).max().unwrap();
        let viol = o.latencies.iter().zip(&base.latencies).filter(|(a, b)| **a > **b + 1_000_000).count();
        let qr = [100, 1000, 5000, 9000, 9900, 9990, 10000].map(|q| o.quantile(q) * 1000 / seq.quantile(q).max(1));
        let (wi, wq) = qr.iter().enumerate().max_by_key(|x| x.1).unwrap();
        lines.lock().unwrap()[i] = format!("{:44} mean {:7} {:7} {:7} p99 {:7} {:7} {:7} worst-q {wq}@{wi} {} viol {viol} worst {worst} {:?}", cell.name, seq.mean()/1000, es.mean()/1000, o.mean()/1000, seq.quantile(9900)/1000, es.quantile(9900)/1000, o.quantile(9900)/1000, if *wq > 1005 { "!!!" } else { "" }, o.watched);
    });
        }
    });
    for l in lines.into_inner().unwrap() {
        println!("{l}");
    }
}
