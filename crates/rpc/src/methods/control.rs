//! The node itself.

pub(super) mod active;
mod logging;
mod memory;

use std::rc::Rc;

use serde_json::Value;

use super::{Call, Category, Kind, Method, Need, Param, all, find};
use crate::jsonrpc::Error;

pub(super) const METHODS: &[Method] = &[
    memory::GETMEMORYINFO,
    active::GETRPCINFO,
    Method {
        name: "help",
        category: Category::Control,
        params: &[Param {
            names: &["command"],
            kind: Kind::Text,
            need: Need::Optional("default: all methods"),
            about: "The method to explain",
        }],
        about: "Lists all methods, or explains one.",
        result: "\"text\"  (string) the help text",
        example: "getblock",
        needs_chain: false,
        run: |call| Box::pin(help(call)),
    },
    logging::LOGGING,
    Method {
        name: "stop",
        category: Category::Control,
        params: &[Param {
            names: &["wait"],
            kind: Kind::Number,
            need: Need::Hidden,
            about: "Accepted for the sake of Bitcoin Core's tests; milliseconds to wait before the answer",
        }],
        about: "Asks the node to shut down cleanly.",
        result: "\"Handfast stopping\"  (string)",
        example: "",
        needs_chain: false,
        run: |call| Box::pin(stop(call)),
    },
    Method {
        name: "uptime",
        category: Category::Control,
        params: &[],
        about: "Tells for how long the node has been running.",
        result: "n  (numeric) seconds",
        example: "",
        needs_chain: false,
        run: |call| Box::pin(uptime(call)),
    },
];

async fn help(call: Rc<Call>) -> Result<Value, Error> {
    let text = match call.text(0) {
        None | Some("") => overview(),
        Some(name) => match find(name) {
            Some(method) => method.help(),
            None => format!("help: unknown command: {name}"),
        },
    };
    Ok(text.into())
}

fn overview() -> String {
    let mut text = String::new();
    let mut heading = None;
    let listed = all().filter(|method| method.category != Category::Hidden);
    for method in listed {
        if heading != Some(method.category) {
            let gap = if heading.is_some() { "\n" } else { "" };
            text.push_str(&format!("{gap}== {} ==\n", method.category.title()));
            heading = Some(method.category);
        }
        text.push_str(&method.usage());
        text.push('\n');
    }
    text.pop();
    text
}

async fn stop(call: Rc<Call>) -> Result<Value, Error> {
    // At most a minute: the shutdown does not wait for this answer for ever.
    let wait = call.integer::<u64>(0)?.unwrap_or(0).min(60_000);
    call.node.shutdown("RPC stop");
    tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
    Ok("Handfast stopping".into())
}

async fn uptime(call: Rc<Call>) -> Result<Value, Error> {
    Ok(call.node.uptime().as_secs().into())
}
