//! Blocks and headers of RPC and of the miner.

use handfast_wire::{Message, Network};

use crate::headers::Status;

use super::super::{Effect, Input, Persist, Reject, RejectKind, SubmitResult, SyncConfig};
use super::chains::{Blocks, block, mine, mine_at};
use super::secs;
use super::world::{Behaviour, World};

use crate::lifecycle::Direction;

fn node(chain: &Blocks) -> World {
    World::with(chain, SyncConfig::new(&Network::Regtest, None, 1))
}

fn submit(world: &mut World, block: &handfast_wire::RawBlock) -> SubmitResult {
    let ticket = 1_000 + world.answers.len() as u64;
    world.input(Input::Submit {
        ticket,
        block: block.clone(),
    });
    world.run(secs(1));
    let (answered, result) = world.answers.last().unwrap().clone();
    assert_eq!(answered, ticket);
    result
}

fn rejected(kind: RejectKind, reason: &str) -> SubmitResult {
    SubmitResult::Rejected(Reject {
        kind,
        reason: reason.into(),
    })
}

#[test]
fn a_new_tip_is_accepted_and_then_a_duplicate() {
    let mut chain = Blocks::new(10, 1);
    let mut world = node(&chain);
    chain.grow(1, 1);
    let next = chain.at(11).clone();
    assert_eq!(submit(&mut world, &next), SubmitResult::Accepted);
    assert_eq!(world.tip_height(), 11);
    assert_eq!(submit(&mut world, &next), SubmitResult::Duplicate);
}

#[test]
fn a_block_of_a_side_branch_is_inconclusive() {
    let chain = Blocks::new(10, 1);
    let mut world = node(&chain);
    let side = chain.fork(8, 1, 2);
    assert_eq!(submit(&mut world, side.at(9)), SubmitResult::Inconclusive);
    assert_eq!(submit(&mut world, side.at(9)), SubmitResult::Duplicate);
}

#[test]
fn an_invalid_block_is_rejected_with_its_reason_and_then_known_to_be_invalid() {
    let mut chain = Blocks::new(10, 1);
    let mut world = node(&chain);
    chain.grow(1, 1);
    let bad = chain.at(11).clone();
    world.kernel.bad.insert(bad.hash, RejectKind::Consensus);
    let expected = rejected(RejectKind::Consensus, "test-consensus");
    assert_eq!(submit(&mut world, &bad), expected);
    assert_eq!(
        world.node.tree().get(&bad.hash).unwrap().status,
        Status::Invalid
    );
    assert_eq!(submit(&mut world, &bad), SubmitResult::DuplicateInvalid);
    let child = block(mine(&bad.header, bad.header.time + 1, 1), 100);
    assert_eq!(
        submit(&mut world, &child),
        rejected(RejectKind::InvalidPrev, "bad-prevblk")
    );
}

#[test]
fn a_block_without_parent_or_work_is_rejected_without_asking_the_kernel() {
    let chain = Blocks::new(10, 1);
    let mut world = node(&chain);
    let orphan = chain.fork(10, 2, 1).at(12).clone();
    let expected = rejected(RejectKind::MissingPrev, "prev-blk-not-found");
    assert_eq!(submit(&mut world, &orphan), expected);
    let mut header = mine(&chain.tip(), chain.tip().time + 1, 1);
    while header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    let weak = block(header, 100);
    assert_eq!(
        submit(&mut world, &weak),
        rejected(RejectKind::InvalidHeader, "high-hash")
    );
}

#[test]
fn a_mutated_block_leaves_no_trace() {
    let mut chain = Blocks::new(10, 1);
    let mut world = node(&chain);
    chain.grow(1, 1);
    let hash = chain.at(11).hash;
    let effects = world.node.step(
        world.now,
        Input::Submit {
            ticket: 1,
            block: chain.at(11).clone(),
        },
    );
    assert!(matches!(
        effects[0],
        Effect::CheckBlock {
            origin: None,
            height: None,
            persist: Persist::Now,
            ..
        }
    ));
    let reject = Reject {
        kind: RejectKind::Mutated,
        reason: "bad-txnmrklroot".into(),
    };
    let verdict = super::super::KernelEvent::BlockChecked {
        hash,
        outcome: super::super::BlockOutcome::Rejected(reject.clone()),
        origin: None,
        changes: vec![],
        durability: super::super::Durability::Yes,
        busy: secs(0),
    };
    let effects = world.node.step(world.now, Input::Kernel(verdict));
    let result = SubmitResult::Rejected(reject);
    assert_eq!(effects, [Effect::Answer { ticket: 1, result }]);
    assert!(!world.node.tree().contains(&hash));
}

