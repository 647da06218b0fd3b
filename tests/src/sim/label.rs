//! A message in a few words, for the trace.

use std::fmt;

use handfast_wire::Message;

/// See the module.
pub(crate) struct Label<'a>(pub(crate) &'a Message);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.command())?;
        match self.0 {
            Message::Headers(headers) => write!(f, " {}", headers.len()),
            Message::Inv(items) | Message::GetData(items) | Message::NotFound(items) => {
                write!(f, " {}", items.len())
            }
            Message::GetHeaders(locator) => match locator.hashes.first() {
                Some(first) => write!(f, " after {first}"),
                None => Ok(()),
            },
            Message::Block(block) => write!(f, " {}", block.hash),
            Message::Ping(nonce) | Message::Pong(nonce) => write!(f, " {nonce:x}"),
            Message::Addr(addrs) => write!(f, " {}", addrs.len()),
            Message::AddrV2(addrs) => write!(f, " {}", addrs.len()),
            Message::Version(_)
            | Message::Verack
            | Message::SendHeaders
            | Message::SendAddrV2
            | Message::WtxidRelay
            | Message::SendCmpct { .. }
            | Message::FeeFilter(_)
            | Message::GetAddr
            | Message::GetBlocks(_)
            | Message::Tx(_)
            | Message::Mempool
            | Message::Unknown { .. } => Ok(()),
        }
    }
}
