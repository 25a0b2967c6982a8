//! The port's pages in an axum server of the program's own. Run it, and open http://127.0.0.1:6061/debug/pprof/.
//!
//! It answers only while this server's runtime does; `greenprof_profiler::serve` has a thread of its own for that reason.

use axum::{
    Router,
    extract::Request,
    response::Response,
    routing::{any, get},
};
use greenprof_profiler::{http::Handler, registry};

/// Everything under these paths is the handler's.
fn app() -> Router {
    let handler = Handler::for_loopback(registry());
    let pages = any(move |request: Request| {
        let handler = handler.clone();
        async move { Response::from(handler.answer(request).await.map(axum::body::Body::new)) }
    });
    Router::new()
        .route("/", get(|| async { "the program's own page\n" }))
        .route("/debug/{*path}", pages.clone())
        .route("/metrics", pages)
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6061".to_owned());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(&address).await?;
        println!("http://{}/debug/pprof/", listener.local_addr()?);
        axum::serve(listener, app()).await
    })
}
