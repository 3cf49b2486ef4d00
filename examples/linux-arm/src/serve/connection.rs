//! One connection, from its first request to its end.

use std::net::TcpStream;
use std::time::Duration;

use super::Server;
use super::http::{Next, Persistence, Reader, Response, close};
use super::routes;

/// Time in which a client must take the news that there is no place for it. Short: the accepting thread waits.
const TURN_AWAY_TIME: Duration = Duration::from_millis(20);

/// Answers requests until the client closes, is idle too long, sends something that is no request, or the server drains.
pub fn serve(server: &Server, stream: TcpStream) {
    // An accepted socket may inherit the listener's mode. Answers are one packet each and should leave at once.
    if stream.set_nonblocking(false).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let timeout = server.args.timeout;
    let mut reader = Reader::new(&stream, &server.drained, server.args.max_body_bytes, timeout);
    loop {
        let (response, keeps_alive) = match reader.next() {
            Next::End => return,
            Next::Refused(error) => {
                server.service.metrics.count_error(error.kind());
                (Response::error(error.status(), error.kind(), &error.to_string()), false)
            }
            Next::Request(request, arrived) => {
                let keeps_alive = request.keeps_alive;
                (routes::answer(server, request, arrived), keeps_alive)
            }
        };
        let persistence = match keeps_alive && !server.is_draining() {
            true => Persistence::KeepAlive,
            false => Persistence::Close,
        };
        if response.send(&stream, persistence, timeout).is_err() {
            return;
        }
        if persistence == Persistence::Close {
            return close(&stream);
        }
    }
}

/// Says that all places are taken.
pub fn turn_away(stream: &TcpStream) {
    let response = Response::error(503, "connections", "too many connections");
    if stream.set_nonblocking(false).is_ok() {
        // The client may be gone.
        let _ = response.send(stream, Persistence::Close, TURN_AWAY_TIME);
    }
}
