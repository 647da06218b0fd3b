//! Values as they were given, and where: the command line overrides the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::error::SettingsError;
use crate::keys::{Flag, Key, Many, One, Shape, similar};

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An option on the command line.
    CommandLine,
    /// A configuration file, and its line, counted from 1.
    File(PathBuf, usize),
}

impl Origin {
    /// How a message refers to `key`: as an option, or as a line of a file.
    #[must_use]
    pub fn reference(&self, key: impl Into<Key>) -> String {
        let name = key.into().name;
        match self {
            Self::CommandLine => format!("--{name}"),
            Self::File(file, line) => format!("{}: line {line}: {name}", file.display()),
        }
    }

    /// Whether both values are on the command line, or both in the file.
    #[must_use]
    pub fn same_layer(&self, other: &Self) -> bool {
        matches!(self, Self::CommandLine) == matches!(other, Self::CommandLine)
    }
}

/// The values of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Their source.
    pub origin: Origin,
    /// The values as they are written; of a switch `true` or `false`.
    pub values: Vec<String>,
    /// Where each value of a list in a file is; empty: all at `origin`.
    places: Vec<Origin>,
}

/// Raw values by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers(BTreeMap<&'static str, Given>);

impl Layers {
    /// Sets the values of `key` on the command line.
    pub fn command_line(&mut self, key: impl Into<Key>, values: Vec<String>) {
        self.0.insert(
            key.into().name,
            Given {
                origin: Origin::CommandLine,
                values,
                places: Vec::new(),
            },
        );
    }

    /// The values of `key`, if any are given.
    pub fn given(&self, key: impl Into<Key>) -> Option<&Given> {
        self.0.get(key.into().name)
    }

    /// The configuration file that a value was read from.
    pub(super) fn file(&self) -> Option<&Path> {
        self.0.values().find_map(|given| match &given.origin {
            Origin::File(file, _) => Some(file.as_path()),
            Origin::CommandLine => None,
        })
    }

    /// The only or last value of `key`.
    pub fn one(&self, key: One) -> Option<(&Origin, &str)> {
        let given = self.given(key)?;
        Some((&given.origin, given.values.last()?))
    }

    /// All values of `key`.
    pub fn many<'a>(&'a self, key: Many) -> impl Iterator<Item = (&'a Origin, &'a str)> {
        let values = |given: &'a Given| {
            given.values.iter().enumerate().map(|(at, value)| {
                let origin = given.places.get(at).unwrap_or(&given.origin);
                (origin, value.as_str())
            })
        };
        self.given(key).into_iter().flat_map(values)
    }

    /// Where the flag `key` is set, if it is.
    pub fn flag(&self, key: Flag) -> Option<&Origin> {
        self.given(key)
            .filter(|given| given.values.last().is_some_and(|value| value == "true"))
            .map(|given| &given.origin)
    }

    /// Adds the values of the configuration file at `path` that the command line does not give.
    ///
    /// # Errors
    /// The file is not TOML, has an unknown key, or a value of the wrong type.
    pub fn add_file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        let syntax = |error: toml::de::Error| SettingsError::Syntax {
            file: path.to_owned(),
            line: error.span().map_or(1, |span| line_at(text, span.start)),
            message: error.message().lines().collect::<Vec<_>>().join(" "),
        };
        let table: toml::Table = text.parse().map_err(syntax)?;
        let lines = lines(text).map_err(syntax)?;
        for (name, value) in &table {
            let (line, of_values) = lines.get(name).cloned().unwrap_or((1, Vec::new()));
            let Some(key) = Key::find(name) else {
                return Err(SettingsError::UnknownKey {
                    file: path.to_owned(),
                    line,
                    key: name.clone(),
                    similar: similar(name),
                });
            };
            let values = read(key.shape, value).ok_or_else(|| SettingsError::Type {
                file: path.to_owned(),
                line,
                key: key.name,
                found: value.type_str(),
                wanted: match key.shape {
                    Shape::One(_) => "one value in quotes, or a number",
                    Shape::Many(_) => "a value in quotes, or a list of such",
                    Shape::Flag => "true or false",
                },
            })?;
            let given = Given {
                origin: Origin::File(path.to_owned(), line),
                values,
                places: of_values
                    .into_iter()
                    .map(|line| Origin::File(path.to_owned(), line))
                    .collect(),
            };
            self.0.entry(key.name).or_insert(given);
        }
        Ok(())
    }
}

/// The line of the byte at `offset`, counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// The line of each key, and of each value in its list if it has one.
fn lines(text: &str) -> Result<BTreeMap<String, (usize, Vec<usize>)>, toml::de::Error> {
    let table = DeTable::parse(text)?;
    let line = |span: std::ops::Range<usize>| line_at(text, span.start);
    let entries = table.get_ref().iter().map(|(key, value)| {
        let of_values = match value.get_ref() {
            DeValue::Array(list) => list.iter().map(|value| line(value.span())).collect(),
            _ => Vec::new(),
        };
        (key.get_ref().to_string(), (line(key.span()), of_values))
    });
    Ok(entries.collect())
}

/// The value in the form of the command line.
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
