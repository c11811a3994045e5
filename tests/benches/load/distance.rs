//! A database that is far away: a proxy that holds back everything by five milliseconds on each way,
//! so that a round trip takes ten more, and the bandwidth stays what it is.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Outcome;

const ONE_WAY: Duration = Duration::from_millis(5);

/// Starts the proxy, which runs as long as the runtime, and says its port.
pub(crate) async fn proxy(host: &str, port: u16) -> Outcome<u16> {
    let failed = |error: std::io::Error| format!("no proxy: {error}");
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let own = listener.local_addr().map_err(failed)?.port();
    let host = host.to_owned();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect((host.as_str(), port)).await else { continue };
            // Or the kernel would wait too, for acknowledgements.
            let _ = near.set_nodelay(true);
            let _ = far.set_nodelay(true);
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            carry(near_read, far_write);
            carry(far_read, near_write);
        }
    });
    Ok(own)
}

fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (queue, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(length) = from.read(&mut piece).await
            && length > 0
        {
            if queue.send((Instant::now() + ONE_WAY, piece[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((when, piece)) = due.recv().await {
            tokio::time::sleep_until(when).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
    });
}
