//! The target's frames, as far as machines read them: command and payload. Checksums are not
//! verified; what a machine does not need is not decoded.

use handfast_wire::limits::MAX_PAYLOAD_BYTES;
use handfast_wire::{HEADER_BYTES, Kind};

use crate::scenario::ReceivedFrame;

/// The bytes are no frame of this network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoFrame;

/// Takes the first frame from `bytes`; `None` when it is not complete yet.
pub(super) fn next<'a>(
    bytes: &mut &'a [u8],
    magic: [u8; 4],
) -> Result<Option<ReceivedFrame<'a>>, NoFrame> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Ok(None);
    };
    let length = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
    let length = usize::try_from(length).map_err(|_| NoFrame)?;
    if header[..4] != magic || length > MAX_PAYLOAD_BYTES {
        return Err(NoFrame);
    }
    let Some((payload, rest)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    *bytes = rest;
    let name = header[4..16].split(|&byte| byte == 0).next();
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    Ok(Some(ReceivedFrame {
        kind: name.and_then(Kind::from_name),
        payload,
    }))
}

#[cfg(test)]
mod tests {
    use handfast_wire::{Message, Network};

    use super::*;

    #[test]
    fn frames_are_returned_whole_or_not_at_all() {
        let magic = Network::Regtest.magic();
        let frame = Message::Ping(7).encode(magic);
        for cut in 0..frame.len() {
            let mut bytes = &frame[..cut];
            assert_eq!(next(&mut bytes, magic.to_bytes()), Ok(None), "cut at {cut}");
            assert_eq!(bytes.len(), cut, "nothing is taken");
        }
        let mut bytes = &frame[..];
        let received = next(&mut bytes, magic.to_bytes());
        let expected = ReceivedFrame {
            kind: Some(Kind::Ping),
            payload: &7_u64.to_le_bytes(),
        };
        assert_eq!(received, Ok(Some(expected)));
        assert!(bytes.is_empty());
        assert_eq!(next(&mut &frame[..], [0; 4]), Err(NoFrame));
    }
}
