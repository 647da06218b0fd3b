//! The report as one HTML page that loads nothing.

use std::fmt::Write as _;

use super::bars::bars;
use super::plot::{Line, plot};
use super::{Report, TOOL, milliseconds, utc};
use crate::engine::{Counters, ScenarioCounts};
use crate::oracle::{Followed, Health, Verdict};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:760px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}\
table{border-collapse:collapse;width:100%}td,th{text-align:right;padding:.2em .6em;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}\
.verdict{font-size:1.6em;font-weight:600;padding:.3em .6em;border-radius:.3em;display:inline-block}\
.good{background:#dff3e0}.bad{background:#fbe0de}\
code{background:#f2f2f2;padding:.1em .3em;overflow-wrap:anywhere}figure{margin:1em 0}\
svg text{font-size:11px;fill:#555}svg .grid{stroke:#e5e5e5}.legend{margin:0;font-size:.85em}";

pub(super) fn page(report: &Report<'_>) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <title>handfast fuzz: {verdict}</title><style>{STYLE}</style>\n",
        verdict = report.outcome.judgement.verdict
    );
    head(&mut page, report);
    evidence(&mut page, report);
    scenarios(&mut page, &report.outcome.seen.counters);
    plots(&mut page, report);
    looks(&mut page, report);
    page.push_str("</html>\n");
    page
}

fn head(page: &mut String, report: &Report<'_>) {
    let outcome = report.outcome;
    let counters = &outcome.seen.counters;
    let class = match outcome.judgement.verdict {
        Verdict::Ok => "good",
        _ => "bad",
    };
    let _ = write!(
        page,
        "<h1>Fuzz run against {target}</h1>\n<p class=\"verdict {class}\">{verdict}</p>\n\
         <p>{agent}, protocol version {version}, on {network}. {ended} connections{unfinished} in {seconds:.1} s \
         ({rate:.0} a second, {concurrency} at a time), scenarios: {scenarios}.{interrupted}</p>\n\
         <p>Begun {at}, by {TOOL}.{waits}</p>\n\
         <p>To repeat: <code>{command}</code></p>\n",
        at = utc(outcome.at),
        waits = report.waits().iter().fold(String::new(), |all, wait| {
            format!("{all} Waited {}.", escaped(wait))
        }),
        target = report.target,
        verdict = outcome.judgement.verdict,
        agent = escaped(&outcome.version_info.user_agent),
        version = outcome.version_info.version,
        network = escaped(report.network),
        ended = counters.total().ended,
        unfinished = match counters.total().unfinished() {
            0 => String::new(),
            unfinished => format!(", and {unfinished} that had not ended when the run ended,"),
        },
        seconds = counters.elapsed.as_secs_f64(),
        rate = counters.rate(),
        concurrency = report.concurrency,
        scenarios = escaped(&report.scenarios),
        interrupted = match outcome.interrupted {
            true => " It was stopped early.",
            false => "",
        },
        command = escaped(&report.command),
    );
}

fn evidence(page: &mut String, report: &Report<'_>) {
    let evidence = &report.outcome.judgement.evidence;
    page.push_str("<h2>Evidence</h2>\n");
    if evidence.is_empty() {
        page.push_str(
            "<p>Before, during and after the run the target accepted honest peers, and nothing \
             remained of closed connections.</p>\n",
        );
        return;
    }
    page.push_str("<ul>");
    for one in evidence {
        let _ = write!(
            page,
            "<li><b>{}</b>: {}</li>",
            one.verdict,
            escaped(&one.text)
        );
    }
    page.push_str("</ul>\n");
}

fn scenarios(page: &mut String, counters: &Counters) {
    page.push_str(
        "<h2>Connections</h2>\n<table><tr><th>scenario</th><th>begun</th><th>ended</th>\
         <th>unfinished</th><th>by the target</th><th>failed</th></tr>\n",
    );
    let mut row = |name: &str, counts: &ScenarioCounts| {
        let failures: u64 = counts.failures.values().sum();
        let _ = writeln!(
            page,
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{failures}</td></tr>",
            counts.begun,
            counts.ended,
            counts.unfinished(),
            counts.ended_by_target
        );
    };
    for (scenario, counts) in &counters.scenarios {
        row(scenario.name(), counts);
    }
    let total = counters.total();
    row("all", &total);
    page.push_str("</table>\n");
    if !total.failures.is_empty() {
        page.push_str("<h2>Failures by kind</h2>\n<table>");
        for (failure, count) in &total.failures {
            let _ = writeln!(page, "<tr><td>{failure}</td><td>{count}</td></tr>");
        }
        page.push_str("</table>\n");
    }
    page.push_str("<h2>Handshakes</h2>\n<table><tr><th>of</th>");
    let shares = [50.0, 90.0, 99.0, 99.9, 100.0];
    for share in shares {
        let _ = write!(page, "<th>{share} %</th>");
    }
    let _ = write!(page, "</tr><tr><td>{}</td>", counters.handshakes());
    for share in shares {
        let time = milliseconds(counters.handshake_percentile(share));
        let _ = write!(page, "<td>{time:.1} ms</td>");
    }
    page.push_str("</tr></table>\n");
    let title = "Handshakes by how long they took, up to ms; both axes logarithmic";
    page.push_str(&bars(title, &counters.handshake_buckets()));
}

fn plots(page: &mut String, report: &Report<'_>) {
    let counters = &report.outcome.seen.counters;
    let zero = report.outcome.connections_from.as_secs_f64();
    let by_second = |value: fn(&crate::engine::Second) -> u32| {
        let seconds = counters.seconds.iter().enumerate();
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds of a run are far below 2^52"
        )]
        let point = |(at, second)| (zero + at as f64, f64::from(value(second)));
        seconds.map(point).collect()
    };
    page.push_str("<h2>Over time</h2>\n");
    page.push_str(&plot(
        "Connections per second",
        "",
        &[
            Line {
                label: "ended",
                points: by_second(|second| second.ended),
                colour: "#2a6fb0",
            },
            Line {
                label: "failed",
                points: by_second(|second| second.failed),
                colour: "#c0392b",
            },
        ],
    ));
    let seen = |label, value: fn(&Health) -> Option<f64>| {
        let points = report.looks();
        let points = points.filter_map(|health| Some((health.at.as_secs_f64(), value(health)?)));
        [Line {
            label,
            points: points.collect(),
            colour: "#2a6fb0",
        }]
    };
    let handshake = seen("handshake", |it| {
        it.handshake.as_ref().ok().map(|took| milliseconds(*took))
    });
    page.push_str(&plot("Handshake of an honest peer", "ms", &handshake));
    let ping = seen("ping", |it| match it.answers.pong {
        Some(Ok(took)) => Some(milliseconds(took)),
        Some(Err(_)) | None => None,
    });
    page.push_str(&plot("Ping of an honest peer, median of five", "ms", &ping));
    let block = seen("block", |it| match it.block {
        Some(Ok(Followed::After(took))) => Some(milliseconds(took)),
        _ => None,
    });
    page.push_str(&plot("Time until a new block was followed", "ms", &block));
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let memory = seen("memory", |it| {
        it.memory.map(|bytes| bytes as f64 / 1_048_576.0)
    });
    page.push_str(&plot("Memory of the target", "MiB", &memory));
    #[expect(clippy::cast_precision_loss, reason = "descriptors are far below 2^52")]
    let descriptors = seen("descriptors", |it| it.descriptors.map(|count| count as f64));
    page.push_str(&plot("Descriptors of the target", "", &descriptors));
    #[expect(clippy::cast_precision_loss, reason = "peers are far below 2^52")]
    let peers = seen("peers", |it| it.peers.map(|count| count as f64));
    page.push_str(&plot("Peers by its own account", "", &peers));
}

