//! What happens to a request before its body is read: anybody who reaches the port can send one.
//!
//! Gate and password are asked first, by the headers alone. Of a request that is refused nothing more is read: it goes
//! on with an empty message and its [`Refusal`], so that its call answers in its own form. The body of any other is
//! taken from the memory budget as it arrives, and given back when the answer has left.
//!
//! The calls that need no password read little, for a short time, and only so many at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use futures::stream;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http_body_util::BodyExt;

use crate::budget::{ALLOWANCE, Budget, RequestMemory};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};

/// Milvus' limit on one message, with room for what surrounds 64 MB of rows.
pub const MESSAGE_BYTES: usize = 68 * 1024 * 1024;
/// Calls that are answered without a password, or check it themselves.
const OPEN: [&str; 3] = [
    "/milvus.proto.milvus.MilvusService/Connect",
    "/milvus.proto.milvus.MilvusService/GetVersion",
    "/milvus.proto.milvus.MilvusService/CheckHealth",
];
/// Limit on one message of theirs.
const OPEN_MESSAGE_BYTES: usize = 4 * 1024;
/// What one of them takes: headers, message and state.
const OPEN_REQUEST_BYTES: usize = 32 * 1024;
/// All of them together.
const OPEN_BYTES: usize = 32 * 1024 * 1024;
/// One of their messages has to arrive within this.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// A message lies in memory as it arrived, and once more as it is decoded.
const COPIES: usize = 2;
/// What a piece of a body takes beside its bytes.
const PIECE_BYTES: usize = 64;
/// Before each message: whether it is compressed, and four bytes of length.
const PREFIX_BYTES: usize = 5;
const EMPTY_MESSAGE: &[u8] = &[0; PREFIX_BYTES];

/// Why a request is refused whatever its message is. It lies among the request's extensions.
#[derive(Debug, Clone)]
pub struct Refusal(pub Error);

/// `api` of `engine`, which only sees requests that were let in, or their [`Refusal`].
pub fn admitting(engine: Arc<Engine>, api: Router) -> Router {
    let door = Arc::new(Door { engine, open: Budget::new(OPEN_BYTES) });
    api.layer(from_fn_with_state(door, admit))
}

struct Door {
    engine: Arc<Engine>,
    /// Memory for calls that need no password.
    open: Budget,
}

async fn admit(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let (memory, body) = match door.admit(&head, body).await {
        Ok((memory, body)) => {
            head.extensions.insert(memory.clone());
            (Some(memory), body)
        }
        Err(error) => {
            head.extensions.insert(Refusal(error));
            (None, Body::from(EMPTY_MESSAGE))
        }
    };
    let answer = next.run(Request::from_parts(head, body)).await;
    answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _until_it_has_left = &memory;
            frame
        }))
    })
}

impl Door {
    /// The body of a request that may be served, and what holds its memory.
    async fn admit(&self, head: &Parts, body: Body) -> Result<(RequestMemory, Body)> {
        if OPEN.contains(&head.uri.path()) {
            let memory = RequestMemory::new(self.open.clone(), 0);
            memory.reserve(OPEN_REQUEST_BYTES).map_err(|_| {
                Error::new(Code::Unavailable, "too many clients without credentials are being served; try again")
            })?;
            let arriving = tokio::time::timeout(OPEN_TIME, read(body, OPEN_MESSAGE_BYTES, &memory));
            let body = arriving.await.map_err(|_| Error::invalid("the message did not arrive in time"))??;
            return Ok((memory, body));
        }
        let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let memory = {
            let admitted = self.engine.gate.admit()?;
            admitted.unlocked().users.authenticate(authorization).await?;
            RequestMemory::new(admitted.unlocked().budget.clone(), ALLOWANCE)
        };
        let body = read(body, MESSAGE_BYTES, &memory).await?;
        Ok((memory, body))
    }
}

