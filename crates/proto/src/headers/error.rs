//! Why a header is held against the peer that sent it.

use handfast_verdict::Reject;

use super::pow::PowError;

/// What is wrong with a header or a batch of headers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeaderError {
    /// The headers of one message are no chain.
    #[error("the headers of one message do not build on each other")]
    Disconnected,
    /// A header has no proof of work.
    #[error(transparent)]
    ProofOfWork(#[from] PowError),
    /// A header breaks a rule of the chain, or the engine refused it.
    #[error("{0}")]
    Refused(Reject),
}
