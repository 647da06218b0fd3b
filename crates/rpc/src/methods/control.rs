//! The node itself.

pub(super) mod active;
mod logging;
mod memory;

use std::rc::Rc;

use handfast_api::methods::Category;
use handfast_api::methods::control as specs;
use serde_json::Value;

use super::{Call, Method, all, find};
use crate::jsonrpc::Error;

pub(super) const METHODS: &[Method] = &[
    memory::GETMEMORYINFO,
    active::GETRPCINFO,
    Method {
        spec: &specs::HELP,
        run: |call| Box::pin(help(call)),
    },
    logging::LOGGING,
    Method {
        spec: &specs::STOP,
        run: |call| Box::pin(stop(call)),
    },
    Method {
        spec: &specs::UPTIME,
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
