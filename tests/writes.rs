//! How often the server writes for an answer: as often as for the plain handler's. Each write beyond the
//! first may wait for the client's acknowledgement where the adopter has not set `TCP_NODELAY`.

use std::io::{Error, IoSlice};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use multicore_axum::{
    Config, Execution, Format, LimitOffset, ListError, ListQuery, Listing, Multicore, MulticoreLayer,
    StreamedListing, asc,
};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Sqlite, SqlitePool};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;

use crate::databases::{people, sqlite};
use crate::support::{PLENTY, burn, soon, unique};

/// More than any answer: a write takes all that it is given, as a socket with room does.
const ROOM: usize = 64 * 1024 * 1024;

/// A connection that counts what is written to it, and how often.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl Counted {
    /// Counts a write before it is done, so that whoever has read what it wrote sees the count.
    fn write(
        mut self: Pin<&mut Self>,
        write: impl FnOnce(Pin<&mut DuplexStream>) -> Poll<Result<usize, Error>>,
    ) -> Poll<Result<usize, Error>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let written = write(Pin::new(&mut self.stream));
        assert!(matches!(written, Poll::Ready(Ok(1..))), "a write that was none: {written:?}");
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        self.write(|stream| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        self.write(|stream| stream.poll_write_vectored(context, slices))
    }

    /// As a socket's: so the server queues a body's frames and does not copy them.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct Connections(mpsc::UnboundedReceiver<Counted>);

impl Listener for Connections {
    type Io = Counted;
    type Addr = ();

    async fn accept(&mut self) -> (Counted, ()) {
        match self.0.recv().await {
            Some(connection) => (connection, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A client on a connection that stays, and how often was written to it.
struct Client {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
    received: Vec<u8>,
}

/// An answer as it came.
struct Answer {
    head: String,
    body: Vec<u8>,
    writes: usize,
}

impl Client {
    /// Serves `app` on a connection in memory.
    fn of(app: Router) -> Self {
        let (stream, server) = duplex(ROOM);
        let writes = Arc::<AtomicUsize>::default();
        let (connect, connections) = mpsc::unbounded_channel();
        assert!(connect.send(Counted { stream: server, writes: Arc::clone(&writes) }).is_ok());
        tokio::spawn(axum::serve(Connections(connections), app).into_future());
        Client { stream, writes, received: Vec::new() }
    }

    async fn get(&mut self, path: &str) -> Answer {
        let before = self.writes.load(Ordering::SeqCst);
        let request = format!("GET {path} HTTP/1.1\r\nHost: memory\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let head = self.until(b"\r\n\r\n").await;
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
        let body = match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
            Some(length) => self.exactly(length.parse().unwrap()).await,
            None => self.chunked().await,
        };
        assert_eq!(self.received, b"", "something came behind the answer");
        Answer { head, body, writes: self.writes.load(Ordering::SeqCst) - before }
    }

    async fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let length = String::from_utf8(self.until(b"\r\n").await).unwrap();
            let length = usize::from_str_radix(length.trim_end(), 16).unwrap();
            body.extend(self.exactly(length).await);
            assert_eq!(self.exactly(2).await, b"\r\n");
            if length == 0 {
                return body;
            }
        }
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|bytes| bytes == end) {
                return self.received.drain(..at + end.len()).collect();
            }
            assert!(
                soon(self.stream.read_buf(&mut self.received)).await.unwrap() > 0,
                "the connection ended"
            );
        }
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(
                soon(self.stream.read_buf(&mut self.received)).await.unwrap() > 0,
                "the connection ended"
            );
        }
        self.received.drain(..length).collect()
    }
}

#[derive(FromRow)]
struct Row {
    id: i64,
    name: String,
}

#[derive(Serialize)]
struct View {
    id: i64,
    name: String,
    text: String,
}

/// What the client asks for besides the page.
#[derive(Clone, Copy, Deserialize)]
struct Ask {
    limit: i64,
    /// Bytes a row has about.
    width: usize,
    /// Rows a chunk; as many as the library likes for 0.
    chunk: usize,
    parallel: bool,
    enveloped: bool,
}

fn view(Row { id, name }: Row, width: usize) -> View {
    View { id, name, text: "x".repeat(width) }
}

async fn plain(State(pool): State<SqlitePool>, Query(ask): Query<Ask>) -> Json<Vec<View>> {
    let rows: Vec<Row> = sqlx::query_as("SELECT id, name FROM person ORDER BY id LIMIT ?")
        .bind(ask.limit)
        .fetch_all(&pool)
        .await
        .unwrap();
    Json(rows.into_iter().map(|row| view(row, ask.width)).collect())
}

