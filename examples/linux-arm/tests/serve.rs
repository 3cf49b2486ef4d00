//! `stitchkit-device serve`: answers, reloads, limits, and how it ends.

use stitchkit_runtime::{bundle, kernels};

mod common;
#[path = "../../../device-runtime/src/tract/tests/synthetic.rs"]
mod synthetic;

use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bundle::write::write;
use common::server::{Server, is_native};
use common::{Folder, as_bytes, bundle_with_golden, logits};
use synthetic::Random;

const INPUT_BYTES: usize = 360;

/// Another bundle: same plans, other weights.
fn second_bundle() -> Vec<u8> {
    let mut parts = synthetic::parts();
    parts.name = "second".into();
    parts.weights.reverse();
    write(&parts).unwrap()
}

/// Puts a bundle in place as users should: by rename.
fn replace(folder: &Folder, name: &str, bytes: &[u8]) {
    let next = folder.write("next", bytes);
    fs::rename(next, folder.0.join(name)).unwrap();
}

#[test]
fn answers_are_the_runtimes_logits_for_every_format() {
    let folder = Folder::new("serve-formats");
    let bytes = synthetic::bundle().unwrap();
    let server = Server::start(&folder.write("b.stk", &bytes), &[]);
    let mut client = server.client();
    for seed in 0..5 {
        let input = Random(seed).bytes(INPUT_BYTES);
        let answer = client.post("/v1/infer?format=int8", "", &as_bytes(&input));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!((answer.field("plan"), answer.field("bundle")), ("2", "\"synthetic\""));
        assert_eq!(answer.logits(), logits(&bytes, 2, &input));
    }
    let pixels: Vec<u8> = (0..INPUT_BYTES).map(|i| (i * 7 % 256) as u8).collect();
    let from_pixels = client.post("/v1/infer", "", &pixels).logits();
    assert_eq!(client.post("/v1/infer?format=pixels", "", &pixels).logits(), from_pixels);
    let header = format!("{:<117}\n", "{'descr': '|u1', 'fortran_order': False, 'shape': (12, 10, 3), }");
    let npy = [b"\x93NUMPY\x01\x00\x76\x00".as_slice(), header.as_bytes(), &pixels].concat();
    assert_eq!(client.post("/v1/infer", "", &npy).logits(), from_pixels);
    assert_eq!(server.metric("stitchkit_inferences_total"), 8);
    assert!(server.stop().success());
}

#[test]
fn a_deadline_is_met_or_refused() {
    let folder = Folder::new("serve-deadline");
    let server = Server::start(&folder.write("b.stk", synthetic::bundle().unwrap()), &[]);
    let mut client = server.client();
    let input = [0; INPUT_BYTES];
    let easy = client.post("/v1/infer?deadline_ms=100000", "", &input);
    assert_eq!((easy.field("plan"), easy.field("deadline_us"), easy.field("deadline_met")), ("2", "100000000", "true"));
    let by_field = client.post("/v1/infer", "X-Deadline-Ms: 100000\r\n", &input);
    assert_eq!(by_field.field("deadline_us"), "100000000");
    let hopeless = client.post("/v1/infer?deadline_ms=0", "", &input);
    assert_eq!((hopeless.status, hopeless.field("error")), (422, "\"deadline\""));
    let nonsense = client.post("/v1/infer?deadline_ms=soon", "", &input);
    assert_eq!((nonsense.status, nonsense.field("error")), (400, "\"malformed\""));
    assert_eq!(server.metric("stitchkit_errors_total{kind=\"deadline\"}"), 1);
}

