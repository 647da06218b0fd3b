//! The page that Prometheus scrapes.
//!
//! Calls are counted here as they happen. Everything else is read from the node when the page is
//! requested, so that no number is counted twice.

mod format;
mod node;
mod process;

pub(crate) use format::Format;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use handfast_node::NodeHandle;

use crate::methods;

/// The label of all unknown methods.
pub(crate) const UNKNOWN: &str = "unknown";

/// Upper ends of the buckets, seconds: from an answer out of the snapshot to a full block.
const BUCKETS: [f64; 10] = [
    0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    method: &'static str,
    result: &'static str,
}

/// Counts and times of the calls of one method.
#[derive(Debug)]
struct Cost {
    seconds: Histogram,
    ok: OnceLock<Counter>,
    error: OnceLock<Counter>,
}

/// Counts and times of calls, by method.
#[derive(Debug)]
pub(crate) struct RpcMetrics {
    seconds: Family<MethodLabel, Histogram>,
    calls: Family<OutcomeLabel, Counter>,
    /// The metrics of both outcomes, so that a call need not look them up under a lock. Made with
    /// the first call: methods never called are not on the page.
    costs: HashMap<&'static str, OnceLock<Cost>>,
    rejected: Counter,
    refused: Family<RefusedLabel, Counter>,
}

/// Why a client was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its address may not call.
    Address,
    /// Its `Host` is not a name of this machine.
    Host,
    /// No such user, or a wrong password.
    Login,
    /// Its address has too many failed logins.
    Guesses,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabel {
    reason: &'static str,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Address, Self::Host, Self::Login, Self::Guesses];

    fn label(self) -> RefusedLabel {
        let reason = match self {
            Self::Address => "address",
            Self::Host => "host",
            Self::Login => "login",
            Self::Guesses => "guesses",
        };
        RefusedLabel { reason }
    }
}

impl Default for RpcMetrics {
    fn default() -> Self {
        let refused = Family::<RefusedLabel, Counter>::default();
        for why in Refusal::ALL {
            // At 0 from the start.
            drop(refused.get_or_create(&why.label()));
        }
        Self {
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            calls: Family::default(),
            costs: methods::all()
                .map(|method| method.name)
                .chain([UNKNOWN])
                .map(|method| (method, OnceLock::new()))
                .collect(),
            rejected: Counter::default(),
            refused,
        }
    }
}

impl RpcMetrics {
    /// A call has its answer. `method`: from the table, or [`UNKNOWN`].
    pub(crate) fn called(&self, method: &'static str, took: Duration, ok: bool) {
        let Some(cost) = self.costs.get(method) else {
            return;
        };
        let cost = cost.get_or_init(|| Cost {
            seconds: self.seconds.get_or_create_owned(&MethodLabel { method }),
            ok: OnceLock::new(),
            error: OnceLock::new(),
        });
        cost.seconds.observe(took.as_secs_f64());
        let (count, result) = match ok {
            true => (&cost.ok, "ok"),
            false => (&cost.error, "error"),
        };
        let outcome = OutcomeLabel { method, result };
        count
            .get_or_init(|| self.calls.get_or_create_owned(&outcome))
            .inc();
    }

    /// A call was refused: the work queue is full.
    pub(crate) fn rejected(&self) {
        self.rejected.inc();
    }

    /// A client was refused.
    pub(crate) fn refused(&self, why: Refusal) {
        self.refused.get_or_create(&why.label()).inc();
    }

    /// The page, in the OpenMetrics text format ([`Format::write`] turns it into the plain one).
    /// `evicted`: connections closed for others.
    pub(crate) async fn page(&self, node: &NodeHandle, evicted: u64) -> String {
        let mut registry = Registry::with_prefix("handfast");
        registry.register(
            "rpc_seconds",
            "Time that calls took, by method",
            self.seconds.clone(),
        );
        registry.register("rpc_calls", "Calls, by method", self.calls.clone());
        registry.register(
            "rpc_turned_away",
            "Calls refused: the work queue is full",
            self.rejected.clone(),
        );
        registry.register(
            "rpc_refused",
            "Clients that were refused, by reason",
            self.refused.clone(),
        );
        registry.register(
            "rpc_evicted",
            "Connections closed for other clients",
            ConstCounter::new(evicted),
        );
        node::register(&mut registry, node).await;
        let mut of_process = Registry::default();
        process::register(&mut of_process);
        let mut page = String::new();
        let encoded = encode_registry(&mut page, &registry)
            .and_then(|()| encode_registry(&mut page, &of_process))
            .and_then(|()| encode_eof(&mut page));
        if let Err(error) = encoded {
            let _ = writeln!(page, "# incomplete: {error}");
        }
        page
    }
}
