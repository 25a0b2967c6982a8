//! A small HTTP client: one GET per connection, with a look at the clock while it waits.
//!
//! It asks the port as any tool would, from a plain thread. It understands what the port answers: a status, headers, and a
//! body with a length or until the end of the connection.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use thiserror::Error;

/// How often a waiting request looks at the clock.
const TICK: Duration = Duration::from_millis(100);

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// Why a request got no answer that can be used.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection failed.
    #[error("GET {path}: {source}")]
    Io {
        /// What was asked for.
        path: String,
        /// What failed.
        source: io::Error,
    },
    /// It took too long.
    #[error("GET {path}: no answer within {:.0} s", after.as_secs_f64())]
    Late {
        /// What was asked for.
        path: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// What came is not HTTP, or broke off.
    #[error("GET {path}: {what}")]
    Malformed {
        /// What was asked for.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The answer is an error.
    #[error("GET {path}: status {status}: {}", body.trim_end())]
    Status {
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
        /// What the server said.
        body: String,
    },
}

/// Gets the body of a path, whatever its type.
///
/// `waiting` is called some ten times a second with the time since the request was sent.
///
/// # Errors
/// See [`ClientError`]; any status but 200 is one.
pub fn get(
    address: SocketAddr,
    path: &str,
    patience: Duration,
    mut waiting: impl FnMut(Duration),
) -> Result<Vec<u8>, ClientError> {
    let io = |source| ClientError::Io { path: path.to_owned(), source };
    let mut stream = TcpStream::connect(address).map_err(io)?;
    stream.set_read_timeout(Some(TICK)).map_err(io)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(io)?;
    let start = Instant::now();
    let mut answer = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(io(error)),
        }
        let elapsed = start.elapsed();
        waiting(elapsed);
        if elapsed > patience {
            return Err(ClientError::Late { path: path.to_owned(), after: patience });
        }
    }
    let (status, body) =
        parse(answer).map_err(|what| ClientError::Malformed { path: path.to_owned(), what: what.to_owned() })?;
    match status {
        200 => Ok(body),
        status => {
            let body = String::from_utf8_lossy(&body).into_owned();
            Err(ClientError::Status { path: path.to_owned(), status, body })
        }
    }
}

/// Status and body of a whole answer.
fn parse(mut answer: Vec<u8>) -> Result<(u16, Vec<u8>), &'static str> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|window| window == END).ok_or("the answer has no complete head")?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "the head of the answer is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = status.and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or("the answer is not HTTP/1")?;
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().map_err(|_| "the length of the answer is no number")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("the answer has an encoding that this client does not know");
        }
    }
    let body = answer.split_off(end + END.len());
    match length {
        Some(length) if length != body.len() => Err("the answer broke off"),
        _ => Ok((status, body)),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::BufRead, net::TcpListener, thread};

    use super::*;

    /// Answers one request with these bytes, after a pause.
    fn server(answer: &'static [u8], pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let head = io::BufReader::new(stream.try_clone().unwrap()).lines();
            head.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            thread::sleep(pause);
            let _ = stream.write_all(answer);
        });
        address
    }

    fn ask(answer: &'static [u8]) -> Result<Vec<u8>, ClientError> {
        get(server(answer, Duration::ZERO), "/x", Duration::from_secs(10), |_| {})
    }

    #[test]
    fn bodies_come_with_a_length_or_until_the_end() {
        assert_eq!(ask(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\r\n").unwrap(), b"a\r\n");
        assert_eq!(ask(b"HTTP/1.0 200 OK\r\n\r\nabc").unwrap(), b"abc");
    }

    #[test]
    fn errors_say_what_was_asked_and_what_was_wrong() {
        let said = |answer| ask(answer).unwrap_err().to_string();
        let status = said(b"HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\nUnknown profile\n");
        assert_eq!(status, "GET /x: status 404: Unknown profile");
        assert_eq!(said(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "GET /x: the answer broke off");
        assert_eq!(said(b"nonsense\r\n\r\n"), "GET /x: the answer is not HTTP/1");
        assert_eq!(said(b"HTTP/1.1 200 OK\r\n"), "GET /x: the answer has no complete head");
        assert!(said(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").contains("does not know"));
    }

    #[test]
    fn it_looks_at_the_clock_while_it_waits() {
        let address = server(b"HTTP/1.1 200 OK\r\n\r\n", Duration::from_millis(450));
        let mut looks = 0;
        get(address, "/x", Duration::from_secs(10), |_| looks += 1).unwrap();
        assert!(looks >= 3, "{looks}");
        let address = server(b"", Duration::from_secs(5));
        let error = get(address, "/x", Duration::from_millis(200), |_| {}).unwrap_err();
        assert!(matches!(error, ClientError::Late { .. }), "{error}");
    }
}
