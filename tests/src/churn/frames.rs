//! What the node says, as far as churn needs it: commands, and the payload of a ping.

use handfast_wire::HEADER_BYTES;

/// A frame of the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Version,
    Verack,
    /// With its payload, which is to be sent back.
    Ping([u8; 8]),
    Pong,
    Other,
}

/// The bytes are no frame of this network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoFrame;

/// Longest payload that the node may send here: two full blocks would not fit.
const MAX_PAYLOAD: usize = 4_000_000;

/// Takes the first frame off `bytes`; `None` when it is not complete yet.
pub(super) fn next(bytes: &mut &[u8], magic: [u8; 4]) -> Result<Option<Heard>, NoFrame> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Ok(None);
    };
    let length = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
    let length = usize::try_from(length).map_err(|_| NoFrame)?;
    if header[..4] != magic || length > MAX_PAYLOAD {
        return Err(NoFrame);
    }
    let Some((payload, rest)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    *bytes = rest;
    Ok(Some(match &header[4..16] {
        b"version\0\0\0\0\0" => Heard::Version,
        b"verack\0\0\0\0\0\0" => Heard::Verack,
        b"ping\0\0\0\0\0\0\0\0" => Heard::Ping(payload.try_into().map_err(|_| NoFrame)?),
        b"pong\0\0\0\0\0\0\0\0" => Heard::Pong,
        _ => Heard::Other,
    }))
}
