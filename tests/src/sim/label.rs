//! A message in a few words, for the trace.

use std::fmt;

use handfast_wire::Message;

/// See the module.
pub(crate) struct Label<'a>(pub(crate) &'a Message);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.command())?;
        match self.0 {
            Message::GetHeaders(locator) => match locator.hashes.first() {
                Some(first) => write!(f, " after {first}"),
                None => Ok(()),
            },
            Message::Block(block) => write!(f, " {}", block.hash),
            Message::Ping(nonce) | Message::Pong(nonce) => write!(f, " {nonce:x}"),
            message => match message.entries() {
                0 => Ok(()),
                entries => write!(f, " {entries}"),
            },
        }
    }
}
