//! The tasks that the tests run, and pools that run them.

use std::convert::Infallible;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use multicore_core::Multicore;
use multicore_core::process::{InPlace, Json, Output, Packed, ProcessSettings, Registered, Tasks};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, SqliteConnection};

use crate::chaos;
use crate::rogue;
use crate::system::{PATIENCE, wait_at};

/// So many bytes, of which those near to each other differ.
pub(crate) fn counted(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn tasks() -> Tasks<SqliteConnection> {
    let tasks = Tasks::new()
        .connect(connect)
        .add_with_connection("count", count)
        .add("echo", |bytes: Bytes| Ok::<_, Infallible>(bytes))
        .add("shout", |text: String| Ok::<_, Infallible>(text.to_uppercase()))
        .add("sum", |Packed(numbers): Packed<Vec<f64>>| {
            Ok::<_, Infallible>(Json(numbers.iter().sum::<f64>()))
        })
        .add("fill", |Packed((len, byte)): Packed<(usize, u8)>| Ok::<_, Infallible>(vec![byte; len]))
        .add("pieces", |Packed((len, piece)): Packed<(usize, usize)>| {
            let bytes = counted(len);
            Ok::<_, Infallible>(InPlace(move |out: &mut Output<'_>| {
                Ok(bytes.chunks(piece).try_for_each(|piece| out.write_all(piece))?)
            }))
        })
        .add("half", |Json(len): Json<usize>| {
            let bytes = counted(len);
            Ok::<_, Infallible>(InPlace(move |out: &mut Output<'_>| {
                out.write_all(&bytes)?;
                Err("there is no more".into())
            }))
        })
        .add("count-up", |Json(most): Json<u32>| Ok::<_, Infallible>(Json((0..most).collect::<Vec<_>>())))
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
        .add("flood", |Json(bytes): Json<usize>| {
            let line = [b'x'; 99];
            for _ in 0..bytes / 100 {
                io::stderr().write_all(&line)?;
                io::stderr().write_all(b"\n")?;
            }
            Ok::<_, io::Error>(())
        })
        .add("opened", |(): ()| Ok::<_, Infallible>(Json(OPENED.load(Ordering::Relaxed))))
        .add_render("card", card)
        .add_render("poisoned", |person: Person| {
            if person.id == 200 {
                std::process::abort();
            }
            card(person)
        })
        .add_render("panics", |person: Person| {
            assert!(person.id != 77, "person {}", person.id);
            card(person)
        })
        .add("gate", gate)
        .add_idempotent("gate-again", gate)
        .add("family", |gate: String| {
            let child = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn()?;
            wait_at(&gate, child.id())
        })
        .add("busy-family", |gate: String| -> io::Result<()> {
            let child = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn()?;
            let _told = std::thread::spawn(move || wait_at(&gate, child.id()));
            loop {
                std::hint::spin_loop();
            }
        })
        .add("leak", |Json(bytes): Json<usize>| {
            vec![1_u8; bytes].leak();
            Ok::<_, Infallible>(Json(std::process::id()))
        });
    chaos::add(rogue::add(tasks))
}

/// Waits at a gate, and gives the process's number.
fn gate(path: String) -> io::Result<Json<u32>> {
    wait_at(&path, std::process::id())?;
    Ok(Json(std::process::id()))
}

pub(crate) fn registered() -> Registered {
    tasks().init().through_test("worker_process")
}

/// Whose workers run another test of this binary.
pub(crate) fn registered_through(test: &str) -> Registered {
    tasks().init().through_test(test)
}

/// How many connections this process has opened.
static OPENED: AtomicU32 = AtomicU32::new(0);

async fn connect(url: String) -> Result<SqliteConnection, sqlx::Error> {
    OPENED.fetch_add(1, Ordering::Relaxed);
    SqliteConnection::connect(&url).await
}

async fn count(connection: &mut SqliteConnection, table: String) -> Result<Json<i64>, sqlx::Error> {
    // The table's name is the test's.
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(connection).await.map(Json)
}

/// A row with what a format can get wrong.
#[derive(Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct Person {
    id: i64,
    name: String,
    score: f64,
    photo: Option<Vec<u8>>,
    age: Option<i32>,
}

#[derive(Serialize)]
pub(crate) struct Card {
    title: String,
    score: f64,
    photo: usize,
    age: Option<i32>,
}

pub(crate) fn card(person: Person) -> Card {
    let title = format!("{} (#{})", person.name, person.id);
    Card { title, score: person.score, photo: person.photo.map_or(0, |photo| photo.len()), age: person.age }
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
