//! Clients of an application: one that asks a router for a whole answer, and one that speaks HTTP/1.1
//! over a socket and sees whether a body came to its end.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::support::soon;

/// A response, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks that this is a problem as RFC 9457 wants it, and gives its code and detail.
    pub(crate) fn problem(&self, status: u16) -> (String, String) {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["title"], self.status.canonical_reason().unwrap());
        assert_eq!(problem["status"], status);
        let text = |key: &str| problem[key].as_str().unwrap().to_owned();
        (text("code"), text("detail"))
    }

    /// Where the `Link` header leads with this relation.
    pub(crate) fn link(&self, relation: &str) -> Option<String> {
        let end = format!(">; rel=\"{relation}\"");
        let links = self.header("link")?.split(", ");
        let mut targets = links.filter_map(|link| link.strip_suffix(&end)?.strip_prefix('<'));
        targets.next().map(str::to_owned)
    }
}

pub(crate) async fn ask(app: &Router, uri: &str) -> Answer {
    let (parts, body) = begin(app, uri).await.into_parts();
    let body = soon(body.collect()).await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// A response whose body was not read yet.
pub(crate) async fn begin(app: &Router, uri: &str) -> Response<Body> {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    soon(app.clone().oneshot(request)).await.unwrap()
}

/// A connection to an application that is served on a port of its own until the runtime ends.
pub(crate) struct Socket {
    stream: TcpStream,
    /// What was received and not looked at yet.
    received: Vec<u8>,
}

/// A body as it came over a socket.
pub(crate) struct Received {
    pub(crate) body: Vec<u8>,
    /// Whether the chunk came that ends a body.
    pub(crate) whole: bool,
}

impl Socket {
    /// Serves `app`, and sends it a request.
    pub(crate) async fn get(app: &Router, path: &str) -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, app.clone()).into_future());
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Socket { stream, received: Vec::new() }
    }

    /// The head of the answer, up to the empty line.
    pub(crate) async fn head(&mut self) -> String {
        soon(self.until_line(b"\r\n\r\n")).await.expect("the connection ended before the body began")
    }

    /// The next chunk of the body, empty for the last one; none if the connection ended instead.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = soon(self.until_line(b"\r\n")).await?;
        let length = usize::from_str_radix(length.trim_end(), 16).unwrap();
        while self.received.len() < length + 2 {
            soon(self.more()).await?;
        }
        let mut chunk: Vec<u8> = self.received.drain(..length + 2).collect();
        assert!(chunk.ends_with(b"\r\n"));
        chunk.truncate(length);
        Some(chunk)
    }

    /// The whole answer's body, if its head says that all is well.
    pub(crate) async fn answer(mut self) -> Received {
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        self.rest().await
    }

    /// The rest of the body, to its end or that of the connection.
    pub(crate) async fn rest(mut self) -> Received {
        let mut body = Vec::new();
        loop {
            match self.chunk().await {
                Some(chunk) if chunk.is_empty() => return Received { body, whole: true },
                Some(chunk) => body.extend(chunk),
                None => return Received { body, whole: false },
            }
        }
    }

    async fn until_line(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|bytes| bytes == end) {
                let line = self.received.drain(..at + end.len()).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            self.more().await?;
        }
    }

    /// Receives some bytes; none if there will be no more, whether the connection was closed or reset.
    async fn more(&mut self) -> Option<()> {
        let received = self.stream.read_buf(&mut self.received).await.unwrap_or(0);
        (received > 0).then_some(())
    }
}
