//! Error codes of Bitcoin Core (`rpc/protocol.h`) and what HTTP makes of them.

use handfast_node::text::without_error_numbers;
use serde_json::{Value, json};

/// The codes in use. Names and numbers are Core's.
pub mod code {
    /// The request is no valid JSON-RPC request.
    pub const INVALID_REQUEST: i32 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The arguments do not go together.
    pub const INVALID_PARAMS: i32 = -32602;
    /// Our own fault.
    pub const INTERNAL_ERROR: i32 = -32603;
    /// The body is not JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// Anything that Core throws as a plain exception, wrong argument counts among them.
    pub const MISC_ERROR: i32 = -1;
    /// An argument of the wrong JSON type.
    pub const TYPE_ERROR: i32 = -3;
    /// No such block.
    pub const INVALID_ADDRESS_OR_KEY: i32 = -5;
    /// An argument out of its range or malformed.
    pub const INVALID_PARAMETER: i32 = -8;
    /// The node is going away.
    pub const CLIENT_NOT_CONNECTED: i32 = -9;
    /// The chain is still being downloaded.
    pub const CLIENT_IN_INITIAL_DOWNLOAD: i32 = -10;
    /// Bytes that do not decode.
    pub const DESERIALIZATION_ERROR: i32 = -22;
    /// `addnode add` of a node that is on the list.
    pub const CLIENT_NODE_ALREADY_ADDED: i32 = -23;
    /// `addnode remove` of a node that is not.
    pub const CLIENT_NODE_NOT_ADDED: i32 = -24;
    /// A header or block was not accepted.
    pub const VERIFY_ERROR: i32 = -25;
    /// The chain is not open yet.
    pub const IN_WARMUP: i32 = -28;
    /// `disconnectnode` of a peer that is not connected.
    pub const CLIENT_NODE_NOT_CONNECTED: i32 = -29;
    /// What is no address and no subnet, or none that is banned.
    pub const CLIENT_INVALID_IP_OR_SUBNET: i32 = -30;
    /// A bounded list is full.
    pub const CLIENT_NODE_CAPACITY_REACHED: i32 = -34;
}

/// Why a call failed, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct Error {
    /// One of [`code`].
    pub code: i32,
    /// For a person.
    pub message: String,
}

impl Error {
    /// An error with one of the [`code`]s.
    #[must_use]
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            message: without_error_numbers(&message).into_owned(),
        }
    }

    /// A value is not of the JSON type that is needed.
    #[must_use]
    pub fn wrong_type(got: &Value, wanted: &str) -> Self {
        Self::new(code::TYPE_ERROR, mismatch(got, wanted))
    }

    /// The HTTP status that version 1 answers with. Core `JSONErrorReply`.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.code {
            code::INVALID_REQUEST => 400,
            code::METHOD_NOT_FOUND => 404,
            _ => 500,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "code": self.code, "message": self.message })
    }
}

/// Core's words for a value of the wrong type.
pub(crate) fn mismatch(got: &Value, wanted: &str) -> String {
    let got = type_name(got);
    format!("JSON value of type {got} is not of expected type {wanted}")
}

/// Core's word for the type of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
