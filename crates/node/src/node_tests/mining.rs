//! The miner in a whole node: blocks on demand, mining with threads, and its death.

use std::future::poll_fn;
use std::sync::Arc;

use bitcoin::ScriptBuf;
use handfast_proto::mining::{GenerateFailure, GenerateRequest, MiningState, Why};
use tokio::time::Instant;

use super::*;
use crate::handle::{GenerateError, MiningFailure};
use crate::miner::Miner;
use crate::sync_manager::messages::SubmitMined;
use crate::{ChainNews, Move, SubmitResult};

impl Handler<Explode> for Miner {
    type Result = ();
    fn handle(&mut self, _: Explode, _: &mut Self::Context) {
        panic!("a bug in Miner, on purpose");
    }
}

fn request(count: u32) -> GenerateRequest {
    GenerateRequest {
        ticket: 0,
        count,
        max_tries: 1_000_000,
        payout: ScriptBuf::from_bytes(vec![0x51]),
        transactions: Vec::new(),
        submit: true,
    }
}

fn height(node: &NodeHandle) -> u32 {
    node.view().tree.tip().height
}

/// Without the pace that keeps regtest from running away.
fn unpaced(config: &mut NodeConfig) {
    config.mining.interval = Duration::ZERO;
}

#[test]
fn blocks_on_demand_are_on_the_chain_when_they_are_answered() {
    with_node(
        |_| {},
        async |node| {
            let made = node.generate(request(120)).await.expect("made");
            assert_eq!(made.hashes.len(), 120);
            let tree = &node.view().tree;
            assert_eq!(tree.tip().height, 120);
            for (height, hash) in (1..).zip(&made.hashes) {
                assert_eq!(tree.at_height(height).expect("so high").hash, *hash);
            }
            // Callers who come together get what they asked for, one after the other.
            let (a, b, c) = tokio::join!(
                node.generate(request(5)),
                node.generate(request(7)),
                node.generate(request(9))
            );
            let count = |made: Result<_, _>| -> usize {
                let made: handfast_proto::mining::Generated = made.expect("made");
                made.hashes.len()
            };
            assert_eq!([count(a), count(b), count(c)], [5, 7, 9]);
            assert_eq!(height(node), 141);
            assert_eq!(node.mining().generated, 141);
        },
    );
}

#[test]
fn an_invalid_block_on_demand_is_answered_with_the_kernels_reason() {
    with_node(
        |_| {},
        async |node| {
            let mut bad = request(1);
            // Spends what does not exist.
            let genesis = Network::Regtest.genesis_block();
            let mut transaction = genesis.txdata[0].clone();
            transaction.input[0].previous_output.txid = genesis.txdata[0].compute_txid();
            transaction.input[0].previous_output.vout = 7;
            bad.transactions = vec![transaction];
            let error = node.generate(bad).await.expect_err("it is invalid");
            let GenerateError::Failure(GenerateFailure::Refused(reject)) = error else {
                panic!("{error}");
            };
            assert_eq!(reject.reason, "bad-txns-inputs-missingorspent");
            assert_eq!(height(node), 0);
            node.generate(request(1))
                .await
                .expect("the next one is valid");
        },
    );
}

#[test]
fn whoever_stops_waiting_ends_an_order_without_end() {
    with_node(
        |_| {},
        async |node| {
            let endless = node.generate(GenerateRequest {
                count: u32::MAX,
                max_tries: u64::MAX,
                ..request(1)
            });
            let caller = tokio::time::timeout(Duration::from_millis(50), endless);
            caller
                .await
                .expect_err("nobody makes four thousand million blocks");
            until(async || node.mining().requests == 0).await;
            node.generate(request(1))
                .await
                .expect("the next order is carried out");
        },
    );
}

#[test]
fn a_mined_block_that_is_not_on_the_tip_is_not_even_offered() {
    with_node(
        |_| {},
        async |node| {
            // It pays to another script: the same request makes the same block.
            let unsubmitted = GenerateRequest {
                submit: false,
                payout: ScriptBuf::from_bytes(vec![0x52]),
                ..request(1)
            };
            let made = node.generate(unsubmitted).await.expect("made");
            let block = made.block.expect("not submitted");
            node.generate(request(1)).await.expect("another is quicker");
            let offer = |block| {
                let (answer, wait) = tokio::sync::oneshot::channel();
                let sync = &node.links().expect("it runs").sync;
                post(sync, SubmitMined { block, answer });
                wait
            };
            offer(block.clone()).await.expect_err("it is stale");
            assert!(!node.view().tree.contains(&block.hash));
            // A caller that submits it wants it stored.
            let result = node.submit_block(block.clone()).await;
            assert_eq!(result, Ok(SubmitResult::Inconclusive));
            assert!(node.view().tree.contains(&block.hash));
        },
    );
}

