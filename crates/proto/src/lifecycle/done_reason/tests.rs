//! Every reason, and what follows from it.

use bitcoin::hashes::Hash;
use handfast_verdict::RejectKind;
use tracing::Level;

use super::*;

fn hash() -> BlockHash {
    BlockHash::from_byte_array([7; 32])
}

fn decode_error() -> DecodeError {
    DecodeError::Truncated {
        command: "inv",
        field: "entries",
    }
}

fn reject(reason: &str) -> Reject {
    Reject {
        kind: RejectKind::Consensus,
        reason: reason.to_owned(),
    }
}

/// A reason, and its class.
type Row = (DoneReason, Class);

/// One of each kind, in the order of [`DoneReason::LABELS`].
fn all() -> [Row; 29] {
    let (min, got, slots) = (31_800, 209, 7);
    let full = SlotRefusal::InboundFull { slots };
    let command = "filterload";
    let orphan = Misbehavior::UnaskedOrphan { block: hash() };
    let block = DoneReason::InvalidBlock {
        hash: hash(),
        reject: reject("bad-cb-amount"),
    };
    let header = HeaderError::Refused(reject("bad-diffbits"));
    let reset = std::io::ErrorKind::ConnectionReset;
    [
        (DoneReason::RemoteClosed, Class::Lost),
        (DoneReason::RemoteReset(reset.into()), Class::Lost),
        (DoneReason::HandshakeTimeout, Class::Silent),
        (DoneReason::SelfConnection, Class::Unsuitable),
        (DoneReason::ObsoleteVersion { got, min }, Class::Unsuitable),
        (DoneReason::MissingServices, Class::Unsuitable),
        (DoneReason::DuplicateConnection, Class::Ours),
        (DoneReason::Undecodable(decode_error()), Class::Faulty),
        (
            DoneReason::MalformedFlood(Garbled::Payload(decode_error())),
            Class::Faulty,
        ),
        (DoneReason::Misbehaving(orphan), Class::Misbehaving),
        (DoneReason::ServiceNotOffered(command), Class::Unsuitable),
        (
            DoneReason::ProtocolViolation(OutOfPlace::FeatureAfterVerack),
            Class::Faulty,
        ),
        (DoneReason::PingTimeout, Class::Silent),
        (DoneReason::Inactive, Class::Silent),
        (DoneReason::SlowReader, Class::Slow),
        (DoneReason::SlowSender, Class::Slow),
        (DoneReason::Refused(full), Class::Ours),
        (DoneReason::Evicted, Class::Ours),
        (DoneReason::Banned, Class::Ours),
        (DoneReason::Discouraged, Class::Ours),
        (DoneReason::InvalidHeader(header), Class::Invalid),
        (block, Class::Invalid),
        (DoneReason::LowWorkChain, Class::Faulty),
        (DoneReason::StaleChain, Class::Slow),
        (DoneReason::HeadersTimeout, Class::Unanswered),
        (DoneReason::BlockStalled { hash: hash() }, Class::Stalling),
        (DoneReason::Requested, Class::Ours),
        (DoneReason::Shutdown, Class::Ours),
        (DoneReason::Panicked, Class::Bug),
    ]
}

#[test]
fn every_reason_has_its_class_and_its_label_is_listed() {
    for ((reason, class), label) in all().into_iter().zip(DoneReason::LABELS) {
        assert_eq!((reason.class(), reason.label()), (class, label), "{reason}");
    }
    // That no variant is missing in the table shows in the source: a match names them all.
    let source = include_str!("../done_reason.rs");
    let (_, from) = source.split_once("pub fn label(").expect("it is there");
    let (label, _) = from.split_once("\n    }\n").expect("it ends");
    let written: Vec<&str> = label.split('"').skip(1).step_by(2).collect();
    assert_eq!(written, DoneReason::LABELS);
}

#[test]
fn blame_back_off_and_level_follow_from_the_class() {
    let from = |from| Blame::Discouraged { from };
    let (early, late) = (from(Reached::Connected), from(Reached::Handshake));
    let (error, info, debug) = (Level::ERROR, Level::INFO, Level::DEBUG);
    for (class, blame, back_off, network, level) in [
        (Class::Ours, Blame::None, BackOff::Short, false, debug),
        (Class::Bug, Blame::None, BackOff::Short, false, error),
        (Class::Lost, Blame::None, BackOff::Short, true, debug),
        (Class::Silent, Blame::None, BackOff::Slow, true, debug),
        (Class::Slow, Blame::None, BackOff::Slow, false, debug),
        (
            Class::Unanswered,
            Blame::RuleBroken,
            BackOff::Slow,
            true,
            info,
        ),
        (
            Class::Stalling,
            Blame::RuleBroken,
            BackOff::Slow,
            true,
            info,
        ),
        (Class::Unsuitable, Blame::None, BackOff::Fault, false, debug),
        (
            Class::Faulty,
            Blame::RuleBroken,
            BackOff::Fault,
            false,
            info,
        ),
        (Class::Misbehaving, late, BackOff::Fault, false, info),
        (Class::Invalid, early, BackOff::Fault, false, info),
    ] {
        let found = (class.blame(), class.back_off(), class.level());
        assert_eq!(found, (blame, back_off, level), "{class:?}");
        assert_eq!(class.may_be_the_network(), network, "{class:?}");
        assert_eq!(class.breaks_rules(), level == info, "{class:?}");
    }
}

#[test]
fn a_host_is_discouraged_for_what_an_honest_node_cannot_do_and_for_nothing_else() {
    let reached = [
        Reached::Connected,
        Reached::Version,
        Reached::Handshake,
        Reached::Admitted,
    ];
    for (reason, class) in all() {
        let expected = match class {
            Class::Invalid => [true; 4],
            Class::Misbehaving => [false, false, true, true],
            _ => [false; 4],
        };
        let found = reached.map(|reached| reason.discourages(reached));
        assert_eq!(found, expected, "{reason}");
    }
}

#[test]
fn a_reason_reads_as_one_plain_line_at_the_edge() {
    for (reason, line) in [
        (
            DoneReason::RemoteReset(IoFailure::from(&std::io::Error::from_raw_os_error(104))),
            "the connection failed: connection reset by peer",
        ),
        (
            DoneReason::RemoteReset(std::io::ErrorKind::ConnectionReset.into()),
            "the connection failed: connection reset",
        ),
        (
            DoneReason::Undecodable(decode_error()),
            "what it sent cannot be read: inv: payload ends inside entries",
        ),
        (
            DoneReason::Misbehaving(Misbehavior::Message(DecodeError::TooManyEntries {
                command: "inv",
                got: 50_001,
                max: 50_000,
            })),
            "misbehaving: inv: 50001 entries, at most 50000",
        ),
        (
            DoneReason::ProtocolViolation(OutOfPlace::Transaction),
            "protocol violation: a transaction, though our version said that we want none (BIP37)",
        ),
        (
            DoneReason::Refused(SlotRefusal::OutboundFull { slots: 8 }),
            "refused: all 8 outbound slots are taken",
        ),
        (
            DoneReason::InvalidHeader(HeaderError::Refused(reject("time-too-old"))),
            "invalid header: time-too-old",
        ),
        (
            DoneReason::InvalidHeader(HeaderError::Disconnected),
            "invalid header: the headers of one message do not build on each other",
        ),
    ] {
        assert_eq!(reason.to_string(), line);
    }
}
