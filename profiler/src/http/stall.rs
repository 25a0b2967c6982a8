//! A connection that gives up on a peer that reads too slowly.
//!
//! hyper bounds how long a request may take to arrive, but not how long an answer may take to leave. A client that stops
//! reading, or reads a byte now and then, would hold its place, and the bytes of its answer, for as long as it likes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// What a slow peer must take within one patience: some 9 KiB a second.
const PROGRESS: usize = 256 << 10;

/// A stream whose writes fail once the peer has not taken [`PROGRESS`] bytes, or the rest, within `patience`.
pub(super) struct Stall {
    stream: TcpStream,
    patience: Duration,
    /// Runs from the first write that had to wait, until enough has been taken.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes taken since then.
    taken: usize,
}

impl Stall {
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, patience, waiting: None, taken: 0 }
    }

    /// Passes on what a write says, and turns waiting for too long into an error.
    fn watch(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                self.taken += bytes;
                if self.taken >= PROGRESS {
                    self.waiting = None;
                }
                result
            }
            Poll::Ready(Err(_)) => result,
            Poll::Pending => {
                if self.waiting.is_none() {
                    self.waiting = Some(Box::pin(sleep(self.patience)));
                    self.taken = 0;
                }
                let waiting = self.waiting.as_mut().expect("set above");
                ready!(waiting.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Stall {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stall {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written all that it had: nothing waits any more.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_peer_that_reads_too_slowly_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut peer = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        // A little now and then, until the other side is closed.
        let trickle = std::thread::spawn(move || {
            while peer.read(&mut [0; 16]).is_ok_and(|read| read > 0) && peer.peek(&mut [0]).is_ok() {
                std::thread::sleep(Duration::from_millis(2));
                if peer.take_error().is_ok_and(|error| error.is_some()) {
                    return;
                }
            }
        });
        let error = runtime.block_on(async {
            let (stream, _) = listener.accept().expect("a peer");
            stream.set_nonblocking(true).expect("ours");
            let stream = TcpStream::from_std(stream).expect("a runtime");
            // Unread bytes are dropped when it closes, so that the peer is done, too.
            stream.set_zero_linger().expect("ours");
            let mut stall = Stall::new(stream, Duration::from_millis(300));
            // More than the kernel's buffers take.
            let bytes = vec![0; 1 << 20];
            loop {
                let written = std::future::poll_fn(|cx| Pin::new(&mut stall).poll_write(cx, &bytes)).await;
                if let Err(error) = written {
                    return error;
                }
            }
        });
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        trickle.join().expect("no panic");
    }
}