fn looks(page: &mut String, report: &Report<'_>) {
    page.push_str(
        "<h2>What an honest peer saw</h2>\n<table><tr><th>at</th><th>handshake</th>\
         <th>ping</th><th>new block</th><th>peers</th><th>audit</th></tr>\n",
    );
    for health in report.looks() {
        let handshake = match &health.handshake {
            Ok(took) => format!("{:.1} ms", milliseconds(*took)),
            Err(error) => escaped(&error.to_string()),
        };
        let ping = match &health.answers.pong {
            None => "–".to_owned(),
            Some(Ok(took)) => format!("{:.1} ms", milliseconds(*took)),
            Some(Err(error)) => escaped(&error.to_string()),
        };
        let block = match &health.block {
            None => "–".to_owned(),
            Some(Ok(Followed::After(took))) => format!("{:.0} ms", milliseconds(*took)),
            Some(Ok(Followed::Not { waited, .. })) => {
                format!("not within {:.0} s", waited.as_secs_f64())
            }
            Some(Ok(Followed::Overtaken { waited, blocks })) => {
                let seconds = waited.as_secs_f64();
                format!("overtaken: {blocks} blocks of its own in {seconds:.0} s")
            }
            Some(Ok(Followed::Unmade { waited })) => {
                format!("none made within {:.0} s", waited.as_secs_f64())
            }
            Some(Err(error)) => escaped(&error.to_string()),
        };
        let peers = health
            .peers
            .map_or("–".to_owned(), |peers| peers.to_string());
        let audit = match &health.audit {
            None => "–".to_owned(),
            Some(Ok(())) => "clean".to_owned(),
            Some(Err(broken)) => escaped(broken),
        };
        let _ = writeln!(
            page,
            "<tr><td>{:.1} s</td><td>{handshake}</td><td>{ping}</td><td>{block}</td><td>{peers}</td><td>{audit}</td></tr>",
            health.at.as_secs_f64()
        );
    }
    page.push_str("</table>\n");
}

/// # Security
/// Strings of the target, its user agent among them, are escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
