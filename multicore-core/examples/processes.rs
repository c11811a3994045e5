//! Worker processes in one small program: a call an item, ranges, a task that ends its process, and the end.
//!
//! ```sh
//! cargo run --release -p multicore-core --features process --example processes
//! ```

use std::convert::Infallible;
use std::error::Error;
use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use multicore_core::process::{Packed, ProcessStartError, Tasks};
use multicore_core::{Multicore, StartError};

const ITEMS: u64 = 100;

// What follows runs in the worker processes. They are this program as well, so each has these functions; only
// arguments and results cross, and a panic, a crash or a leak stays there.

fn as_string(Packed(item): Packed<u64>) -> Result<String, Infallible> {
    Ok(item.to_string())
}

fn expensive_as_string(item: u64) -> String {
    let text = item.to_string();
    // Stands for a template, a picture, a document.
    for round in 0..2_000_000_u64 {
        black_box(round);
    }
    text
}

/// A range of items is one call: a call costs some microseconds, so many small ones would not be worth it.
fn multi_expensive_as_string(range: Range<u64>) -> Result<String, Infallible> {
    Ok(range.map(expensive_as_string).collect::<Vec<_>>().join(","))
}

fn unlucky(Packed(item): Packed<u64>) -> Result<String, Infallible> {
    if item == 13 {
        eprintln!("no such luck");
        std::process::abort();
    }
    Ok(item.to_string())
}

// And what follows in the program that was started.

fn main() -> Result<(), Box<dyn Error>> {
    // Before anything else: in a worker process it does not return.
    let tasks = Tasks::new()
        .add("as_string", as_string)
        .add("multi_expensive_as_string", multi_expensive_as_string)
        .add("unlucky", unlucky)
        .init();
    tokio::runtime::Runtime::new()?.block_on(async {
        let mc = match Multicore::<()>::builder().processes(tasks).start().await {
            Err(StartError::Processes(error @ ProcessStartError::Unsupported { .. })) => {
                println!("{error}");
                return Ok(());
            }
            started => started?,
        };
        show(&mc).await?;

        let report = mc.shutdown(Duration::from_secs(5)).await;
        let stats = mc.processes().stats();
        println!("4. shut down: {report}; {} calls, {} process died", stats.calls, stats.died);
        assert!(report.is_clean() && stats.died == 1);
        Ok(())
    })
}

async fn show(mc: &Multicore<()>) -> Result<(), Box<dyn Error>> {
    let processes = mc.processes();
    println!("{} worker processes are up", processes.stats().ready);

    // A call for each of twenty items; results come in the items' order, whoever is done first.
    let texts: Vec<String> = processes.map("as_string", (0..20_u64).map(Packed)).await?;
    println!("1. one call an item: {}", texts.join(", "));
    assert_eq!(texts, (0..20).map(|item| item.to_string()).collect::<Vec<_>>());

    // A call for each range, as many as there are processes, with ten items at least.
    let texts: Vec<String> = processes.parallel_ranges("multi_expensive_as_string", ITEMS, 10).await?;
    let all = texts.join(",");
    println!("2. {} ranges: {all}", texts.len());
    assert_eq!(all, (0..ITEMS).map(|item| item.to_string()).collect::<Vec<_>>().join(","));

    // The program goes on where a task ends its process.
    let error = processes.run::<_, String>("unlucky", Packed(13_u64)).await.unwrap_err();
    println!("3. {error}");
    let text: String = processes.run("unlucky", Packed(14_u64)).await?;
    println!("   and the next one is answered: {text}");
    assert_eq!(text, "14");
    Ok(())
}
