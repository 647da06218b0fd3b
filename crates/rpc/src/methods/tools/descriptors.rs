//! `deriveaddresses` and `getdescriptorinfo`.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use bitcoin::{Address, Network};
use handfast_api::methods::util as specs;
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::descriptor::{self, Descriptor};
use crate::jsonrpc::{Error, code};
use crate::render::descriptor::checksum;

/// Most indices of one call. Core allows 1,000,000, which take a minute and 50 MB.
const MAX_INDICES: i64 = 100_000;
/// Indices that are derived in one turn on the blocking pool: a caller that is gone by
/// then has no more of them derived.
const TURN: u32 = 256;

pub(super) const DERIVEADDRESSES: Method = Method {
    spec: &specs::DERIVEADDRESSES,
    run: |call| Box::pin(deriveaddresses(call)),
};

pub(super) const GETDESCRIPTORINFO: Method = Method {
    spec: &specs::GETDESCRIPTORINFO,
    run: |call| Box::pin(getdescriptorinfo(call)),
};

fn bad(message: impl Into<String>) -> Error {
    Error::new(code::INVALID_PARAMETER, message)
}

fn refused(message: String) -> Error {
    Error::new(code::INVALID_ADDRESS_OR_KEY, message)
}

/// Parses on the blocking pool: a long descriptor takes a while.
async fn parse(call: &Call, checksum_required: bool) -> Result<Descriptor, Error> {
    let text = call.text(0).unwrap_or_default().to_owned();
    let network = call.node.view().network.bitcoin();
    let parse = move || descriptor::parse(&text, checksum_required, network);
    off_the_worker(parse).await?.map_err(refused)
}

async fn off_the_worker<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Error::new(code::INTERNAL_ERROR, "reading the descriptor failed"))
}

async fn getdescriptorinfo(call: Rc<Call>) -> Result<Value, Error> {
    let parsed = parse(&call, false).await?;
    let mut info = json!({ "descriptor": parsed.public(0) });
    if parsed.branches() > 1 {
        let all = (0..parsed.branches()).map(|branch| parsed.public(branch));
        info["multipath_expansion"] = all.collect();
    }
    let body = call.text(0).unwrap_or_default().split('#').next();
    info["checksum"] = checksum(body.unwrap_or_default()).into();
    info["isrange"] = parsed.is_ranged().into();
    info["issolvable"] = parsed.is_solvable().into();
    info["hasprivatekeys"] = parsed.has_private_keys().into();
    Ok(info)
}

async fn deriveaddresses(call: Rc<Call>) -> Result<Value, Error> {
    let range = match call.value(1) {
        Value::Null => None,
        range => Some(indices(range)?),
    };
    let parsed = Arc::new(parse(&call, true).await?);
    let given = call.given() > 1;
    if !parsed.is_ranged() && given {
        let message = "Range should not be specified for an un-ranged descriptor";
        return Err(bad(message));
    }
    if parsed.is_ranged() && !given {
        return Err(bad("Range must be specified for a ranged descriptor"));
    }
    let network = call.node.view().network.bitcoin();
    let range = range.unwrap_or(0..=0);
    let mut branches = Vec::new();
    for branch in 0..parsed.branches() {
        branches.push(branch_of(&parsed, branch, range.clone(), network).await?);
    }
    if branches.len() == 1 {
        return Ok(branches.remove(0));
    }
    Ok(branches.into())
}

async fn branch_of(
    parsed: &Arc<Descriptor>,
    branch: usize,
    range: RangeInclusive<u32>,
    network: Network,
) -> Result<Value, Error> {
    let mut addresses = Vec::new();
    let (mut next, last) = (*range.start(), *range.end());
    while next <= last {
        let end = last.min(next.saturating_add(TURN - 1));
        let (turn, parsed) = (next..=end, parsed.clone());
        let derive = move || derive(&parsed, branch, turn, network);
        addresses.extend(off_the_worker(derive).await??);
        next = end + 1;
    }
    Ok(addresses.into())
}

fn derive(
    parsed: &Descriptor,
    branch: usize,
    range: RangeInclusive<u32>,
    network: Network,
) -> Result<Vec<Value>, Error> {
    let mut addresses = Vec::new();
    for index in range {
        let scripts = parsed.scripts(branch, index).map_err(refused)?;
        // Of combo() there is one output without an address: the key itself.
        let several = scripts.len() > 1;
        for script in scripts {
            match Address::from_script(&script, network) {
                Ok(address) => addresses.push(address.to_string().into()),
                Err(_) if several => {}
                Err(_) => {
                    let message = "Descriptor does not have a corresponding address";
                    return Err(refused(message.to_owned()));
                }
            }
        }
    }
    Ok(addresses)
}

/// The last index, or the first and the last. Core `ParseDescriptorRange`.
fn indices(range: &Value) -> Result<RangeInclusive<u32>, Error> {
    let number = |value: &Value| {
        let number = value
            .as_number()
            .map(|number| number.as_str().parse::<i64>());
        number.map(|parsed| {
            parsed.map_err(|_| Error::new(code::MISC_ERROR, "JSON integer out of range"))
        })
    };
    let pair = range.as_array().filter(|pair| pair.len() == 2);
    let pair = pair.and_then(|pair| Some((number(&pair[0])?, number(&pair[1])?)));
    let (first, last) = match (number(range), pair) {
        (Some(last), _) => (0, last?),
        (None, Some((first, last))) => (first?, last?),
        (None, None) => return Err(bad("Range must be specified as end or as [begin,end]")),
    };
    if first > last && range.is_array() {
        let message = "Range specified as [begin,end] must not have begin after end";
        return Err(bad(message));
    }
    if first < 0 {
        return Err(bad("Range should be greater or equal than 0"));
    }
    if last >> 31 != 0 {
        return Err(bad("End of range is too high"));
    }
    if last >= first + MAX_INDICES {
        return Err(bad("Range is too large"));
    }
    let index = |number: i64| u32::try_from(number).map_err(|_| bad("End of range is too high"));
    Ok(index(first)?..=index(last)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_last_index_or_a_pair_and_has_bounds() {
        assert_eq!(indices(&json!(2)), Ok(0..=2));
        assert_eq!(indices(&json!([5, 7])), Ok(5..=7));
        for (range, message) in [
            (
                json!("2"),
                "Range must be specified as end or as [begin,end]",
            ),
            (
                json!([1]),
                "Range must be specified as end or as [begin,end]",
            ),
            (
                json!([2, 1]),
                "Range specified as [begin,end] must not have begin after end",
            ),
            (json!([-1, 1]), "Range should be greater or equal than 0"),
            (json!(-1), "End of range is too high"),
            (json!(2_147_483_648_u64), "End of range is too high"),
            (json!(100_000), "Range is too large"),
        ] {
            let refusal = indices(&range).expect_err("no range");
            assert_eq!(refusal.message, message, "{range}");
        }
        assert!(indices(&json!(99_999)).is_ok());
    }
}
