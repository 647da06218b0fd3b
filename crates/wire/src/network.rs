//! The Bitcoin networks and what differs between them.

/// A Bitcoin network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// The main network.
    Mainnet,
    /// Public test network 4 (BIP94).
    Testnet4,
    /// Public test network 3.
    Testnet3,
    /// Public signet (BIP325).
    Signet,
    /// A signet of one's own: the challenge script gives the magic (BIP325).
    CustomSignet {
        /// Serialized challenge script.
        challenge: Vec<u8>,
    },
    /// Local regression test network.
    Regtest,
}
