//! Against a target that mines: small, over real TCP, and never in doubt who is faster.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread;

use bytes::BytesMut;
use handfast_wire::{Codec, Network};

use super::super::{Answers, Health, Oracle};
use super::*;
use crate::scenario::Scenario;

/// A node with a miner: of the blocks that it is offered, the first `faster` come too late, as
/// it has one of its own a moment before.
struct Miner {
    chain: Vec<Header>,
    faster: u64,
    params: PeerParams,
}

impl Miner {
    fn start(faster: u64) -> SocketAddr {
        let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        let mut miner = Self {
            chain: vec![params.genesis],
            faster,
            params,
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _: std::io::Result<()> = miner.serve(stream.expect("a peer"));
            }
        });
        address
    }

    fn serve(&mut self, mut stream: TcpStream) -> std::io::Result<()> {
        let magic = self.params.bitcoin_magic();
        let (mut codec, mut bytes) = (Codec::new(magic), BytesMut::new());
        let mut chunk = [0; 4_096];
        loop {
            while let Ok(Some(frame)) = codec.next_frame(&mut bytes) {
                for answer in self.answers(frame.message.expect("it is well-formed")) {
                    let encoded = answer.encode(magic);
                    stream.write_all(&encoded)?;
                }
            }
            match stream.read(&mut chunk)? {
                0 => return Ok(()),
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn answers(&mut self, message: Message) -> Vec<Message> {
        let tip = self.chain[self.chain.len() - 1].block_hash();
        match message {
            version @ Message::Version(_) => vec![version, Message::Verack],
            Message::Ping(nonce) => vec![Message::Pong(nonce)],
            Message::GetHeaders(locator) => {
                let known: BTreeSet<BlockHash> = locator.hashes.into_iter().collect();
                let is_known = |header: &Header| known.contains(&header.block_hash());
                let fork = self.chain.iter().rposition(is_known).unwrap_or(0);
                vec![Message::Headers(self.chain[fork + 1..].to_vec())]
            }
            Message::Headers(headers) if self.faster > 0 && !headers.is_empty() => {
                self.faster -= 1;
                let tag = u64::MAX - self.faster;
                let own = blocks::on_top_of(&self.chain, true, 5, tag, || true);
                self.chain.push(own.expect("it is not stopped").header);
                vec![]
            }
            Message::Headers(headers) => {
                let new = headers.iter().filter(|it| it.prev_blockhash == tip);
                let wanted = new.map(|it| Inventory::WitnessBlock(it.block_hash()));
                vec![Message::GetData(wanted.collect())]
            }
            Message::Block(block) if block.header.prev_blockhash == tip => {
                self.chain.push(block.header);
                vec![]
            }
            _ => vec![],
        }
    }
}

fn look(faster: u64, answer_timeout: Duration) -> Health {
    let stop = AtomicBool::new(false);
    let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
    let oracle = Oracle::new(Miner::start(faster), params, 7, true, None, &stop);
    let oracle = oracle.for_scenarios(&BTreeSet::from([Scenario::Reset]));
    let mut oracle = oracle.answer_timeout(answer_timeout);
    oracle.begin();
    oracle.look().expect("there is time for it")
}

#[test]
fn a_block_is_made_again_on_top_of_one_that_the_target_mined_meanwhile() {
    let health = look(5, Duration::from_secs(60));
    let Some(Ok(Followed::After(took))) = health.block else {
        panic!("the sixth is in time: {:?}", health.block);
    };
    assert!(took < Duration::from_secs(60), "{took:?}");
    let pong = Answers::default().pong;
    assert_ne!(health.answers.pong, pong, "it was asked before");
}

#[test]
fn a_target_whose_miner_is_always_faster_is_not_judged_by_blocks() {
    let health = look(u64::MAX, Duration::from_millis(700));
    let Some(Ok(Followed::Overtaken { blocks, .. })) = health.block else {
        panic!("none of them could be followed: {:?}", health.block);
    };
    assert!(blocks > 1, "it was offered more than one: {blocks}");
}

#[test]
fn a_chain_with_as_much_work_overtakes_the_offer() {
    let params = PeerParams::new(&Network::Regtest, 1_700_000_000);
    let row = |chain: &[Header], length, tag| {
        let make = |chain: &[Header], tag| blocks::on_top_of(chain, true, 5, tag, || true);
        blocks::row(chain, length, tag, make).expect("it is not stopped")
    };
    let headers = |row: &[RawBlock]| -> Vec<Header> { row.iter().map(|it| it.header).collect() };
    let chain = headers(&row(&[params.genesis], 4, 0));
    let chain = [&[params.genesis][..], &chain].concat();
    let (ours, theirs) = (row(&chain, 3, 1), headers(&row(&chain, 3, 2)));
    assert!(!overtake(&theirs[..2], &ours, &chain), "ours has more work");
    assert!(overtake(&theirs, &ours, &chain), "it had its own first");
    assert!(!overtake(&[], &ours, &chain), "nothing new");
    assert!(
        !overtake(&theirs[1..], &ours, &chain),
        "that continues another one"
    );
    // Two of ours, and then another one.
    let two = headers(&ours[..2]);
    let fork = headers(&row(&[&chain[..], &two].concat(), 1, 3));
    assert!(overtake(&fork, &ours, &chain));
    // A chain that leaves the one that it had below what ours is on top of.
    let long = headers(&row(&chain[..3], 5, 4));
    assert!(overtake(&long, &ours, &chain));
    assert!(!overtake(&long[..4], &ours, &chain));
}
