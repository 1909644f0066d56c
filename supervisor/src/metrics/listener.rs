//! `GET /metrics` and `GET /healthz` over HTTP, on a loopback address: for a Prometheus on this machine.
//!
//! Every local user can connect to a loopback address, so what is told has no name of a notebook in it. One
//! request per connection, no body, and everything bounded: connections, the head's bytes and headers, the time.
//! Where all places are taken the oldest connection makes room: who is silent keeps nobody out.
//! The head is parsed by `httparse`; a whole HTTP server would be most of what listens here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::newest::Newest;

/// Connections at once: many more than can come in the moment that an answer takes.
const MAX_CONNECTIONS: usize = 64;

/// Bytes of a request's head.
const HEAD_BYTES: usize = 8 << 10;

/// Headers of a request.
const MAX_HEADERS: usize = 64;

/// How long a client may take for all of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// After accept(2) fails for want of descriptors, before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What metrics are written in.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens.
///
/// # Errors
/// The address is not of this machine alone, or is taken.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    anyhow::ensure!(
        address.ip().is_loopback(),
        "--metrics-address {address} can be reached from other machines, and metrics are told without asking who \
         is there: use 127.0.0.1 or [::1], and a proxy of yours before it if others must reach it"
    );
    TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on --metrics-address {address}"))
}

/// Serves for ever; `metrics` makes the text.
pub(crate) async fn serve<F, T>(listener: TcpListener, metrics: F)
where
    F: Fn() -> T + Clone + Send + Sync + 'static,
    T: Future<Output = String> + Send + 'static,
{
    let mut served = Newest::new(MAX_CONNECTIONS);
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection for metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let conversation = tokio::time::timeout(PATIENCE, converse(socket, metrics.clone()));
        served.spawn(async move {
            // Whether it is heard is the client's business.
            let _ = conversation.await;
        });
    }
}

async fn converse<T: Future<Output = String>>(
    mut socket: TcpStream,
    metrics: impl Fn() -> T,
) -> io::Result<()> {
    let answer = match head(&mut socket).await? {
        Some(asked) => asked,
        None => return Ok(()),
    };
    let (status, kind, body) = match answer {
        Asked::Metrics => ("200 OK", OPEN_METRICS, metrics().await),
        Asked::Health => ("200 OK", PLAIN, "ok\n".to_owned()),
        Asked::Wrong(status) => (status, PLAIN, format!("{status}\n")),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await?;
    // A socket that is closed with something unread in it takes back what we have said.
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Metrics,
    Health,
    Wrong(&'static str),
}

/// What is asked for; `None` of a client that has gone.
async fn head(socket: &mut TcpStream) -> io::Result<Option<Asked>> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
        if let Some(asked) = asked(&bytes) {
            return Ok(Some(asked));
        }
    }
}

/// What is asked for, when the head is whole or can be none.
fn asked(bytes: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some(Asked::Wrong("431 Request Header Fields Too Large"));
        }
        Err(_) => return Some(Asked::Wrong("400 Bad Request")),
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    Some(match (request.method, path) {
        (Some("GET"), "/metrics") => Asked::Metrics,
        (Some("GET"), "/healthz") => Asked::Health,
        (_, "/metrics" | "/healthz") => Asked::Wrong("405 Method Not Allowed"),
        _ => Asked::Wrong("404 Not Found"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_things_can_be_asked_for_and_a_head_is_bounded() {
        let wrong = |status| Some(Asked::Wrong(status));
        assert_eq!(asked(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Some(Asked::Metrics));
        assert_eq!(asked(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n"), Some(Asked::Metrics));
        assert_eq!(asked(b"GET /healthz HTTP/1.1\r\n\r\n"), Some(Asked::Health));
        assert_eq!(asked(b"GET /metrics HTTP/1.1\r\nHost"), None);
        assert_eq!(asked(b"POST /metrics HTTP/1.1\r\n\r\n"), wrong("405 Method Not Allowed"));
        assert_eq!(asked(b"GET /metrics/../etc HTTP/1.1\r\n\r\n"), wrong("404 Not Found"));
        assert_eq!(asked(b"\0\x01\r\n\r\n"), wrong("400 Bad Request"));
        let long = format!("GET /metrics HTTP/1.1\r\nA: {}", "a".repeat(HEAD_BYTES));
        assert_eq!(asked(long.as_bytes()), wrong("431 Request Header Fields Too Large"));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(asked(many.as_bytes()), wrong("431 Request Header Fields Too Large"));
    }

    #[tokio::test]
    async fn only_loopback_is_listened_on() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9", "10.0.0.1:9"] {
            let error = bind(address.parse().unwrap()).await.unwrap_err();
            assert!(error.to_string().contains("127.0.0.1"), "{error}");
        }
        bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn a_scrape_is_answered_whoever_is_silent() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, || async { "a 1\n".to_owned() }));
        let mut silent = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        socket.shutdown().await.unwrap();
        let mut text = String::new();
        let answer = tokio::time::timeout(PATIENCE / 2, socket.read_to_string(&mut text)).await;
        answer.expect("no answer while others are silent").unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\na 1\n"), "{text}");
        // The first have made room, and the last may still ask.
        let mut byte = [0];
        let ended = tokio::time::timeout(PATIENCE / 2, silent[0].read(&mut byte)).await;
        assert_eq!(ended.expect("the oldest has made no room").unwrap(), 0);
        let last = silent.last_mut().unwrap();
        last.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
        last.shutdown().await.unwrap();
        last.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("ok\n"), "{text}");
        server.abort();
    }
}
