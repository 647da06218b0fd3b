use bitcoin::p2p::address::Address;

use handfast_verdict::RejectKind;

use super::*;
use crate::bans::BanTime;
use crate::headers::HeaderError;
use crate::lifecycle::{Misbehavior, OutOfPlace};
use crate::testing::kernel::reject;
use Direction::{Inbound, Manual, Outbound};

fn ban(text: &str) -> BanCommand {
    BanCommand::Add {
        target: text.parse().expect("a subnet"),
        time: BanTime::For(3_600),
    }
}

fn unban(text: &str) -> BanCommand {
    let target = text.parse().expect("a subnet");
    BanCommand::Remove { target }
}

fn done() -> (Result<(), BanError>, Vec<Effect>) {
    (Ok(()), vec![Effect::BansChanged])
}

/// The peers that were disconnected, with the reason.
fn disconnected(effects: &[Effect]) -> BTreeMap<ConnId, DoneReason> {
    let order = |effect: &Effect| match effect {
        Effect::Disconnect { id, reason } => Some((*id, reason.clone())),
        _ => None,
    };
    effects.iter().filter_map(order).collect()
}

fn broke_rules() -> DoneReason {
    DoneReason::InvalidHeader(HeaderError::Disconnected)
}

#[test]
fn a_banned_peer_is_disconnected_and_no_other_is() {
    let mut table = Table::new(config());
    let inbound = table.admit(Inbound, addr(9));
    let manual = table.admit(Manual, SocketAddr::from(([9, 2, 2, 2], 8333)));
    table.admit(Outbound, addr(10));
    let (result, effects) = table.ban(ban("9.0.0.0/8"));
    assert_eq!((result, effects[..1].to_vec()), done());
    let banned = [inbound, manual].map(|id| (id, DoneReason::Banned));
    assert_eq!(disconnected(&effects), BTreeMap::from(banned));
}

#[test]
fn a_banned_address_is_not_admitted_until_the_ban_ends() {
    for direction in [Inbound, Outbound, Manual] {
        let mut table = Table::new(config());
        assert_eq!(table.ban(ban("9.1.1.1")), done());
        let (id, effects) = table.add(direction, addr(9));
        assert_eq!(
            effects,
            [Effect::Disconnect {
                id,
                reason: DoneReason::Banned
            }]
        );
        assert_eq!(
            table.done(id, direction, addr(9)),
            [],
            "sync never received it"
        );
        table.wait(3_600);
        table.admit(direction, addr(9));
    }
}

#[test]
fn a_removed_ban_ends_at_once() {
    let mut table = Table::new(config());
    assert_eq!(table.ban(ban("9.1.1.1")).0, Ok(()));
    assert_eq!(table.ban(ban("10.0.0.0/8")).0, Ok(()));
    assert_eq!(table.ban(unban("9.1.1.1")), done());
    table.admit(Inbound, addr(9));
    assert_eq!(table.ban(BanCommand::Clear), done());
    table.admit(Inbound, addr(10));
    let refused = (Err(BanError::NotBanned), vec![]);
    assert_eq!(table.ban(unban("9.1.1.1")), refused, "nothing changed");
}

#[test]
fn no_banned_address_is_dialled() {
    let dialling = PeerTableConfig {
        dial: true,
        add_nodes: vec!["40.1.1.1".to_owned()],
        ..config()
    };
    let mut table = Table::with_book(dialling, book(20..24));
    let mut effects = table.ban(ban("20.0.0.0/7")).1;
    effects.extend(table.ban(ban("40.1.1.1")).1);
    effects.extend(table.run(60));
    assert_eq!(
        dials(&effects).into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([addr(22), addr(23), addr(40)]),
        "the manual peer was dialled before it was banned"
    );
    let mut table = Table::with_book(
        PeerTableConfig {
            dial: true,
            ..config()
        },
        AddressBook::new(false),
    );
    assert_eq!(table.ban(ban("40.1.1.1")).0, Ok(()));
    let (_, effects) = table.add_node("40.1.1.1", AddNodeCommand::Add);
    assert_eq!(dials(&effects), []);
    assert_eq!(dials(&table.run(600)), []);
    assert_eq!(table.ban(BanCommand::Clear).0, Ok(()));
    assert_eq!(dials(&table.run(60)), [addr(40)], "as soon as it may be");
}

