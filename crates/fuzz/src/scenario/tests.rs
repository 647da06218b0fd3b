use std::time::Duration;

use std::collections::BTreeSet;

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::{Block, BlockHash};
use handfast_wire::{Codec, HEADER_BYTES, Kind, Message, Network, RawBlock};

use super::*;
use crate::blocks::{self, Variety};
use crate::writer::{ConnectionRng, FrameSet, Memory, PeerParams};

/// A target made of what an honest node says, that answers without delay.
struct TestConnection {
    machine: Box<dyn Machine>,
    frame_set: FrameSet,
    rng: ConnectionRng,
    memory: Memory,
    /// All bytes that were sent.
    sent: BytesMut,
    left: Option<Leave>,
    gathered: bool,
    wake: Option<Duration>,
}

impl TestConnection {
    fn new(scenario: Scenario, seed: u64) -> Self {
        Self {
            machine: scenario.machine(&Bytes::from_static(b"GET / HTTP/1.0\r\n\r\n")),
            frame_set: FrameSet::new(PeerParams::new(&Network::Regtest, 1_700_000_000)),
            rng: ConnectionRng::new(seed),
            memory: Memory::default(),
            sent: BytesMut::new(),
            left: None,
            gathered: false,
            wake: None,
        }
    }

    /// Tells a fact; gives what is sent because of it.
    fn deliver(&mut self, event: Event<'_>) -> Bytes {
        let mut acts = Vec::new();
        let mut writer = Writer {
            frame_set: &self.frame_set,
            rng: &mut self.rng,
            memory: &mut self.memory,
            acts: &mut acts,
        };
        self.machine.step(event, &mut writer);
        let before = self.sent.len();
        for act in acts {
            assert_eq!(self.left, None, "nothing follows the end");
            match act {
                Act::Send(bytes) => self.sent.extend_from_slice(&bytes),
                Act::Wake(after) => self.wake = Some(after),
                Act::Gather => self.gathered = true,
                Act::ReportWrong(_) => {}
                Act::Leave(how) => self.left = Some(how),
            }
        }
        Bytes::copy_from_slice(&self.sent[before..])
    }

    /// Answers as an honest node does until it is over; `None` if it never is.
    fn play(&mut self) -> Option<Leave> {
        let mut said = self.deliver(Event::Connected);
        for _ in 0..2_000 {
            let mut answers = answers(&said);
            said = Bytes::new();
            if answers.is_empty() {
                if self.left.is_some() {
                    return self.left;
                }
                said = match (self.gathered, self.wake.take()) {
                    (true, _) => self.deliver(Event::Opened),
                    (false, Some(_)) => self.deliver(Event::Due),
                    (false, None) => self.deliver(Event::Raw(HTTP)),
                };
            }
            for (kind, payload) in answers.drain(..) {
                if self.left.is_some() {
                    return self.left;
                }
                let received = ReceivedFrame {
                    kind: Some(kind),
                    payload: &payload,
                };
                let more = self.deliver(Event::Frame(received));
                said = [said, more].concat().into();
            }
        }
        None
    }
}

/// What such a node has.
fn chain() -> Vec<Header> {
    let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
    let mut chain = vec![params.genesis];
    for number in 0..20 {
        let block = blocks::on_top_of(&chain, true, 5, number, || true).expect("it is not stopped");
        chain.push(block.header);
    }
    chain
}

fn shown(chain: &[Header], params: &PeerParams, number: u64) -> RawBlock {
    blocks::shown(chain, params, number, || true).expect("it is not stopped")
}

const HTTP: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull";