#[test]
fn the_snapshot_shows_a_block_before_the_answer_says_so() {
    let mut chain = Blocks::new(10, 1);
    let mut world = node(&chain);
    chain.grow(1, 1);
    let block = chain.at(11).clone();
    let mut kernel = world.kernel.clone();
    world.node.step(
        world.now,
        Input::Submit {
            ticket: 5,
            block: block.clone(),
        },
    );
    let effects = world
        .node
        .step(world.now, Input::Kernel(kernel.block(&block, None)));
    let result = SubmitResult::Accepted;
    assert_eq!(
        effects,
        [Effect::TreeChanged, Effect::Answer { ticket: 5, result }]
    );
}

#[test]
fn a_block_submitted_while_a_peer_is_asked_for_it_is_asked_of_nobody() {
    let chain = Blocks::new(3, 1);
    let mut world = World::new();
    let mute = Behaviour {
        block_answers: 0,
        ..Behaviour::default()
    };
    let id = world.add_as(&chain, Direction::Outbound, mute);
    world.run(secs(1));
    let is_asked = |world: &World, height| {
        let asked = world.node.parts.download.asked_of(id).iter();
        asked.clone().any(|asked| asked.height == height)
    };
    assert!(is_asked(&world, 1));
    assert_eq!(submit(&mut world, chain.at(1)), SubmitResult::Accepted);
    assert!(!is_asked(&world, 1));
    // Two callers at once get their answers from one verdict.
    world.input(Input::Submit {
        ticket: 1,
        block: chain.at(2).clone(),
    });
    world.input(Input::Submit {
        ticket: 2,
        block: chain.at(2).clone(),
    });
    world.run(secs(1));
    let last: Vec<_> = world.answers[1..].to_vec();
    assert_eq!(
        last,
        [(1, SubmitResult::Accepted), (2, SubmitResult::Duplicate)]
    );
}

#[test]
fn a_header_is_accepted_once_its_parent_is_known_and_is_not_stored_when_it_breaks_a_rule() {
    let chain = Blocks::new(10, 1);
    let mut world = node(&chain);
    let longer = chain.fork(10, 2, 1);
    let header = |world: &mut World, ticket, height| {
        let header = longer.at(height).header;
        world.input(Input::SubmitHeader { ticket, header });
        world.run(secs(1));
        world.answers.last().unwrap().clone()
    };
    let missing = rejected(RejectKind::MissingPrev, "prev-blk-not-found");
    assert_eq!(header(&mut world, 1, 12), (1, missing));
    assert_eq!(header(&mut world, 2, 11), (2, SubmitResult::Accepted));
    assert_eq!(header(&mut world, 3, 11), (3, SubmitResult::Accepted));
    let parent = longer.at(11).header;
    let wrong = [
        (
            "bad-diffbits",
            mine_at(&parent, parent.time + 600, 1, 0x207f_fffe),
        ),
        ("time-too-old", mine(&parent, parent.time - 4_000, 1)),
        ("time-too-new", mine(&parent, world.now.unix + 7_201, 1)),
    ];
    for (reason, header) in wrong {
        world.input(Input::SubmitHeader { ticket: 4, header });
        let kind = match reason {
            "time-too-new" => RejectKind::TimeFuture,
            _ => RejectKind::InvalidHeader,
        };
        assert_eq!(*world.answers.last().unwrap(), (4, rejected(kind, reason)));
        assert!(
            !world.node.tree().contains(&header.block_hash()),
            "{reason}"
        );
    }
    assert_eq!(world.node.tree().best_header().height, 11);
    assert!(
        world
            .sent
            .iter()
            .all(|(_, _, message)| !matches!(message, Message::GetData(_)))
    );
}
