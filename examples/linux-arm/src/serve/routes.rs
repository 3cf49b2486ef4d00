//! What each path answers.

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use stitchkit_runtime::select::Limits;

use super::Server;
use super::http::{Method, Request, Response};
use super::queue::Job;
use crate::answer::Answer;
use crate::args::RawFormat;
use crate::json;
use crate::service::{Question, Refusal};
use crate::tasks::plan_json;

/// Answers one request.
pub fn answer(server: &Server, request: Request, arrived: Instant) -> Response {
    let metrics = &server.service.metrics;
    match (&*request.path, request.method) {
        ("/v1/infer", Method::Post) => infer(server, request, arrived),
        ("/v1/plans", Method::Get) => plans(server),
        ("/health", Method::Get) => health(server),
        ("/metrics", Method::Get) => {
            let service = &server.service;
            Response::metrics(metrics.text(&service.view(), service.level().0, service.how().threads))
        }
        ("/v1/infer", _) => {
            metrics.count_error("method");
            Response::method_not_allowed("Allow: POST\r\n")
        }
        ("/v1/plans" | "/health" | "/metrics", _) => {
            metrics.count_error("method");
            Response::method_not_allowed("Allow: GET\r\n")
        }
        _ => {
            metrics.count_error("not_found");
            Response::error(404, "not_found", "try POST /v1/infer, GET /v1/plans, GET /health or GET /metrics")
        }
    }
}

fn infer(server: &Server, request: Request, arrived: Instant) -> Response {
    let question = match question(request, arrived) {
        Ok(question) => question,
        Err(text) => {
            server.service.metrics.count_error("malformed");
            return Response::error(400, "malformed", &text);
        }
    };
    match ask(server, question) {
        Ok(answer) => Response::json(200, answer.json()),
        Err(refusal) => {
            let status = match refusal {
                Refusal::Input(_) => 400,
                Refusal::Deadline(_) => 422,
                Refusal::Late(_) | Refusal::Busy | Refusal::Changed => 503,
                Refusal::Failed(_) => 500,
            };
            Response::error(status, refusal.kind(), &refusal.to_string())
        }
    }
}

/// The question that a request asks.
fn question(request: Request, arrived: Instant) -> Result<Question, String> {
    let raw = match request.parameter("format") {
        None | Some("npy") => None,
        Some("pixels") => Some(RawFormat::Pixels),
        Some("int8") => Some(RawFormat::Int8),
        Some(_) => return Err("formats are pixels, int8 and npy".into()),
    };
    let deadline = request.parameter("deadline_ms").or(request.deadline.as_deref());
    let deadline_us = deadline.map(deadline_us).transpose()?;
    Ok(Question { raw, deadline_us, arrived, body: request.body })
}

/// A deadline in milliseconds, decimals allowed.
fn deadline_us(text: &str) -> Result<u64, String> {
    let ms: Option<f64> = text.parse().ok().filter(|ms: &f64| ms.is_finite() && *ms >= 0.0);
    ms.map(|ms| (ms * 1e3) as u64).ok_or_else(|| "a deadline is a number of milliseconds, such as 30 or 2.5".into())
}

/// Gives the question to a worker and waits. Every job gets an answer, and its time is bounded by the queue's length.
fn ask(server: &Server, question: Question) -> Result<Answer, Refusal> {
    let (reply, answer) = sync_channel(1);
    server.queue.push(Job { question, reply }).inspect_err(|refusal| {
        server.service.metrics.count_error(refusal.kind());
    })?;
    let lost = |_| Err(Refusal::Failed("the worker is gone".into()));
    answer.recv().unwrap_or_else(lost)
}

fn health(server: &Server) -> Response {
    let view = server.service.view();
    let is_unchanged = view.generation.file.is_unchanged();
    let (status, state) = match (server.is_draining(), is_unchanged) {
        (true, _) => (503, "draining"),
        (false, false) => (503, "bundle_changed"),
        (false, true) => (200, "ok"),
    };
    let refused = server.service.metrics.refused_because();
    let body = json::object([
        ("schema_version", "1".into()),
        ("status", json::string(state)),
        ("bundle", json::string(&view.generation.name)),
        ("generation", view.generation.number.to_string()),
        ("plan", view.plan.to_string()),
        ("last_reload_refused", refused.map_or_else(|| "null".into(), |reason| json::string(&reason))),
    ]);
    Response::json(status, body)
}

/// The plans, judged by the limits in force.
fn plans(server: &Server) -> Response {
    let view = server.service.view();
    let args = server.service.args();
    let limits = Limits {
        ram_bytes: view.ram_bytes,
        deadline_us: args.latency_us,
        margin_percent: args.margin_percent,
        ..Limits::NONE
    };
    let bundle = match view.generation.parse() {
        Ok(bundle) => bundle,
        Err(refusal) => return Response::error(503, refusal.kind(), &refusal.to_string()),
    };
    let times = &view.generation.times;
    let plans = (0..).zip(bundle.plans()).map(|(index, plan)| plan_json(&bundle, index, &plan, limits, times));
    let body = json::object([
        ("schema_version", "1".into()),
        ("bundle", json::string(&view.generation.name)),
        ("input_bytes", bundle.meta().input.len().to_string()),
        ("chosen", view.plan.to_string()),
        ("plans", json::array(plans)),
    ]);
    Response::json(200, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_milliseconds() {
        assert_eq!(deadline_us("30"), Ok(30_000));
        assert_eq!(deadline_us("2.5"), Ok(2500));
        assert_eq!(deadline_us("1e300"), Ok(u64::MAX));
        for wrong in ["", "-1", "NaN", "inf", "soon"] {
            assert!(deadline_us(wrong).is_err(), "{wrong}");
        }
    }
}
