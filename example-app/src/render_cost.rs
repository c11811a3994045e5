//! A render cost chosen by the caller, to try what parallel lists do for a cost like one's own.
//! Real rendering is in [`users`](crate::users) and [`articles`](crate::articles).

use std::time::{Duration, Instant};

/// Keeps this core computing for `us` microseconds of the monotonic clock; 0 returns at once.
///
/// It spins and never gives the core up, as a render does, and overshoots by one clock reading
/// (well under a microsecond) when the thread is not preempted. Time for which the thread is
/// preempted counts, as the clock is not a CPU clock.
pub fn render_us(us: u64) {
    if us == 0 {
        return;
    }
    let cost = Duration::from_micros(us);
    let start = Instant::now();
    while start.elapsed() < cost {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spends_at_least_the_time_asked_for() {
        let start = Instant::now();
        render_us(0);
        render_us(300);
        assert!(start.elapsed() >= Duration::from_micros(300));
    }
}
