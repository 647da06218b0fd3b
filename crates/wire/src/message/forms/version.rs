//! The payload of `version`.

use bitcoin::p2p::ServiceFlags;
use bytes::{BufMut, Bytes, BytesMut};

use super::super::Version;
use super::super::reader::Reader;
use super::addresses::{ADDRESS, read_address, write_address};
use super::{COUNT, Form};
use crate::compact_size;
use crate::error::DecodeError;
use crate::limits::MAX_USER_AGENT;

/// A `version` ends where its first optional part is missing.
pub(in crate::message) struct VersionForm;

impl Form for VersionForm {
    type Payload = Version;

    const LONGEST: usize = 4 + 8 + 8 + ADDRESS + ADDRESS + 8 + COUNT + MAX_USER_AGENT + 4 + 1;

    fn read(reader: &mut Reader<'_>, _: &Bytes) -> Result<Option<Version>, DecodeError> {
        let version = reader.i32("version")?;
        let services = ServiceFlags::from(reader.u64("services")?);
        // Core: a clock before 1970 counts as 1970.
        let timestamp = reader.i64("timestamp")?.max(0);
        let receiver = read_address(reader)?;
        let (mut sender, mut nonce) = (None, None);
        if !reader.is_empty() {
            sender = Some(read_address(reader)?);
            nonce = Some(reader.u64("nonce")?);
        }
        let mut user_agent = String::new();
        if !reader.is_empty() {
            let len = reader.length("user agent", MAX_USER_AGENT)?;
            user_agent = sanitize(reader.take(len, "user agent")?);
        }
        let mut start_height = None;
        if !reader.is_empty() {
            start_height = Some(reader.i32("start height")?);
        }
        let mut relay = true;
        if !reader.is_empty() {
            relay = reader.u8("relay")? != 0;
        }
        Ok(Some(Version {
            version,
            services,
            timestamp,
            receiver,
            sender,
            nonce,
            user_agent,
            start_height,
            relay,
        }))
    }

    fn length(version: &Version) -> usize {
        let mut len = 4 + 8 + 8 + ADDRESS;
        if version.sender.is_some() && version.nonce.is_some() {
            let agent = version.user_agent.len();
            len += ADDRESS + 8 + compact_size::len(agent as u64) + agent;
            if version.start_height.is_some() {
                len += 4 + 1;
            }
        }
        len
    }

    fn write(version: &Version, out: &mut BytesMut) {
        out.put_i32_le(version.version);
        out.put_u64_le(version.services.to_u64());
        out.put_i64_le(version.timestamp);
        write_address(out, &version.receiver);
        let (Some(sender), Some(nonce)) = (&version.sender, version.nonce) else {
            return;
        };
        write_address(out, sender);
        out.put_u64_le(nonce);
        compact_size::write(out, version.user_agent.len() as u64);
        out.put_slice(version.user_agent.as_bytes());
        let Some(start_height) = version.start_height else {
            return;
        };
        out.put_i32_le(start_height);
        out.put_u8(u8::from(version.relay));
    }

    fn heap_size(version: &Version) -> usize {
        version.user_agent.capacity()
    }
}

/// Removes characters that must not be in a log or an RPC answer. Core `SanitizeString`, default
/// characters.
fn sanitize(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| char::from(byte))
        .filter(|c| c.is_ascii_alphanumeric() || " .,;-_/:?@()".contains(*c))
        .collect()
}
