//! Arguments by position and by name.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::{Error, code};
use super::members::Members;

/// Values in the `params` of a call, at most, those inside of others and the names of members
/// counted too. A value of two bytes takes sixty in memory: 32 MiB of them took a gigabyte.
pub const MAX_VALUES: usize = 200_000;

/// The `params` of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Params {
    /// `[…]`, or nothing.
    Positional(Vec<Value>),
    /// `{…}`, in the client's order and with its repetitions.
    Named(Vec<(String, Value)>),
}

impl Params {
    /// Parses the text of `params`.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let broken = |_| Error::new(code::PARSE_ERROR, "Parse error");
        if text.len() > MAX_VALUES && count_values(text) > MAX_VALUES {
            let message = format!("Too many values in params (at most {MAX_VALUES})");
            return Err(Error::new(code::INVALID_PARAMETER, message));
        }
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

/// How many values a text has, names of members among them; one too many for each list or
/// object that is empty.
fn count_values(text: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// Puts arguments into the order of `names`; each entry lists the names of one parameter, its own
/// first.
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
    let mut known = BTreeSet::new();
    for (name, value) in named {
        if !known.insert(name.clone()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_what_is_inside_of_a_string_is_none() {
        for (text, count) in [
            ("null", 1),
            ("[1]", 2),
            ("[1,2,[3,4]]", 6),
            (r#"["a,b:[{",1]"#, 3),
            (r#"["\\",","]"#, 3),
            (r#"["\",1",2]"#, 3),
            (r#"{"a":1,"b":{"c":2}}"#, 7),
        ] {
            assert_eq!(count_values(text), count, "{text}");
        }
    }

    #[test]
    fn too_many_values_are_refused_before_they_are_parsed() {
        let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert!(Params::parse(&list(MAX_VALUES - 1)).is_ok());
        let error = Params::parse(&list(MAX_VALUES)).expect_err("one too many");
        assert_eq!(error.code, code::INVALID_PARAMETER);
        // A long text is one value.
        let text = format!("[\"{}\"]", ",".repeat(MAX_VALUES * 2));
        assert!(Params::parse(&text).is_ok());
    }
}
