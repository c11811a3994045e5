//! Draining, with a handler that waits for the test.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use example_app::drain::{Drained, Readiness, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

/// A server with one request under way that ends when the test says so.
struct Busy {
    served: JoinHandle<std::io::Result<Drained>>,
    readiness: Readiness,
    stop: oneshot::Sender<()>,
    release: Arc<Semaphore>,
    client: TcpStream,
    address: std::net::SocketAddr,
}

async fn busy(deadline: Duration) -> Busy {
    let (entered, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let app = Router::new().route("/", {
        let (entered, release) = (Arc::clone(&entered), Arc::clone(&release));
        get(async move || {
            entered.add_permits(1);
            let _released = release.acquire().await.unwrap();
            "finished"
        })
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let readiness = Readiness::default();
    let served = tokio::spawn({
        let readiness = readiness.clone();
        let stop = async { stopped.await.unwrap() };
        async move { serve(listener, app, &readiness, stop, Duration::ZERO, deadline).await }
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let _entered = entered.acquire().await.unwrap();
    Busy { served, readiness, stop, release, client, address }
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_nothing_more_accepted() {
    let mut busy = busy(Duration::from_secs(600)).await;
    assert!(busy.readiness.is_ready());
    busy.stop.send(()).unwrap();
    busy.readiness.ended().await;
    assert!(!busy.readiness.is_ready());
    assert!(!busy.served.is_finished());

    busy.release.add_permits(1);
    let mut answer = String::new();
    // The connection is closed after the answer.
    busy.client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("finished"), "{answer}");
    assert_eq!(busy.served.await.unwrap().unwrap(), Drained::Finished);
    assert!(TcpStream::connect(busy.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_does_not_end_is_given_up_at_the_deadline() {
    let busy = busy(Duration::from_millis(1)).await;
    busy.stop.send(()).unwrap();
    assert_eq!(busy.served.await.unwrap().unwrap(), Drained::Cut);
    assert!(TcpStream::connect(busy.address).await.is_err());
}
