//! The load curve: one list behind real HTTP, written five ways, asked by `wrk` over 1 to 4 x cores
//! connections while a second `wrk` asks a light neighbour. Writes its tables into `BENCHMARKS.md` and
//! `docs/load.md`, and its charts into `docs/`. Run with
//! `cargo bench -p multicore-tests --bench load`; `-- help` says what can be left out.
//!
//! Here is only who takes turns with whom. The servers are in `contestants` and `server`, what is run in
//! `plan`, what is made of the numbers in `report`.

#[path = "../databases.rs"]
mod databases;
#[path = "../documents.rs"]
mod documents;

mod chart;
mod contestants;
mod distance;
mod generator;
mod machine;
mod plan;
mod report;
mod results;
mod server;
mod stop;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use databases::PostgresDatabase;
use example_app::progress::Quiet;
use example_app::seed::{SeedPlan, seed};
use generator::Generator;
use plan::{Cell, Contestant, Plan, Site};
use results::{Results, Slot};
use server::Server;
use sqlx::ConnectOptions;
use tokio::runtime::Runtime;

/// Why a run ends early. What was measured until then is reported all the same.
type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [serve, contestant, url] = arguments.as_slice()
        && serve == "serve"
    {
        contestants::serve(contestant, url);
        return ExitCode::SUCCESS;
    }
    let plan = match Plan::new(&arguments) {
        Ok(plan) => plan,
        Err(help) => {
            println!("{help}");
            return ExitCode::FAILURE;
        }
    };
    match measure(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Servers that were sent the same signal fail first.
            let error = if stop::asked() { "asked to stop".to_owned() } else { error };
            println!("\nSTOPPED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &Plan) -> Outcome {
    let generator = Generator::new()?;
    let runtime = Runtime::new().map_err(|error| format!("no runtime: {error}"))?;
    stop::listen(&runtime);
    println!("{} connections at most; about {} minutes", plan.most(), plan.seconds().div_ceil(60));
    let mut results = Results::new(plan)?;
    let before = machine::Stolen::now();
    let mut outcome = Ok(());
    for site in plan.sites() {
        outcome = visit(&runtime, &generator, plan, site, &mut results);
        if outcome.is_err() {
            break;
        }
    }
    let machine = machine::describe(&before);
    let whole = outcome.is_ok() && plan.is_whole();
    report::write(plan, &results, &machine, &generator.version, whole)?;
    outcome
}

/// Makes a site's database, measures over it, and drops it whatever happened.
fn visit(
    runtime: &Runtime,
    generator: &Generator,
    plan: &Plan,
    site: Site,
    results: &mut Results,
) -> Outcome {
    if site == Site::Sqlite {
        let (_folder, url) = runtime.block_on(async {
            let (folder, pool) = databases::sqlite().await;
            fill(&pool).await?;
            let file = pool.connect_options().get_filename().display().to_string();
            pool.close().await;
            Outcome::Ok((folder, format!("sqlite:{file}")))
        })?;
        return rounds(generator, plan, site, &url, results);
    }
    let Some(database) = runtime.block_on(PostgresDatabase::new()) else {
        return Ok(());
    };
    let measured = (|| {
        runtime.block_on(fill(&database.pool))?;
        let options = database.pool.connect_options();
        let mut options = options.as_ref().clone();
        if site == Site::Distant {
            let port = runtime.block_on(distance::proxy(options.get_host(), options.get_port()))?;
            options = options.host("127.0.0.1").port(port);
        }
        rounds(generator, plan, site, options.to_url_lossy().as_str(), results)
    })();
    runtime.block_on(database.clean_up());
    measured
}

async fn fill<DB: example_app::database::AppDatabase>(pool: &sqlx::Pool<DB>) -> Outcome {
    DB::migrate(pool).await.map_err(|error| format!("no tables: {error}"))?;
    let plan = SeedPlan { users: contestants::PEOPLE, articles: 0 };
    seed(pool, plan, &mut Quiet).await.map_err(|error| format!("no rows: {error}"))?;
    Ok(())
}

/// All rounds over one database. The servers run side by side, and all but the one that is asked sleep.
fn rounds(generator: &Generator, plan: &Plan, site: Site, url: &str, results: &mut Results) -> Outcome {
    let servers = Contestant::ALL
        .iter()
        .map(|contestant| Server::start(*contestant, url))
        .collect::<Outcome<Vec<Server>>>()?;
    let servers: Arc<[Server]> = servers.into();
    for cell in plan.cells(site) {
        same_bytes(&servers, &cell)?;
    }
    let mut order = plan::Shuffle::new();
    for round in 0..plan.rounds(site) {
        print!("{}, round {}: ", site.name(), round + 1);
        for cell in plan.cells(site) {
            let mut contestants = plan.contestants(site, &cell, round);
            order.shuffle(&mut contestants);
            for contestant in contestants {
                let server = servers.iter().find(|server| server.contestant == contestant);
                let server = server.ok_or("no such server")?;
                server.settle()?;
                let slot = turn(generator, server, &cell, plan.window(&cell))?;
                results.add(site, cell, contestant, round, slot)?;
            }
            print!(".");
            let _ = std::io::stdout().flush();
        }
        println!();
    }
    Ok(())
}

/// Seconds after which a turn without an answer is no longer tried again with twice the time.
const LONGEST: u64 = 16;

/// One contestant's turn at one cell.
fn turn(generator: &Generator, server: &Server, cell: &Cell, seconds: u64) -> Outcome<Slot> {
    let before = server.progress()?;
    let (list, light) = generator.run(server.address, &cell.page.path(), cell.connections, seconds)?;
    let after = server.progress()?;
    // A machine that is far slower than the plan thinks, or disturbed for a moment.
    if (list.requests == 0.0 || light.requests == 0.0) && seconds < LONGEST && !stop::asked() {
        server.settle()?;
        return turn(generator, server, cell, seconds * 2);
    }
    if stop::asked() {
        return Err("asked to stop".to_owned());
    }
    // Where rendering is the work, the rows rendered say how far the server came; the answers that
    // were complete in the window would be short by those under way, which is a tenth of long pages.
    let per_second = if cell.page.render_us > 0 {
        (after.rows - before.rows) as f64 / (after.seconds - before.seconds) / f64::from(cell.page.rows)
    } else {
        list.requests / list.seconds
    };
    Ok(Slot {
        per_second,
        // By Little's law, of all requests: the generator's own mean is of its corrected sample.
        mean_ms: cell.connections as f64 * list.seconds / list.requests.max(1.0) * 1e3,
        p50_ms: list.p50_ms,
        p99_ms: list.p99_ms,
        light_p99_ms: light.p99_ms,
        requests: list.requests,
    })
}

/// The contestants must answer the same bytes, or there is nothing to compare.
fn same_bytes(servers: &[Server], cell: &Cell) -> Outcome {
    let path = cell.page.path();
    let mut first: Option<Vec<u8>> = None;
    for server in servers {
        let body = server.get(&path)?;
        if first.as_ref().is_some_and(|first| *first != body) {
            return Err(format!("{} answers {path} with other bytes", server.contestant.name()));
        }
        first = Some(body);
    }
    Ok(())
}