/// The body, once all of it is there: a message of at most `limit` bytes.
async fn read(mut body: Body, limit: usize, memory: &RequestMemory) -> Result<Body> {
    let (mut pieces, mut size) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::invalid("the message did not arrive"))?;
        // Anything else is trailers, which mean nothing here.
        let Ok(piece) = frame.into_data() else { continue };
        size += piece.len();
        let announced = if pieces.is_empty() { announced(&piece) } else { 0 };
        if announced > limit || size > limit + PREFIX_BYTES {
            return Err(Error::invalid(format!("the message is larger than {limit} bytes; send less at a time")));
        }
        memory.reserve(COPIES * piece.len() + PIECE_BYTES)?;
        pieces.push(piece);
    }
    Ok(Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>))))
}

/// The length of the message that `piece` begins with, if it is there.
fn announced(piece: &[u8]) -> usize {
    match piece {
        [_, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt, StreamExt};
    use tower::ServiceExt;

    use super::*;
    use crate::dev;

    const MIB: usize = 1024 * 1024;

    /// A message that announces `announced` bytes and has `sent`, in pieces.
    fn message(announced: usize, sent: usize) -> Vec<Bytes> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(announced as u32).to_be_bytes());
        bytes.resize(PREFIX_BYTES + sent, 7);
        bytes.chunks(16 * 1024).map(Bytes::copy_from_slice).collect()
    }

    fn body(pieces: Vec<Bytes>) -> Body {
        Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)))
    }

    /// A body that does not end with `pieces`, and never goes on.
    fn unfinished(pieces: Vec<Bytes>) -> Body {
        Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)).chain(stream::pending()))
    }

    #[tokio::test]
    async fn a_body_takes_memory_for_as_long_as_its_request_lives() {
        let budget = Budget::new(8 * MIB);
        let memory = RequestMemory::new(budget.clone(), 0);
        let read = read(body(message(MIB, MIB)), MIB, &memory).await.unwrap();
        assert!((2 * MIB..3 * MIB).contains(&budget.usage().0), "{:?}", budget.usage());
        assert_eq!(read.collect().await.unwrap().to_bytes(), message(MIB, MIB).concat());
        drop(memory);
        assert_eq!(budget.usage().0, 0);
    }

    #[tokio::test]
    async fn a_body_for_which_there_is_no_memory_is_refused_before_it_is_there() {
        let budget = Budget::new(MIB);
        let memory = RequestMemory::new(budget.clone(), 0);
        let refused = read(unfinished(message(2 * MIB, MIB)), 8 * MIB, &memory).now_or_never();
        assert_eq!(refused.map(|read| read.map(drop).map_err(|error| error.code)), Some(Err(Code::QuotaExceeded)));
        let nothing = read(unfinished(Vec::new()), MIB, &memory).now_or_never();
        assert!(nothing.is_none(), "what is not there yet is waited for");
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_refused_as_soon_as_it_says_so_or_shows() {
        let memory = RequestMemory::new(Budget::new(8 * MIB), 0);
        for pieces in [message(MIB + 1, 100), message(100, MIB + 1)] {
            let refused = read(unfinished(pieces), MIB, &memory).now_or_never();
            let code = refused.map(|read| read.map(drop).map_err(|error| error.code));
            assert_eq!(code, Some(Err(Code::InvalidParameter)));
        }
    }

    #[tokio::test]
    async fn a_refused_request_goes_on_without_its_body_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let config = dev::prepare(folder.path(), "127.0.0.1:19530".parse().unwrap(), 16).unwrap();
        let inner = Router::new().fallback(|request: Request| async move {
            let refused = request.extensions().get::<Refusal>().map(|refusal| refusal.0.code);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            format!("{refused:?} {}", body.len())
        });
        let api = admitting(Engine::new(config, "1.2.3"), inner);
        let answer = async |call: &str, body: Body| {
            let request = http::Request::post(format!("/milvus.proto.milvus.MilvusService/{call}")).body(body).unwrap();
            let answer = api.clone().oneshot(request).await.unwrap();
            String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
        };
        assert_eq!(answer("Insert", unfinished(message(100, 10))).await, "Some(KeyRevoked) 5", "it is locked");
        assert_eq!(answer("Connect", body(message(100, 100))).await, "None 105");
        assert_eq!(answer("Connect", unfinished(message(5000, 10))).await, "Some(InvalidParameter) 5");
    }
}
