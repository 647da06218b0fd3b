//! Parsing of values: paths, numbers, addresses.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::SettingsError;
use crate::keys::{Key, Many, One};
use crate::layers::{Layers, Origin};

/// The error of a value that is not one of `wanted`.
#[must_use]
pub fn bad(
    origin: &Origin,
    key: impl Into<Key>,
    value: &str,
    wanted: impl Into<String>,
) -> SettingsError {
    SettingsError::Value {
        reference: origin.reference(key),
        value: value.to_owned(),
        wanted: wanted.into(),
    }
}

/// Parses a path and makes it absolute.
///
/// # Errors
/// The path is empty, or there is no current directory.
pub fn absolute(origin: &Origin, key: One, path: &str) -> Result<PathBuf, SettingsError> {
    std::path::absolute(path).map_err(|_| bad(origin, key, path, "a path"))
}

/// Parses a number in `range`; `wanted` is its description.
///
/// # Errors
/// The number is out of range, or the text is not a number.
pub fn number<T: FromStr + PartialOrd>(
    layers: &Layers,
    key: One,
    range: RangeInclusive<T>,
    wanted: &str,
) -> Result<Option<T>, SettingsError> {
    let Some((origin, text)) = layers.one(key) else {
        return Ok(None);
    };
    match text.parse().ok().filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(bad(origin, key, text, wanted)),
    }
}

/// Parses addresses; `port` is the default port.
///
/// # Errors
/// A text is no address, or an address is given twice.
pub fn addresses(layers: &Layers, key: Many, port: u16) -> Result<Vec<SocketAddr>, SettingsError> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for (origin, text) in layers.many(key) {
        let wanted = "an IP address with an optional port, such as 127.0.0.1:8333 or [::1]:8333";
        let addr = address(text, port).ok_or_else(|| bad(origin, key, text, wanted))?;
        // Each use of port 0 is another port.
        if addr.port() != 0 && found.contains(&addr) {
            return Err(bad(origin, key, text, "an address that is given once"));
        }
        found.push(addr);
    }
    Ok(found)
}

fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let unbracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let without_port = || Some(SocketAddr::new(unbracketed.parse::<IpAddr>().ok()?, port));
    text.parse().ok().or_else(without_port)
}
