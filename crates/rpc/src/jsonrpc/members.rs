//! Members of objects and elements of lists, without a copy of the text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The elements of a list, one after the other. `text` must be a list.
pub(super) fn elements(text: &RawValue) -> impl Iterator<Item = &RawValue> {
    let mut rest = text.get().trim_start().strip_prefix('[').unwrap_or("");
    std::iter::from_fn(move || {
        let mut element = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        // All of it was seen to be a list: at its end there is a bracket, which is no value.
        let found = element.next()?.ok()?;
        let after = rest.get(element.byte_offset()..)?.trim_start();
        rest = after.strip_prefix(',').unwrap_or("");
        Some(found)
    })
}

/// What a call is made of: of each the first that is given.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) id: Option<&'a RawValue>,
    pub(super) jsonrpc: Option<&'a RawValue>,
    pub(super) method: Option<&'a RawValue>,
    pub(super) params: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, _>()? {
                    let field = match &*name {
                        "id" => &mut fields.id,
                        "jsonrpc" => &mut fields.jsonrpc,
                        "method" => &mut fields.method,
                        "params" => &mut fields.params,
                        _ => continue,
                    };
                    field.get_or_insert(value);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The members of an object, in order, repeated names included.
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let text: &RawValue = serde_json::from_str(text).expect("JSON");
        elements(text).map(RawValue::get).collect()
    }

    #[test]
    fn the_elements_of_a_list_are_found_whatever_they_are() {
        assert!(found("[]").is_empty() && found(" [ \n ] ").is_empty());
        assert_eq!(found("[1]"), ["1"]);
        assert_eq!(
            found(" [ 1,-2.5e3 , null,true,\"a,]\\\"\" ,[[],[1,2]],{\"b\":[1,{}]} ] "),
            [
                "1",
                "-2.5e3",
                "null",
                "true",
                "\"a,]\\\"\"",
                "[[],[1,2]]",
                "{\"b\":[1,{}]}"
            ]
        );
        let many = format!("[{}]", vec!["{}"; 100_000].join(","));
        assert_eq!(found(&many).len(), 100_000);
    }

    #[test]
    fn of_repeated_members_the_first_counts() {
        let text = r#"{"method":"a","x":1,"m\u0065thod":"b","id":null,"id":2}"#;
        let fields: Fields<'_> = serde_json::from_str(text).expect("an object");
        assert_eq!(fields.method.map(RawValue::get), Some("\"a\""));
        assert_eq!(fields.id.map(RawValue::get), Some("null"));
        assert!(fields.params.is_none() && fields.jsonrpc.is_none());
        assert!(serde_json::from_str::<Fields<'_>>("[]").is_err());
    }
}
