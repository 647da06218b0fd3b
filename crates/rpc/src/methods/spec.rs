//! A method: its description and its code.

use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;

use handfast_api::methods::{Kind, Need, Spec};
use serde_json::{Map, Value};

use super::Call;
use crate::jsonrpc::{Error, code};

/// What a method's code returns. Not `Send`: it runs on the worker that read the request.
pub(super) type Run = fn(Rc<Call>) -> Pin<Box<dyn Future<Output = Result<Value, Error>>>>;

/// One method.
pub(crate) struct Method {
    pub(super) spec: &'static Spec,
    pub(super) run: Run,
}

impl Deref for Method {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        self.spec
    }
}

impl Method {
    /// The names of the parameters, as [`crate::jsonrpc::positional`] takes them.
    pub(super) fn names(&self) -> Vec<&'static [&'static str]> {
        self.params.iter().map(|param| param.names).collect()
    }

    /// Checks the number of arguments and their types, and words failures as Core does.
    pub(super) fn check(&self, arguments: &[Value]) -> Result<(), Error> {
        let least = self
            .params
            .iter()
            .take_while(|param| param.need == Need::Required)
            .count();
        if !(least..=self.params.len()).contains(&arguments.len()) {
            return Err(Error::new(code::MISC_ERROR, self.help()));
        }
        let mut wrong = Map::new();
        for (index, (param, value)) in self.params.iter().zip(arguments).enumerate() {
            if value.is_null() && param.need != Need::Required {
                continue;
            }
            if let Some(mismatch) = mismatch(param.kind, value) {
                wrong.insert(
                    format!("Position {} ({})", index + 1, param.names.join("|")),
                    mismatch.into(),
                );
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            code::TYPE_ERROR,
            format!("Wrong type passed:\n{}", indented(&Value::Object(wrong))),
        ))
    }
}

/// What is wrong with `value` as an argument of this kind, if anything.
fn mismatch(kind: Kind, value: &Value) -> Option<String> {
    let (fits, wanted) = match kind {
        Kind::Text | Kind::Hex => (value.is_string(), "string"),
        Kind::Number => (value.is_number(), "number"),
        Kind::Flag => (value.is_boolean(), "bool"),
        Kind::Level => (true, "number"),
        Kind::HashOrHeight | Kind::Any | Kind::Json => (true, "string"),
        Kind::Range => (true, "number"),
        Kind::List => (value.is_array(), "array"),
        Kind::Object => (value.is_object(), "object"),
    };
    (!fits).then(|| crate::jsonrpc::mismatch(value, wanted))
}

/// JSON with an indent of four, as Core puts it into error messages.
fn indented(value: &Value) -> String {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .expect("a Value always serializes to memory");
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}
