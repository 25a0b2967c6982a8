//! The port's pages in a hyper server of the program's own, behind a token that stands in the environment. Run it with
//! `GREENPROF_TOKEN=secret`, and open http://:secret@127.0.0.1:6062/debug/pprof/.

use greenprof_profiler::{
    http::{Handler, Token},
    registry,
};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6062".to_owned());
    let handler = Handler::with_token(registry(), Token::from_env("GREENPROF_TOKEN")?);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(&address).await?;
        println!("http://{}/debug/pprof/", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let handler = handler.clone();
            tokio::spawn(async move {
                let connection =
                    http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), handler);
                if let Err(error) = connection.await {
                    eprintln!("a connection has failed: {error}");
                }
            });
        }
    })
}