#[test]
fn reloads_under_load_drop_no_request() {
    const CLIENTS: usize = 6;
    const RELOADS: usize = 20;
    let folder = Folder::new("serve-reload");
    let bundles = [synthetic::bundle().unwrap(), second_bundle()];
    let input = Random(7).bytes(INPUT_BYTES);
    let expected = [("\"synthetic\"", logits(&bundles[0], 2, &input)), ("\"second\"", logits(&bundles[1], 2, &input))];
    assert_ne!(expected[0].1, expected[1].1);
    let server = Server::start(&folder.write("b.stk", &bundles[0]), &["--workers", "3"]);
    let is_over = AtomicBool::new(false);
    let ask = |index: usize| {
        let mut client = server.client();
        let (mut count, mut generation) = (0, 0);
        while !is_over.load(Ordering::Relaxed) {
            if index.is_multiple_of(2) {
                client = server.client();
            }
            let answer = client.post("/v1/infer?format=int8", "", &as_bytes(&input));
            assert_eq!(answer.status, 200, "{answer:?}");
            let right = expected.iter().find(|(name, _)| *name == answer.field("bundle")).unwrap();
            assert_eq!(answer.logits(), right.1, "{answer:?}");
            let now: u64 = answer.field("generation").parse().unwrap();
            assert!(now >= generation, "an answer by an older load");
            generation = now;
            count += 1;
        }
        count
    };
    let asked: u64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|index| scope.spawn(move || ask(index))).collect();
        for round in 1..=RELOADS {
            replace(&folder, "b.stk", &bundles[round % 2]);
            for _ in 0..3 {
                server.signal("HUP");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(server.metric("stitchkit_inferences_total"), asked);
    assert!(server.metric("stitchkit_reloads_total{result=\"ok\"}") > 0);
    assert_eq!(server.metric("stitchkit_reloads_total{result=\"refused\"}"), 0);
    let parts = synthetic::parts();
    let series = format!("stitchkit_plan_inferences_total{{plan=\"2\",path=\"{}\"}}", parts.plans[2].path);
    let by_plan = server.metric(&series);
    assert_eq!(by_plan, asked, "counts go on over reloads");
    assert!(server.stop().success());
}

#[test]
fn a_broken_bundle_is_refused_and_the_old_one_serves() {
    let folder = Folder::new("serve-broken");
    let good = synthetic::bundle().unwrap();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let inputs = [Random(1).bytes(INPUT_BYTES)];
    let lying = bundle_with_golden(&inputs, |plan, input| {
        logits(&good, plan, input).iter().map(|logit| logit ^ i8::from(plan == 2)).collect()
    });
    let server = Server::start(&folder.write("b.stk", &good), &["--memory", "1MiB"]);
    let input = Random(7).bytes(INPUT_BYTES);
    let cases: [(&[u8], &str); 4] = [
        (b"nonsense", "not a stitchkit bundle"),
        (&good[..good.len() / 2], "truncated"),
        (&damaged, ""),
        (&lying, "golden"),
    ];
    for (round, (bytes, says)) in (1..).zip(cases) {
        replace(&folder, "b.stk", bytes);
        server.signal("HUP");
        server.wait_for("stitchkit_reloads_total{result=\"refused\"}", round);
        assert_eq!(server.metric("stitchkit_last_reload_ok"), 0);
        let health = server.get("/health");
        assert_eq!(health.status, 200);
        assert!(health.field("last_reload_refused").contains(says), "{health:?} should say {says}");
        let page = server.get("/metrics").body;
        assert!(page.contains("stitchkit_last_reload_refused{reason=\"") && page.contains(says), "{page}");
        let answer = server.post("/v1/infer?format=int8", &as_bytes(&input));
        assert_eq!((answer.field("generation"), answer.logits()), ("1", logits(&good, 2, &input)));
    }
    replace(&folder, "b.stk", &second_bundle());
    server.signal("HUP");
    server.wait_for("stitchkit_reloads_total{result=\"ok\"}", 1);
    assert_eq!(server.get("/health").field("last_reload_refused"), "null");
    assert_eq!(server.post("/v1/infer", &[0; INPUT_BYTES]).field("bundle"), "\"second\"");
}

#[test]
fn several_threads_answer_with_the_same_logits() {
    let folder = Folder::new("serve-threads");
    let good = synthetic::bundle().unwrap();
    let server = Server::start(&folder.write("b.stk", &good), &["--threads", "3", "--workers", "2"]);
    assert_eq!(server.metric("stitchkit_threads"), 3);
    for seed in 0..8 {
        let input = Random(seed).bytes(INPUT_BYTES);
        let answer = server.post("/v1/infer?format=int8", &as_bytes(&input));
        assert_eq!(answer.logits(), logits(&good, 2, &input));
    }
}

#[test]
fn a_bundle_changed_in_place_is_noticed_and_not_used() {
    let folder = Folder::new("serve-in-place");
    let good = synthetic::bundle().unwrap();
    let path = folder.write("b.stk", &good);
    let server = Server::start(&path, &[]);
    assert_eq!(server.post("/v1/infer", &[0; INPUT_BYTES]).status, 200);
    for contents in [&good[..100], &[0; 4000], &[]] {
        fs::write(&path, contents).unwrap();
        let refused = server.post("/v1/infer", &[0; INPUT_BYTES]);
        assert_eq!((refused.status, refused.field("error")), (503, "\"bundle_changed\""));
        assert_eq!(server.get("/health").field("status"), "\"bundle_changed\"");
        assert_eq!(server.get("/v1/plans").status, 503);
    }
    replace(&folder, "b.stk", &good);
    server.signal("HUP");
    server.wait_for("stitchkit_reloads_total{result=\"ok\"}", 1);
    assert_eq!(server.post("/v1/infer", &[0; INPUT_BYTES]).status, 200);

    let copied = Server::start(&path, &["--copy"]);
    fs::write(&path, []).unwrap();
    assert_eq!(copied.post("/v1/infer", &[0; INPUT_BYTES]).status, 200, "a copy needs no file");
}

#[test]
fn hostile_requests_get_an_error_and_leave_the_server_serving() {
    let folder = Folder::new("serve-hostile");
    let bundle = folder.write("b.stk", synthetic::bundle().unwrap());
    let server = Server::start(&bundle, &["--max-body", "2000"]);
    let long = "x".repeat(9000);
    let fields = "a: b\r\n".repeat(60);
    let cases: Vec<(String, u16)> = vec![
        ("\r\n\0\0\0\r\n\r\n".into(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".into(), 400),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\n{fields}\r\n"), 431),
        ("POST /v1/infer HTTP/1.1\r\n\r\n".into(), 411),
        ("POST /v1/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 411),
        ("POST /v1/infer HTTP/1.1\r\nContent-Length: -1\r\n\r\n".into(), 400),
        ("POST /v1/infer HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".into(), 400),
        (format!("POST /v1/infer HTTP/1.1\r\nContent-Length: 2001\r\n\r\n{long}"), 413),
        (format!("POST /v1/infer HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{long}"), 413),
        ("POST /v1/infer HTTP/1.1\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n".into(), 417),
        ("POST /v1/infer HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".into(), 400),
        (format!("POST /v1/infer HTTP/1.1\r\nContent-Length: 720\r\n\r\n{}", "z".repeat(720)), 400),
        ("POST /v1/infer?format=jpeg HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".into(), 400),
        ("GET /v1/infer HTTP/1.1\r\n\r\n".into(), 405),
        ("DELETE /health HTTP/1.1\r\n\r\n".into(), 405),
        ("GET /../etc/passwd HTTP/1.1\r\n\r\n".into(), 404),
    ];
    for (request, status) in &cases {
        let answer = server.client().ask(request, &[]);
        assert_eq!(answer.status, *status, "{request:.60?}: {answer:?}");
        assert!(answer.body.contains("\"error\":"), "{answer:?}");
    }
    let mut random = Random(3);
    for _ in 0..60 {
        let len = random.between(0, 400) as usize;
        let noise = as_bytes(&random.bytes(len));
        let mut client = server.client();
        // The server may have closed already.
        let _ = client.stream.write_all(&noise);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        assert!(client.response().is_none_or(|answer| answer.status == 400));
    }
    let cut = server.client();
    (&cut.stream).write_all(b"POST /v1/infer HTTP/1.1\r\nContent-Length: 360\r\n\r\nabc").unwrap();
    drop(cut);
    assert_eq!(server.post("/v1/infer", &[0; INPUT_BYTES]).status, 200);
    assert!(server.stop().success());
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let folder = Folder::new("serve-pipeline");
    let server = Server::start(&folder.write("b.stk", synthetic::bundle().unwrap()), &[]);
    let mut client = server.client();
    let post = format!("POST /v1/infer HTTP/1.1\r\nContent-Length: {INPUT_BYTES}\r\n\r\n{}", "a".repeat(INPUT_BYTES));
    let first = client.ask(&format!("GET /health HTTP/1.1\r\n\r\n{post}GET /nowhere HTTP/1.1\r\n\r\n"), &[]);
    let others = [client.response().unwrap().status, client.response().unwrap().status];
    assert_eq!((first.status, others), (200, [200, 404]));

    let head = format!("POST /v1/infer HTTP/1.1\r\nContent-Length: {INPUT_BYTES}\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.ask(&head, &[]).status, 100);
    assert_eq!(client.ask("", &[0; INPUT_BYTES]).status, 200);
}

#[test]
fn slow_and_superfluous_clients_are_turned_away() {
    let folder = Folder::new("serve-slow");
    let bundle = folder.write("b.stk", synthetic::bundle().unwrap());
    let server = Server::start(&bundle, &["--connections", "2", "--timeout", "400ms"]);
    let mut idle = server.client();
    let mut slow = server.client();
    slow.stream.write_all(b"POST /v1/infer HTTP/1.1\r\nContent-Le").unwrap();
    // Places are taken in the order of accepting; this one comes third.
    let mut third = server.client();
    let turned_away = third.response().unwrap();
    assert_eq!((turned_away.status, turned_away.field("error")), (503, "\"connections\""));
    let late = slow.response().unwrap();
    assert_eq!((late.status, late.field("error")), (408, "\"timeout\""));
    assert!(slow.is_closed() && idle.is_closed());
    assert_eq!(server.metric("stitchkit_errors_total{kind=\"timeout\"}"), 1);
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    const BURST: usize = 24;
    let folder = Folder::new("serve-busy");
    let bundle = folder.write("b.stk", synthetic::bundle().unwrap());
    let server = Server::start(&bundle, &["--workers", "1", "--queue", "1"]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || server.post("/v1/infer", &[0; INPUT_BYTES]).status;
        let clients: Vec<_> = (0..BURST).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let answered = statuses.iter().filter(|&&status| status == 200).count() as u64;
    let refused = statuses.iter().filter(|&&status| status == 503).count() as u64;
    assert_eq!(answered + refused, BURST as u64, "{statuses:?}");
    assert!(answered > 0);
    assert_eq!(server.metric("stitchkit_inferences_total"), answered);
    assert_eq!(server.metric("stitchkit_errors_total{kind=\"busy\"}"), refused);
    assert_eq!(server.post("/v1/infer", &[0; INPUT_BYTES]).status, 200);
}

#[test]
fn sigterm_finishes_what_was_begun_and_exits_0() {
    let folder = Folder::new("serve-drain");
    let mut server = Server::start(&folder.write("b.stk", synthetic::bundle().unwrap()), &[]);
    let mut idle = server.client();
    assert_eq!(idle.ask("GET /health HTTP/1.1\r\n\r\n", &[]).status, 200);
    let mut begun = server.client();
    let head = format!("POST /v1/infer HTTP/1.1\r\nContent-Length: {INPUT_BYTES}\r\n\r\n");
    begun.stream.write_all(head.as_bytes()).unwrap();
    begun.stream.write_all(&[0; 100]).unwrap();
    server.signal("TERM");
    assert!(idle.is_closed(), "an idle connection ends at once");
    let answer = begun.ask("", &[0; INPUT_BYTES - 100]);
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("Connection: close"), "{}", answer.head);
    drop(begun);
    assert!(server.wait().success());
    assert!(std::net::TcpStream::connect(server.address).is_err());
}

#[test]
fn a_request_that_never_ends_does_not_outlast_the_drain() {
    let folder = Folder::new("serve-drain-limit");
    let mut server = Server::start(&folder.write("b.stk", synthetic::bundle().unwrap()), &["--drain", "100ms"]);
    let stuck = server.client();
    (&stuck.stream).write_all(b"POST /v1/infer HTTP/1.1\r\n").unwrap();
    server.get("/health");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(1));
}

/// Free memory is made to look low by a limit on the address space; under an emulator that would hit the emulator.
#[test]
fn low_memory_moves_to_smaller_plans_and_back() {
    if !is_native() {
        return;
    }
    let folder = Folder::new("serve-pressure");
    let bundle = folder.write("b.stk", synthetic::bundle().unwrap());
    let args = ["--pressure", "free", "--low-memory", "48MiB", "--calm", "200ms", "--memory", "1MiB"];
    let server = Server::start(&bundle, &args);
    assert_eq!(server.metric("stitchkit_plan"), 2);
    let pid = server.pid().to_string();
    let limit = |bytes: &str| {
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--as={bytes}:unlimited")]).status();
        assert!(status.unwrap().success());
    };
    // Threads reserve address space when they first allocate; the limit counts from where that has ended.
    let kilobytes = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        size.split_whitespace().next().unwrap().parse().unwrap()
    };
    let mut sizes = [0, kilobytes()];
    while sizes[0] != sizes[1] {
        for _ in 0..8 {
            server.post("/v1/infer", &[0; INPUT_BYTES]);
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        sizes = [sizes[1], kilobytes()];
    }
    limit(&((sizes[1] + 32 * 1024) * 1024).to_string());
    server.wait_for("stitchkit_plan", 0);
    let answer = server.post("/v1/infer", &[0; INPUT_BYTES]);
    assert_eq!(answer.field("plan"), "0");
    limit("unlimited");
    server.wait_for("stitchkit_plan", 2);
    assert_eq!(server.post("/v1/infer", &[0; INPUT_BYTES]).field("plan"), "2");
    assert_eq!(server.metric("stitchkit_plan_switches_total"), 4);
    assert_eq!(server.metric("stitchkit_pressure_level"), 0);
}

#[test]
fn what_cannot_be_served_is_said_before_listening() {
    let folder = Folder::new("serve-refused");
    let good = folder.write("b.stk", synthetic::bundle().unwrap());
    let bad = folder.write("bad.stk", "nonsense");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = busy.local_addr().unwrap().to_string();
    let cases: [(&[&str], i32, &str); 4] = [
        (&[&bad], 1, "bad.stk"),
        (&[&good, "--memory", "10"], 3, "the smallest plan needs"),
        (&[&good, "--listen", &taken], 1, &taken),
        (&[&good, "--isa", "mmx"], 2, "reference"),
    ];
    for (args, status, says) in cases {
        let output = common::server::program().arg("serve").args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?} should say {says}: {text}");
    }
}