#[test]
fn a_node_mines_and_stops_when_told() {
    let reason = with_node(unpaced, async |node| {
        assert_eq!(node.mining().why, Why::Off);
        let state = node.start_mining(Some(2), None).await.expect("threads");
        assert_eq!(state.threads, 2);
        assert_eq!(state.payout, Some(ScriptBuf::from_bytes(vec![0x51])));
        until(async || node.mining().found >= 20).await;
        let state = node.stop_mining().await.expect("it lives");
        assert_eq!((state.why.clone(), state.threads), (Why::Off, 0));
        // One more may be on its way to the kernel.
        until(async || u64::from(height(node)) == node.mining().found).await;
        let at = height(node);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(height(node) <= at + 1);
        // And again, until the node is stopped.
        node.start_mining(Some(1), None).await.expect("threads");
        until(async || height(node) > at + 3).await;
    });
    assert_eq!(reason.exit_code(), 0, "{reason:?}");
}

#[test]
fn a_node_mines_from_its_start_at_the_pace_of_its_configuration() {
    with_node(
        |config| {
            config.mining.at_start = true;
            config.mining.interval = Duration::from_millis(300);
        },
        async |node| {
            let began = Instant::now();
            until(async || node.mining().found >= 4).await;
            // The first at once, and then three beats.
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(850), "{took:?}");
            assert_eq!(u64::from(height(node)), node.mining().found);
        },
    );
}

#[test]
fn where_coins_have_value_nobody_mines_for_nobody() {
    with_node(
        |config| {
            config.network = Network::Testnet4;
            config.datadir = config.datadir.with_file_name("testnet4");
        },
        async |node| {
            let refusal = node.start_mining(None, None).await.expect_err("for whom?");
            assert!(matches!(refusal, MiningFailure::NoPayout), "{refusal}");
            let anybody = ScriptBuf::from_bytes(vec![0x51]);
            let state = node.start_mining(Some(1), Some(anybody)).await;
            assert_eq!(state.expect("threads").why, Why::InitialBlockDownload);
        },
    );
}

/// Work for the present tip, as the threads have it.
fn works_on(state: &MiningState, height: u32) -> bool {
    state.why == Why::Hashing && state.height == Some(height)
}

#[test]
fn a_new_tip_replaces_the_work_within_50_ms_under_a_load_of_hashing_on_every_core() {
    let challenge = vec![0x51];
    with_node(
        |config| {
            let network = Network::CustomSignet { challenge };
            config.datadir = config.datadir.with_file_name(network.directory());
            config.network = network;
            // Without a pace: after a block of the threads they go on at once.
            config.mining.interval = Duration::ZERO;
        },
        async |node| {
            // Blocks of the threads come between, one in a fraction of a second or in seconds.
            let cores = crate::handle::default_threads();
            node.start_mining(Some(cores), None).await.expect("threads");
            let mut took = Vec::new();
            for _ in 0..8 {
                let at = height(node);
                until(async || works_on(&node.mining(), at + 1)).await;
                let made = node.generate(GenerateRequest {
                    max_tries: u64::MAX,
                    ..request(1)
                });
                made.await.expect("made");
                let told = Instant::now();
                until(async || {
                    let tip = height(node);
                    works_on(&node.mining(), tip + 1)
                })
                .await;
                took.push(told.elapsed());
            }
            took.sort_unstable();
            println!("from the new tip to work on it: {took:?}");
            assert!(took[took.len() / 2] < Duration::from_millis(50), "{took:?}");
        },
    );
}

#[test]
fn a_node_whose_miner_panics_goes_on_and_says_that_mining_stopped() {
    let reason = with_node(unpaced, async |node| {
        node.start_mining(Some(1), None).await.expect("threads");
        until(async || node.mining().found > 0).await;
        post(&node.links().expect("it runs").miner, Explode);
        until(async || matches!(node.mining().why, Why::Dead(_))).await;
        assert!(!node.mining().is_on());
        assert!(node.mining().found > 0, "what was counted is kept");
        let view = node.view();
        assert!(
            view.warnings
                .iter()
                .any(|line| line.contains("the miner died")),
            "{:?}",
            view.warnings
        );
        // The kernel's warnings come and go beside it.
        node.shared.set_warnings(&["of the kernel".into()]);
        assert_eq!(node.view().warnings.len(), 2);
        node.shared.set_warnings(&[]);
        assert_eq!(node.view().warnings.len(), 1);
        let error = node.generate(request(1)).await.expect_err("it is dead");
        assert!(matches!(error, GenerateError::Dead(_)), "{error}");
        let error = node.start_mining(None, None).await.expect_err("dead");
        assert!(matches!(error, MiningFailure::Dead(_)), "{error}");
        // All else goes on.
        let _remote = handshake(node).await;
        audit_of(node, 1, 1).await;
        assert_eq!(node.phase(), Phase::Running);
    });
    assert_eq!(reason.exit_code(), 0, "{reason:?}");
}

#[test]
fn followers_of_the_chain_get_a_block_on_demand_and_share_it() {
    with_node(
        |_| {},
        async |node| {
            let follow = || node.follow_chain().expect("it runs");
            let mut followers = [follow(), follow()];
            let made = node.generate(request(1)).await.expect("made");
            let mut told = Vec::new();
            for follower in &mut followers {
                let news = poll_fn(|context| follower.poll_next(context)).await;
                let Some(ChainNews::Moved(Move::Connected(block))) = news else {
                    panic!("a block was connected, and the news are {news:?}");
                };
                told.push(block);
            }
            assert_eq!(told[0].hash(), made.hashes[0]);
            assert!(Arc::ptr_eq(&told[0], &told[1]));
        },
    );
}
