//! Blocks on demand. Hidden from `help`, as in Core: they are for test networks.

use std::rc::Rc;

use bitcoin::{ScriptBuf, Transaction, Txid};
use handfast_api::methods::hidden as specs;
use handfast_node::mining::{GenerateFailure, GenerateRequest, Generated};
use handfast_node::{GenerateError, RejectKind};
use serde_json::{Value, json};

use super::super::raw_transactions;
use super::{Call, Method};
use crate::jsonrpc::{Error, code};
use crate::payout::{self, PayoutError};

/// The default number of hashes to try. Core `DEFAULT_MAX_TRIES`.
const DEFAULT_MAX_TRIES: u64 = 1_000_000;

pub(in crate::methods) const GENERATE: Method = Method {
    spec: &specs::GENERATE,
    run: |_| {
        Box::pin(async {
            let message = "generate is not offered: use generatetoaddress";
            Err(Error::new(code::METHOD_NOT_FOUND, message))
        })
    },
};

pub(in crate::methods) const GENERATEBLOCK: Method = Method {
    spec: &specs::GENERATEBLOCK,
    run: |call| Box::pin(generateblock(call)),
};

pub(in crate::methods) const GENERATETOADDRESS: Method = Method {
    spec: &specs::GENERATETOADDRESS,
    run: |call| Box::pin(generatetoaddress(call)),
};

pub(in crate::methods) const GENERATETODESCRIPTOR: Method = Method {
    spec: &specs::GENERATETODESCRIPTOR,
    run: |call| Box::pin(generatetodescriptor(call)),
};

impl From<PayoutError> for Error {
    fn from(why: PayoutError) -> Self {
        match why {
            PayoutError::Address => {
                Self::new(code::INVALID_ADDRESS_OR_KEY, "Error: Invalid address")
            }
            PayoutError::Descriptor(message) => Self::new(code::INVALID_ADDRESS_OR_KEY, message),
            PayoutError::Several(message) => Self::new(code::INVALID_PARAMETER, message),
        }
    }
}

impl From<GenerateError> for Error {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Gone(gone) => gone.into(),
            GenerateError::Failure(GenerateFailure::NotRunning) => {
                Self::new(code::CLIENT_NOT_CONNECTED, "Shutting down")
            }
            GenerateError::Failure(failure) => Self::new(
                code::INTERNAL_ERROR,
                format!("ProcessNewBlock, block not accepted: {failure}"),
            ),
            GenerateError::Dead(_) => Self::new(code::INTERNAL_ERROR, error.to_string()),
        }
    }
}

async fn generatetoaddress(call: Rc<Call>) -> Result<Value, Error> {
    let count = call.integer::<i32>(0)?.unwrap_or(0);
    // A negative number is a large one, as in Core.
    let max_tries = call.integer::<i32>(2)?;
    let max_tries = max_tries.map(|tries| i64::from(tries).cast_unsigned());
    let network = call.node.view().network.bitcoin();
    let payout = payout::of_address(call.text(1).unwrap_or_default(), network)?;
    generate(&call, count, payout, max_tries).await
}

async fn generatetodescriptor(call: Rc<Call>) -> Result<Value, Error> {
    let count = call.integer::<i32>(0)?.unwrap_or(0);
    let max_tries = call.integer::<u64>(2)?;
    let network = call.node.view().network.bitcoin();
    let payout = payout::of_descriptor(call.text(1).unwrap_or_default(), network)?;
    generate(&call, count, payout, max_tries).await
}

async fn generate(
    call: &Call,
    count: i32,
    payout: ScriptBuf,
    max_tries: Option<u64>,
) -> Result<Value, Error> {
    let request = GenerateRequest {
        ticket: 0,
        count: u32::try_from(count).unwrap_or(0),
        max_tries: max_tries.unwrap_or(DEFAULT_MAX_TRIES),
        payout,
        transactions: Vec::new(),
        submit: true,
    };
    call.made_template();
    let Generated { hashes, .. } = call.node.generate(request).await?;
    Ok(hashes.iter().map(ToString::to_string).collect())
}

async fn generateblock(call: Rc<Call>) -> Result<Value, Error> {
    let network = call.node.view().network.bitcoin();
    let output = call.text(0).unwrap_or_default();
    let payout = match payout::of_descriptor(output, network) {
        Err(PayoutError::Descriptor(_)) => payout::of_address(output, network).map_err(|_| {
            let message = "Error: Invalid address or descriptor";
            Error::new(code::INVALID_ADDRESS_OR_KEY, message)
        })?,
        other => other?,
    };
    let listed = call.value(1).as_array().into_iter().flatten();
    let transactions = listed.map(transaction).collect::<Result<Vec<_>, _>>()?;
    let submit = call.flag(2).unwrap_or(true);
    let request = GenerateRequest {
        ticket: 0,
        count: 1,
        max_tries: DEFAULT_MAX_TRIES,
        payout,
        transactions,
        submit,
    };
    call.made_template();
    let Generated { hashes, block } = call.node.generate(request).await.map_err(judged)?;
    let Some(hash) = hashes.first() else {
        return Err(Error::new(code::MISC_ERROR, "Failed to make block."));
    };
    let mut answer = json!({ "hash": hash.to_string() });
    if let Some(block) = block {
        answer["hex"] = crate::render::hex(&block.bytes).into();
    }
    Ok(answer)
}

/// Core checks the block before it works on it, with this error.
fn judged(error: GenerateError) -> Error {
    match &error {
        GenerateError::Failure(GenerateFailure::Refused(reject))
            if reject.kind != RejectKind::Unknown =>
        {
            let message = format!("TestBlockValidity failed: {reject}");
            Error::new(code::VERIFY_ERROR, message)
        }
        _ => error.into(),
    }
}

fn transaction(value: &Value) -> Result<Transaction, Error> {
    let Some(text) = value.as_str() else {
        return Err(Error::wrong_type(value, "string"));
    };
    if text.len() == 64 && text.parse::<Txid>().is_ok() {
        let message = format!("Transaction {text} not in mempool.");
        return Err(Error::new(code::INVALID_ADDRESS_OR_KEY, message));
    }
    let bytes = crate::render::unhex(text);
    let decoded = bytes.and_then(|bytes| raw_transactions::decode(&bytes, Some(true)));
    decoded.ok_or_else(|| {
        let message = format!(
            "Transaction decode failed for {text}. Make sure the tx has at least one input."
        );
        Error::new(code::DESERIALIZATION_ERROR, message)
    })
}