fn query(ask: Ask) -> ListQuery<Row, Sqlite> {
    let execution = if ask.parallel { Execution::Parallel } else { Execution::Sequential };
    let query = ListQuery::<Row>::select("id, name").from("person").order_by([asc("id")]);
    match NonZeroUsize::new(ask.chunk) {
        Some(rows) => query.execution(execution).chunk_length(rows),
        None => query.execution(execution),
    }
}

async fn ours(
    mc: Multicore<Sqlite>,
    page: LimitOffset,
    Query(ask): Query<Ask>,
) -> Result<Listing, ListError> {
    let render = move |row| {
        if ask.parallel {
            // Enough for a worker to come before the work is done.
            burn(10);
        }
        view(row, ask.width)
    };
    let listing = mc.parallel_list(query(ask), page, render).await?;
    Ok(if ask.enveloped { listing.envelope() } else { listing })
}

async fn client() -> (tempfile::TempDir, Client) {
    let (folder, pool) = sqlite().await;
    people(&pool, 3_000).await;
    let config = Config::default().workers(2).max_limit(3_000);
    let layer = MulticoreLayer::<Sqlite>::builder().config(config).pool(pool.clone()).cores(PLENTY);
    let layer = layer.name(unique()).load_source(|| None).start().await.unwrap();
    let export = async |mc: Multicore<Sqlite>, Path(format): Path<String>, Query(ask): Query<Ask>| {
        let format = if format == "json" { Format::JsonArray } else { Format::Csv };
        let query = query(ask).filter(|q| {
            q.push("id <= ").push_bind(ask.limit);
        });
        let render = move |row| {
            if ask.parallel {
                // So slow that each row is a chunk.
                burn(300);
            }
            view(row, ask.width)
        };
        let export = mc.parallel_stream(query, render, format).await;
        export as Result<StreamedListing, ListError>
    };
    let app = Router::new()
        .route("/plain", get(plain))
        .route("/ours", get(ours))
        .route("/export/{format}", get(export))
        .with_state(pool)
        .layer(layer);
    (folder, Client::of(app))
}

fn path(of: &str, ask: Ask) -> String {
    let Ask { limit, width, chunk, parallel, enveloped } = ask;
    format!("/{of}?limit={limit}&width={width}&chunk={chunk}&parallel={parallel}&enveloped={enveloped}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_written_as_often_as_the_plain_handlers_which_is_once() {
    let (_folder, mut client) = client().await;
    let ask = Ask { limit: 0, width: 50, chunk: 0, parallel: false, enveloped: false };
    // 1 KB, 100 KB, 400 KB, which is where the server writes before the body's end, and 2 MB.
    for (limit, width) in [(10, 50), (1_000, 50), (1_000, 350), (2_000, 1_000)] {
        let plain = client.get(&path("plain", Ask { limit, width, ..ask })).await;
        assert_eq!(plain.writes, 1);
        for (chunk, parallel) in [(0, false), (0, true), (100, true), (7, true), (1, false), (1, true)] {
            let ask = Ask { limit, width, chunk, parallel, ..ask };
            let ours = client.get(&path("ours", ask)).await;
            let what = path("ours", ask);
            assert!(ours.body == plain.body, "{what} differs");
            assert!(ours.head.contains(&format!("content-length: {}\r\n", plain.body.len())), "{what}");
            assert_eq!(ours.writes, plain.writes, "{what} is made of {}", ours.head);
            let ours = client.get(&path("ours", Ask { enveloped: true, ..ask })).await;
            assert_eq!(ours.writes, 1, "{what} in an envelope");
            let opening = br#"{"count":null,"next":null,"previous":null,"results":"#;
            assert!(ours.body.starts_with(&opening[..20]) && ours.body.ends_with(b"]}"), "{what}");
            let length = format!("content-length: {}\r\n", ours.body.len());
            assert!(ours.head.contains(&length), "{what} in an envelope: {}", ours.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_export_is_written_with_its_last_bytes() {
    let (_folder, mut client) = client().await;
    // Fewer rows than a batch has, whatever they cost.
    let ask = Ask { limit: 60, width: 50, chunk: 0, parallel: false, enveloped: false };
    for format in ["export/json", "export/csv"] {
        for parallel in [false, true] {
            let what = path(format, Ask { parallel, ..ask });
            let answer = client.get(&what).await;
            assert!(answer.head.contains("transfer-encoding: chunked"), "{what}: {}", answer.head);
            assert_eq!(answer.writes, 1, "{what}");
        }
    }
}
