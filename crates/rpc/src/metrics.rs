//! The page that Prometheus scrapes.
//!
//! What calls cost is counted here as it happens. All else is asked of the node when the
//! page is asked for, so that counting costs the node nothing and no number is kept twice.

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

use handfast_node::{NodeHandle, TIMES};

use crate::methods;

/// Stands for every method that there is not.
pub(crate) const UNKNOWN: &str = "unknown";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    method: &'static str,
    result: &'static str,
}

/// What calls of one method cost.
#[derive(Debug)]
struct Cost {
    seconds: Histogram,
    ok: OnceLock<Counter>,
    error: OnceLock<Counter>,
}

/// What calls cost, by method.
#[derive(Debug)]
pub(crate) struct RpcMetrics {
    seconds: Family<Method, Histogram>,
    calls: Family<Outcome, Counter>,
    /// The members of both, so that a call need not look for them under a lock. Made with
    /// the first call: methods that nobody calls are not on the page.
    costs: HashMap<&'static str, OnceLock<Cost>>,
    turned_away: Counter,
    refused: Family<Refused, Counter>,
}

/// Why a caller was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its address may not call.
    Address,
    /// It calls this machine by a name that is none of its own.
    Host,
    /// No such user, or a wrong password.
    Login,
    /// So many logins from its address have failed that it was not looked at.
    Guesses,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Address, Self::Host, Self::Login, Self::Guesses];

    fn label(self) -> Refused {
        let reason = match self {
            Self::Address => "address",
            Self::Host => "host",
            Self::Login => "login",
            Self::Guesses => "guesses",
        };
        Refused { reason }
    }
}

impl Default for RpcMetrics {
    fn default() -> Self {
        let refused = Family::<Refused, Counter>::default();
        for why in Refusal::ALL {
            // At 0 from the start.
            drop(refused.get_or_create(&why.label()));
        }
        Self {
            seconds: Family::new_with_constructor(|| Histogram::new(TIMES)),
            calls: Family::default(),
            costs: methods::all()
                .map(|method| method.name)
                .chain([UNKNOWN])
                .map(|method| (method, OnceLock::new()))
                .collect(),
            turned_away: Counter::default(),
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
            seconds: self.seconds.get_or_create_owned(&Method { method }),
            ok: OnceLock::new(),
            error: OnceLock::new(),
        });
        cost.seconds.observe(took.as_secs_f64());
        let (count, result) = match ok {
            true => (&cost.ok, "ok"),
            false => (&cost.error, "error"),
        };
        let outcome = Outcome { method, result };
        count
            .get_or_init(|| self.calls.get_or_create_owned(&outcome))
            .inc();
    }

    /// A caller was told to come again.
    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// A caller was refused.
    pub(crate) fn refused(&self, why: Refusal) {
        self.refused.get_or_create(&why.label()).inc();
    }

    /// The page, in the OpenMetrics text format ([`Format::write`] turns it into the plain
    /// one). `evicted`: connections that were ended so
    /// that other callers could come.
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
            "Callers that were told to come again",
            self.turned_away.clone(),
        );
        registry.register(
            "rpc_refused",
            "Callers that were refused, by reason",
            self.refused.clone(),
        );
        registry.register(
            "rpc_evicted",
            "Connections that were ended so that other callers could come",
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
