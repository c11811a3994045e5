//! What is said of the machine: enough to judge the figures by, nothing that names it.

/// The processor time that the host gave to others, of all.
pub(crate) struct Stolen {
    stolen: u64,
    all: u64,
}

impl Stolen {
    pub(crate) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        Stolen { stolen: ticks.get(7).copied().unwrap_or(0), all: ticks.iter().take(8).sum() }
    }
}

/// The machine in general terms, and how disturbed it was since then.
pub(crate) fn describe(since: &Stolen) -> String {
    let now = Stolen::now();
    let part = (now.stolen - since.stolen) as f64 / (now.all - since.all).max(1) as f64;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (system, kind) = (std::env::consts::OS, std::env::consts::ARCH);
    format!(
        "{cores} cores, {system} {kind}; {:.1}% of their time went to other machines of the host",
        part * 100.0
    )
}
