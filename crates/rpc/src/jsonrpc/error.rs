//! Error codes of Bitcoin Core (`rpc/protocol.h`) and what HTTP makes of them.

pub use handfast_api::code;
use handfast_node::text::without_error_numbers;
use serde_json::{Value, json};

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