#[test]
fn banned_addresses_are_neither_added_nor_sent() {
    let mut table = Table::with_book(config(), book(20..60));
    assert_eq!(table.ban(ban("20.0.0.0/6")).0, Ok(()));
    assert_eq!(table.ban(ban("24.0.0.0/5")).0, Ok(()));
    let id = table.admit(Inbound, addr(9));
    let effects = table.message(id, Message::GetAddr);
    let [
        Effect::Send {
            message: Message::AddrV2(sent),
            ..
        },
    ] = effects.as_slice()
    else {
        panic!("no answer: {effects:?}");
    };
    assert!(!sent.is_empty());
    for row in sent {
        let sent = row.socket_addr().expect("an address").ip();
        assert!(!table.table.bans().is_banned(sent, START), "{sent}");
    }
    let outbound = table.admit(Outbound, addr(10));
    for (group, is_learnt) in [(70, true), (25, false)] {
        let fresh = SocketAddr::from(([group, 2, 2, 2], 8333));
        let address = Address::new(&fresh, full_node());
        table.message(outbound, Message::Addr(vec![(START.unix, address)]));
        assert_eq!(table.table.book().contains(fresh), is_learnt, "{fresh}");
    }
}

#[test]
fn the_host_of_a_misbehaving_peer_is_discouraged_and_its_other_peers_are_disconnected() {
    let mut table = Table::new(config());
    let liar = table.admit(Inbound, addr(9));
    let like = table.admit(Inbound, SocketAddr::from(([9, 1, 1, 1], 999)));
    let named = table.admit(Manual, addr(9));
    table.admit(Inbound, SocketAddr::from(([9, 1, 1, 2], 8333)));
    let effects = table.end(liar, Inbound, addr(9), broke_rules());
    assert_eq!(
        disconnected(&effects),
        BTreeMap::from([(like, DoneReason::Discouraged)]),
        "not {named}, which the operator added"
    );
    assert!(table.table.discouraged().contains(addr(9).ip(), table.now));
    table.admit(Inbound, addr(9));
}

#[test]
fn only_reasons_that_no_honest_node_causes_discourage() {
    let hash = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).block_hash();
    let misbehaving = || DoneReason::Misbehaving(Misbehavior::UnaskedOrphan { block: hash });
    let block = DoneReason::InvalidBlock {
        hash,
        reject: reject(RejectKind::Consensus),
    };
    for (reason, reached, discourages) in [
        (broke_rules(), Reached::Handshake, true),
        (block, Reached::Handshake, true),
        (misbehaving(), Reached::Handshake, true),
        (misbehaving(), Reached::Version, false),
        (misbehaving(), Reached::Connected, false),
        (
            DoneReason::ProtocolViolation(OutOfPlace::Transaction),
            Reached::Handshake,
            false,
        ),
        (
            DoneReason::ServiceNotOffered("mempool"),
            Reached::Handshake,
            false,
        ),
        (DoneReason::BlockStalled { hash }, Reached::Handshake, false),
        (DoneReason::HeadersTimeout, Reached::Handshake, false),
        (DoneReason::PingTimeout, Reached::Handshake, false),
        (DoneReason::SlowReader, Reached::Handshake, false),
        (DoneReason::LowWorkChain, Reached::Handshake, false),
        (DoneReason::HandshakeTimeout, Reached::Connected, false),
        (DoneReason::RemoteClosed, Reached::Handshake, false),
    ] {
        let mut table = Table::new(config());
        table.next += 1;
        let disconnection = Disconnection {
            reached,
            ..disconnection(START, ConnId(table.next), Inbound, addr(9), reason.clone())
        };
        table.step(Input::Done(disconnection));
        let is_discouraged = table.table.discouraged().contains(addr(9).ip(), START);
        assert_eq!(is_discouraged, discourages, "{reason} at {reached}");
    }
}

#[test]
fn neither_this_machine_nor_a_manual_peer_is_discouraged() {
    let mut table = Table::new(config());
    let local = SocketAddr::from(([127, 0, 0, 1], 999));
    let id = table.admit(Inbound, local);
    table.end(id, Inbound, local, broke_rules());
    let id = table.admit(Manual, addr(9));
    table.end(id, Manual, addr(9), broke_rules());
    assert!(table.table.discouraged().is_empty());
}

#[test]
fn a_discouraged_address_is_dialled_only_as_a_manual_peer() {
    let dialling = PeerTableConfig {
        dial: true,
        ..config()
    };
    let mut table = Table::with_book(dialling, book(20..21));
    let id = table.admit(Inbound, SocketAddr::from(([20, 1, 1, 1], 999)));
    table.end(id, Inbound, addr(20), broke_rules());
    assert_eq!(dials(&table.run(3_600)), []);
    let (_, effects) = table.add_node("20.1.1.1", AddNodeCommand::OneTry);
    assert_eq!(dials(&effects), [addr(20)]);
}
