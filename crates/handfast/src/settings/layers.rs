//! Values as they were given, and by whom: the command line over the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::SettingsError;
use super::keys::{Shape, find};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    CommandLine,
    File(PathBuf),
}

/// The values of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) origin: Origin,
    pub(crate) values: Vec<String>,
}

/// How a message refers to a key: an option or a line of a file.
pub(crate) struct Reference<'a>(pub(crate) &'a Origin, pub(crate) &'a str);

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Origin::CommandLine => write!(f, "--{}", self.1),
            Origin::File(file) => write!(f, "{}: {}", file.display(), self.1),
        }
    }
}

/// Raw values by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layers(BTreeMap<&'static str, Given>);

impl Layers {
    /// Sets what the command line says about `key`.
    pub(crate) fn command_line(&mut self, key: &'static str, values: Vec<String>) {
        self.0.insert(
            key,
            Given {
                origin: Origin::CommandLine,
                values,
            },
        );
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Given> {
        self.0.get(key)
    }

    /// The only or last value of `key`.
    pub(crate) fn one(&self, key: &str) -> Option<(&Origin, &str)> {
        let given = self.get(key)?;
        Some((&given.origin, given.values.last()?))
    }

    /// All values of `key`.
    pub(crate) fn many<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a Origin, &'a str)> {
        let values = |given: &'a Given| {
            given
                .values
                .iter()
                .map(|value| (&given.origin, value.as_str()))
        };
        self.get(key).into_iter().flat_map(values)
    }

    /// Who set the flag `key`, if it is set.
    pub(crate) fn flag(&self, key: &str) -> Option<&Origin> {
        self.get(key)
            .filter(|given| given.values.last().is_some_and(|value| value == "true"))
            .map(|given| &given.origin)
    }

    /// Adds what the configuration file at `path` says and the command line does not.
    pub(crate) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let table: toml::Table =
            text.parse()
                .map_err(|error: toml::de::Error| SettingsError::Syntax {
                    file: path.to_owned(),
                    line: error.span().map_or(1, |span| {
                        1 + text[..span.start.min(text.len())].matches('\n').count()
                    }),
                    message: error.message().lines().collect::<Vec<_>>().join(" "),
                })?;
        for (name, value) in &table {
            let Some(key) = find(name) else {
                return Err(SettingsError::UnknownKey {
                    file: path.to_owned(),
                    key: name.clone(),
                });
            };
            let values = read(key.shape, value).ok_or_else(|| SettingsError::Type {
                file: path.to_owned(),
                key: key.name,
                found: value.type_str(),
                wanted: match key.shape {
                    Shape::One(_) => "one value in quotes, or a number",
                    Shape::Many(_) => "a value in quotes, or a list of such",
                    Shape::Flag => "true or false",
                },
            })?;
            let given = Given {
                origin: Origin::File(path.to_owned()),
                values,
            };
            self.0.entry(key.name).or_insert(given);
        }
        Ok(())
    }
}

/// The value in the form that the command line would have given it.
fn read(shape: Shape, value: &toml::Value) -> Option<Vec<String>> {
    let scalar = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        _ => None,
    };
    match (shape, value) {
        (Shape::Many(_), toml::Value::Array(list)) => list.iter().map(scalar).collect(),
        (Shape::One(_) | Shape::Many(_), value) => scalar(value).map(|value| vec![value]),
        (Shape::Flag, toml::Value::Boolean(on)) => Some(vec![on.to_string()]),
        (Shape::Flag, _) => None,
    }
}
