//! Arguments by position and by name.

use serde_json::Value;

use super::Members;
use super::error::{Error, code};

/// The `params` of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Params {
    /// `[…]`, or nothing.
    Positional(Vec<Value>),
    /// `{…}`, in the order and with the repetitions of the caller.
    Named(Vec<(String, Value)>),
}

impl Params {
    /// Parses the text of `params`.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let broken = |_| Error::new(code::PARSE_ERROR, "Parse error");
        match text.as_bytes().first() {
            Some(b'[') => Ok(Self::Positional(
                serde_json::from_str(text).map_err(broken)?,
            )),
            Some(b'n') => Ok(Self::Positional(Vec::new())),
            Some(b'{') => {
                let Members(members) = serde_json::from_str(text).map_err(broken)?;
                let parse =
                    |(name, value): (std::borrow::Cow<'_, str>, &serde_json::value::RawValue)| {
                        Ok((
                            name.into_owned(),
                            serde_json::from_str(value.get()).map_err(broken)?,
                        ))
                    };
                Ok(Self::Named(
                    members
                        .into_iter()
                        .map(parse)
                        .collect::<Result<_, Error>>()?,
                ))
            }
            _ => Err(Error::new(
                code::INVALID_REQUEST,
                "Params must be an array or object",
            )),
        }
    }
}

/// Puts arguments into the order of `names`; each entry lists the names that one
/// parameter answers to, its own first.
///
/// Gaps are filled with `null`, but not behind the last argument given. The
/// special name `args` holds leading positional arguments, as in Bitcoin Core.
///
/// # Errors
/// A name given twice, an unknown name, an argument given by position and by name.
pub fn positional(params: Params, names: &[&[&str]]) -> Result<Vec<Value>, Error> {
    let named = match params {
        Params::Positional(values) => return Ok(values),
        Params::Named(named) => named,
    };
    let bad = |message: String| Error::new(code::INVALID_PARAMETER, message);
    let mut left: Vec<(String, Value)> = Vec::with_capacity(named.len());
    for (name, value) in named {
        if left.iter().any(|(known, _)| *known == name) {
            return Err(bad(format!("Parameter {name} specified multiple times")));
        }
        left.push((name, value));
    }

    let mut values = Vec::new();
    let mut first = None;
    for (position, aliases) in names.iter().enumerate() {
        // Of two aliases the first of the table wins; the other is reported as unknown.
        let found = aliases
            .iter()
            .find_map(|alias| left.iter().position(|(name, _)| name == alias));
        let Some(index) = found else { continue };
        first.get_or_insert((position, aliases));
        values.resize(position, Value::Null);
        values.push(left.remove(index).1);
    }
    // Whatever `args` is, it is no unknown name; only an array is of use.
    let leading = left.iter().position(|(name, _)| name == "args");
    if let Some(Value::Array(mut leading)) = leading.map(|index| left.remove(index).1) {
        if let Some((position, aliases)) = first
            && position < leading.len()
        {
            let names = aliases.join("|");
            return Err(bad(format!(
                "Parameter {names} specified twice both as positional and named argument"
            )));
        }
        leading.extend(values.into_iter().skip(leading.len()));
        values = leading;
    }
    match left.first() {
        None => Ok(values),
        Some((name, _)) => Err(bad(format!("Unknown named parameter {name}"))),
    }
}