/// What an honest node answers to these bytes.
fn answers(said: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut bytes = BytesMut::from(said);
    let mut codec = Codec::new(Network::Regtest.magic());
    let mut answers = Vec::new();
    let mut answer = |message: Message| {
        let all = message.encode(Network::Regtest.magic());
        let kind = message.kind().expect("we know what we say");
        answers.push((kind, all[HEADER_BYTES..].to_vec()));
    };
    while let Ok(Some(frame)) = codec.next_frame(&mut bytes) {
        match frame.message {
            Ok(Message::Version(version)) => {
                answer(Message::Version(version));
                answer(Message::Verack);
            }
            Ok(Message::Verack) => answer(Message::GetHeaders(handfast_wire::Locator {
                hashes: vec![Network::Regtest.genesis().block_hash()],
                stop: bitcoin::hashes::Hash::all_zeros(),
            })),
            Ok(Message::Ping(nonce)) => answer(Message::Pong(nonce)),
            Ok(Message::GetHeaders(_)) => answer(Message::Headers(chain()[1..].to_vec())),
            _ => {}
        }
    }
    answers
}

#[test]
fn every_scenario_comes_to_its_end_with_an_honest_node() {
    for scenario in Scenario::ALL {
        for seed in 0..50 {
            let mut connection = TestConnection::new(scenario, seed);
            assert!(connection.play().is_some(), "{scenario}, seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_and_the_same_answers_give_the_same_bytes() {
    for scenario in Scenario::ALL {
        let play = |seed| {
            let mut connection = TestConnection::new(scenario, seed);
            let left = connection.play();
            (connection.sent, left)
        };
        assert_eq!(play(11), play(11), "{scenario}");
    }
}

#[test]
fn every_scenario_has_a_name_of_its_own_and_a_page() {
    for scenario in Scenario::ALL {
        assert_eq!(scenario.name().parse(), Ok(scenario));
        let page = scenario.page();
        assert!(page.contains("\nFinds: "), "{scenario}: {page}");
    }
    assert!("handshake".parse::<Scenario>().is_err());
}

#[test]
fn disconnecting_on_verack_sends_ours_and_closes_at_once() {
    let mut connection = TestConnection::new(Scenario::HandshakeDrop, 1);
    connection.deliver(Event::Connected);
    let verack = ReceivedFrame {
        kind: Some(Kind::Verack),
        payload: &[],
    };
    let said = connection.deliver(Event::Frame(verack));
    assert_eq!(&said[4..10], b"verack");
    assert_eq!(connection.left, Some(Leave::Drop));
}

#[test]
fn a_connection_at_the_barrier_answers_pings_and_disconnects_when_it_opens() {
    let mut connection = TestConnection::new(Scenario::Barrier, 5);
    let mut said = connection.deliver(Event::Connected);
    while !connection.gathered {
        let mut more = Bytes::new();
        for (kind, payload) in answers(&said) {
            let received = ReceivedFrame {
                kind: Some(kind),
                payload: &payload,
            };
            more = [more, connection.deliver(Event::Frame(received))]
                .concat()
                .into();
        }
        assert!(
            !more.is_empty() || connection.gathered,
            "it waits for nothing"
        );
        said = more;
    }
    let ping = ReceivedFrame {
        kind: Some(Kind::Ping),
        payload: &[7; 8],
    };
    assert_eq!(&connection.deliver(Event::Frame(ping))[4..8], b"pong");
    assert_eq!(connection.left, None);
    connection.deliver(Event::Opened);
    assert!(connection.left.is_some());
}

/// Frames of what was said.
fn messages(said: &[u8]) -> Vec<Message> {
    let mut bytes = BytesMut::from(said);
    let mut codec = Codec::new(Network::Regtest.magic());
    let mut messages = Vec::new();
    while let Ok(Some(frame)) = codec.next_frame(&mut bytes) {
        messages.extend(frame.message);
    }
    messages
}

/// Shakes hands and serves the chain; what was said after that.
fn after_the_chain_was_learned(connection: &mut TestConnection) -> Vec<Message> {
    let mut said = connection.deliver(Event::Connected);
    let mut all = Vec::new();
    for _ in 0..4 {
        let mut more = Bytes::new();
        for (kind, payload) in answers(&said) {
            // What the target asks of us is another matter.
            if kind != Kind::GetHeaders {
                more = [more, receive(connection, kind, &payload)].concat().into();
            }
        }
        all.extend(messages(&more));
        said = more;
    }
    all
}

fn receive(connection: &mut TestConnection, kind: Kind, payload: &[u8]) -> Bytes {
    let kind = Some(kind);
    connection.deliver(Event::Frame(ReceivedFrame { kind, payload }))
}

fn receive_message(connection: &mut TestConnection, message: &Message) -> Vec<Message> {
    let all = message.encode(Network::Regtest.magic());
    let kind = message.kind().expect("we know what we say");
    messages(&receive(connection, kind, &all[HEADER_BYTES..]))
}

fn headers(messages: &[Message]) -> Vec<Header> {
    let headers = |message: &Message| match message {
        Message::Headers(headers) => headers.clone(),
        _ => vec![],
    };
    messages.iter().flat_map(headers).collect()
}

fn blocks_of(messages: &[Message]) -> Vec<RawBlock> {
    let block = |message: &Message| match message {
        Message::Block(block) => Some(block.clone()),
        _ => None,
    };
    messages.iter().filter_map(block).collect()
}

fn want(hash: BlockHash) -> Message {
    Message::GetData(vec![Inventory::WitnessBlock(hash)])
}

#[test]
fn a_tampered_block_has_the_header_of_one_that_an_honest_peer_offers() {
    let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
    let offered: Vec<RawBlock> = (0..Variety::of(&params).shown)
        .map(|number| shown(&chain(), &params, number))
        .collect();
    let mut spoilt = BTreeSet::new();
    for seed in 0..100 {
        let mut connection = TestConnection::new(Scenario::TamperedBlock, seed);
        let mut said = after_the_chain_was_learned(&mut connection);
        let wants_the_tip = |message: &Message| matches!(message, Message::GetData(_));
        if said.iter().any(wants_the_tip) {
            let tip =
                blocks::on_top_of(&chain()[..20], true, 5, 19, || true).expect("it is not stopped");
            assert_eq!(tip.header, chain()[20]);
            said = receive_message(&mut connection, &Message::Block(tip.clone()));
            let sent = blocks_of(&said);
            assert_eq!(sent[0].hash, tip.hash, "seed {seed}");
            assert_ne!(sent[0].bytes, tip.bytes, "seed {seed}");
            continue;
        }
        let sent = blocks_of(&said);
        let true_one = offered.iter().find(|block| block.hash == sent[0].hash);
        let true_one = true_one.expect("an honest peer has it");
        assert_ne!(sent[0].bytes, true_one.bytes, "seed {seed}");
        spoilt.insert(true_one.hash);
    }
    assert_eq!(spoilt.len(), offered.len(), "all that are offered");
}

#[test]
fn a_poisoned_branch_has_more_work_and_nothing_but_its_first_block_is_tampered_with() {
    let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
    for seed in 0..30 {
        let mut connection = TestConnection::new(Scenario::PoisonedBranch, seed);
        let said = after_the_chain_was_learned(&mut connection);
        let shown = headers(&said);
        assert_eq!(shown.len(), 3);
        assert_eq!(shown[0].prev_blockhash, chain()[19].block_hash());
        let offered = (0..Variety::of(&params).branches).map(|number| {
            let shown = |chain: &[Header], number| blocks::shown(chain, &params, number, || true);
            blocks::branch(&chain(), number, shown).expect("it is not stopped")
        });
        let branch = offered.into_iter().find(|it| it[0].header == shown[0]);
        let branch = branch.expect("an honest peer has it");
        let mut delivered = |at: usize| {
            let said = receive_message(&mut connection, &want(branch[at].hash));
            let block = blocks_of(&said).pop().expect("it is delivered");
            assert_eq!(block.hash, branch[at].hash);
            block.bytes
        };
        assert_ne!(delivered(0), branch[0].bytes, "seed {seed}");
        for later in [1, 2] {
            assert_eq!(delivered(later), branch[later].bytes, "seed {seed}");
            let block: Block = deserialize(&branch[later].bytes).expect("a block");
            assert!(block.check_merkle_root() && block.check_witness_commitment());
        }
    }
}

#[test]
fn a_stale_source_repeats_known_and_empty_headers_in_turn() {
    let mut connection = TestConnection::new(Scenario::StaleSource, 3);
    let said = after_the_chain_was_learned(&mut connection);
    assert_eq!(headers(&said), chain()[1..]);
    let question = Message::GetHeaders(handfast_wire::Locator {
        hashes: vec![chain()[20].block_hash()],
        stop: bitcoin::hashes::Hash::all_zeros(),
    });
    for round in 0..20 {
        let said = receive_message(&mut connection, &question);
        let expected = match round % 2 {
            0 => vec![],
            _ => chain()[1..].to_vec(),
        };
        assert_eq!(said, [Message::Headers(expected)], "round {round}");
    }
    assert_eq!(connection.left, None);
}

#[test]
fn a_withheld_branch_has_more_work_than_a_block_and_is_announced_but_not_delivered() {
    let mut branches = BTreeSet::new();
    for seed in 0..200 {
        let mut connection = TestConnection::new(Scenario::WithheldBranch, seed);
        let shown = headers(&after_the_chain_was_learned(&mut connection));
        assert_eq!(shown.len(), 2);
        assert_eq!(shown[0].prev_blockhash, chain()[20].block_hash());
        assert_eq!(shown[1].prev_blockhash, shown[0].block_hash());
        assert_eq!(
            receive_message(&mut connection, &want(shown[0].block_hash())),
            []
        );
        branches.insert(shown[1].block_hash());
    }
    assert_eq!(branches.len(), 24, "they are many and not without bound");

    let mut connection = TestConnection::new(Scenario::NotFoundBranch, 1);
    let shown = headers(&after_the_chain_was_learned(&mut connection));
    for _ in 0..5 {
        let items = vec![Inventory::WitnessBlock(shown[0].block_hash())];
        let said = receive_message(&mut connection, &Message::GetData(items.clone()));
        let expected = [Message::NotFound(items), Message::Headers(shown.clone())];
        assert_eq!(said, expected);
    }
}

#[test]
fn a_withheld_chain_is_the_one_that_an_honest_peer_offers() {
    let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
    let offered =
        (0..Variety::of(&params).shown).map(|number| shown(&chain(), &params, number).header);
    let offered: Vec<Header> = offered.collect();
    for seed in 0..30 {
        let mut connection = TestConnection::new(Scenario::WithheldChain, seed);
        let shown = headers(&after_the_chain_was_learned(&mut connection));
        assert!(
            shown.len() == 1 && offered.contains(&shown[0]),
            "seed {seed}"
        );
        assert_eq!(
            receive_message(&mut connection, &want(shown[0].block_hash())),
            []
        );
    }
}

#[test]
fn a_requested_block_is_sent_slowly_and_never_completely() {
    let mut connection = TestConnection::new(Scenario::SlowBlock, 3);
    let shown = headers(&after_the_chain_was_learned(&mut connection));
    let asked = want(shown[0].block_hash()).encode(Network::Regtest.magic());
    let mut sent = receive(&mut connection, Kind::GetData, &asked[HEADER_BYTES..]).len();
    let mut pieces = 1;
    while connection.left.is_none() {
        let more = connection.deliver(Event::Due).len();
        pieces += usize::from(more > 0);
        sent += more;
    }
    assert!((10..=41).contains(&pieces), "{pieces} pieces in 1 to 4 s");
    assert_eq!(sent, 13_000 * pieces);
}

#[test]
fn where_blocks_cost_work_steering_peers_repeat_the_targets_headers() {
    for scenario in [
        Scenario::TamperedBlock,
        Scenario::PoisonedBranch,
        Scenario::StaleSource,
        Scenario::WithheldBranch,
        Scenario::NotFoundBranch,
        Scenario::WithheldChain,
        Scenario::SlowBlock,
    ] {
        let mut connection = TestConnection::new(scenario, 5);
        connection.frame_set.params.easy_work = false;
        connection.frame_set.params.mines = false;
        let said = after_the_chain_was_learned(&mut connection);
        let known = headers(&said).iter().all(|header| chain().contains(header));
        assert!(known, "{scenario}");
        let acts = said.iter().any(|message| {
            matches!(
                message,
                Message::Headers(_) | Message::Inv(_) | Message::GetData(_)
            )
        });
        assert!(acts, "{scenario}: {said:?}");
    }
}
