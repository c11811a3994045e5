//! The tasks that the tests run, and pools that run them.

use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use multicore_core::Multicore;
use multicore_core::process::{Json, Packed, ProcessSettings, Registered, Tasks};

/// How long anything may take before a test gives up instead of hanging. Never a claim about speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn registered() -> Registered {
    Tasks::new()
        .add("echo", |bytes: Bytes| Ok::<_, Infallible>(bytes))
        .add_idempotent("echo-again", |bytes: Bytes| Ok::<_, Infallible>(bytes))
        .add("shout", |text: String| Ok::<_, Infallible>(text.to_uppercase()))
        .add("sum", |Packed(numbers): Packed<Vec<f64>>| {
            Ok::<_, Infallible>(Json(numbers.iter().sum::<f64>()))
        })
        .add("fill", |Packed((len, byte)): Packed<(usize, u8)>| Ok::<_, Infallible>(vec![byte; len]))
        .add("pid", |(): ()| Ok::<_, Infallible>(Json(std::process::id())))
        .add("fail", |text: String| Err::<(), _>(text))
        .add("panic", |text: String| -> Result<(), Infallible> { panic!("{text}") })
        .add("abort", |words: String| -> Result<(), Infallible> {
            eprintln!("{words}");
            std::process::abort()
        })
        .add("exit", |Json(status): Json<i32>| -> Result<(), Infallible> { std::process::exit(status) })
        .add("hang", |(): ()| -> Result<(), Infallible> {
            loop {
                std::thread::park();
            }
        })
        .add("say", |words: String| {
            print!("{words}");
            std::io::stdout().flush()
        })
        .init()
        .through_test("worker_process")
}

pub(crate) async fn pool(settings: ProcessSettings) -> Multicore<()> {
    Multicore::<()>::builder()
        .name("test")
        .workers(1)
        .processes(registered())
        .process_settings(settings)
        .start()
        .await
        .unwrap()
}

pub(crate) fn settings(workers: usize) -> ProcessSettings {
    ProcessSettings::default().workers(workers).timeout(PATIENCE)
}
