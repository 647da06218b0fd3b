//! Opening the kernel, on a thread of its own: it may have blocks to connect
//! first, and RPC answers "starting" meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actix::Addr;
use actix::dev::channel::{AddressReceiver, channel};
use bitcoin::block::Header;
use handfast_chain::{Chain, ChainOptions, Event, InitialChain, OpenError, Replay};
use handfast_disk::{Form, StateFile};
use handfast_proto::bans::BanList;
use handfast_proto::headers::HeaderTree;

use crate::config::NodeConfig;
use crate::node::messages::{ActorDied, Open, Opened};
use crate::peer_manager::PeerManager;
use crate::post::{post, post_to};
use crate::shared::Shared;
use crate::sync_manager::SyncManager;
use crate::sync_manager::messages::Kernel;

/// The managers' mailboxes. They exist before the managers, which know each other.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    pub(crate) peers: Mailbox<PeerManager>,
    pub(crate) sync: Mailbox<SyncManager>,
}

/// Both ends of a mailbox whose actor is still to come. Unbounded: see `mail`.
pub(crate) struct Mailbox<A: actix::Actor> {
    pub(crate) addr: Addr<A>,
    pub(crate) messages: AddressReceiver<A>,
}

impl<A: actix::Actor> std::fmt::Debug for Mailbox<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl<A: actix::Actor> Mailbox<A> {
    pub(crate) fn new() -> Self {
        let (sender, messages) = channel(0);
        Self {
            addr: Addr::new(sender),
            messages,
        }
    }
}

impl Mailboxes {
    pub(crate) fn new() -> Self {
        Self {
            peers: Mailbox::new(),
            sync: Mailbox::new(),
        }
    }
}

/// Opens on a new thread and posts [`Opened`] to `Node`.
pub(crate) fn open(
    mut options: ChainOptions,
    config: &NodeConfig,
    mailboxes: &Mailboxes,
    shared: Arc<Shared>,
) {
    let sync = mailboxes.sync.addr.clone();
    let datadir = config.datadir.clone();
    let told = shared.clone();
    let (node, path) = (shared.node.clone(), datadir.clone());
    options.on_replay = Some(Box::new(move |how| told.set_starting(&replaying(how))));
    let opening = move || {
        let events = shared.clone();
        // Runs on the kernel's thread between two jobs: counts and posts.
        let on_events = move |list: Vec<Event>| {
            let mut answers = Vec::with_capacity(list.len());
            for event in list {
                match event {
                    Event::Answer(answer) => {
                        events.kernel_times.count(&answer);
                        answers.push(answer);
                    }
                    Event::Warnings(warnings) => events.set_warnings(&warnings),
                    Event::Fatal(how) => {
                        post_to(&events.node.died, ActorDied { who: "kernel", how })
                    }
                }
            }
            post(&sync, Kernel(answers));
        };
        let open = || {
            Chain::open_batched(options, on_events).and_then(|(chain, initial)| {
                let addresses = load(&shared.state.addresses)?;
                let bans = load(&shared.state.bans)?;
                let mined = load(&shared.state.mined)?;
                shared.measure_disk();
                // Opened once in the life of a node.
                let _ = shared.progress.set(chain.progress());
                Ok(Box::new(Open {
                    chain,
                    tree: tree(&initial),
                    addresses,
                    bans: BanList::from_rows(bans, shared.clock.now()),
                    mined,
                }))
            })
        };
        // No other actor would notice it, and the start would never end.
        let opened = catch_unwind(AssertUnwindSafe(open));
        let opened = opened.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(OpenError::Panicked {
                dir: datadir.clone(),
                message: text.unwrap_or_else(|| "no message".into()),
            })
        });
        post_to(&shared.node.opened, Opened(opened));
    };
    let thread = std::thread::Builder::new()
        .name("open".into())
        .spawn(opening);
    if let Err(source) = thread {
        post_to(&node.opened, Opened(Err(OpenError::Io { path, source })));
    }
}

fn load<F: Form>(file: &StateFile<F>) -> Result<F::State, OpenError> {
    file.load().map_err(|source| OpenError::Io {
        path: file.path().to_owned(),
        source,
    })
}

/// What the start is at, for those who ask.
fn replaying(how: Replay) -> String {
    let Replay {
        done,
        total,
        unclean,
    } = how;
    let why = match unclean {
        true => ": the last shutdown was unclean",
        false => "",
    };
    format!("Replaying acknowledged blocks, {done} of {total}{why}…")
}

/// The header tree of what the kernel has.
pub(crate) fn tree(initial: &InitialChain) -> HeaderTree {
    let mut active = initial.active.iter();
    let genesis = active.next().expect("an open chain has its genesis block");
    let mut tree = HeaderTree::new(*genesis);
    let insert = |tree: &mut HeaderTree, header: &Header| {
        let hash = header.block_hash();
        tree.insert_hashed(hash, *header)
            .expect("the kernel's headers follow one another");
        hash
    };
    for header in active {
        let hash = insert(&mut tree, header);
        tree.connect(&hash);
    }
    for header in &initial.best_branch {
        insert(&mut tree, header);
    }
    for hash in &initial.stored {
        tree.mark_stored(hash);
    }
    for side in &initial.side_branches {
        let hash = side.header.block_hash();
        // Adopted: on an invalid parent it is invalid too.
        if let Err(error) = tree.adopt(hash, side.header) {
            tracing::debug!(%hash, %error, "a header beside the chain has no place");
            continue;
        }
        if side.invalid {
            tree.mark_invalid(&hash);
        } else if side.stored {
            tree.mark_stored(&hash);
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use handfast_chain::SideHeader;
    use handfast_proto::headers::Status;

    use super::*;

    #[test]
    fn the_tree_of_a_start_holds_all_that_the_kernel_told_and_its_marks() {
        let genesis = handfast_wire::Network::Regtest.genesis();
        let on = |parent: &Header, nonce| Header {
            prev_blockhash: parent.block_hash(),
            nonce,
            ..genesis
        };
        let active = on(&genesis, 1);
        let best = on(&active, 2);
        let stored = on(&genesis, 3);
        let bad = on(&stored, 4);
        let on_bad = on(&bad, 5);
        let side = |header, stored, invalid| SideHeader {
            header,
            stored,
            invalid,
        };
        let tree = tree(&InitialChain {
            active: vec![genesis, active],
            best_branch: vec![best],
            fork_height: 1,
            stored: vec![],
            side_branches: vec![
                side(stored, true, false),
                side(bad, true, true),
                side(on_bad, false, true),
            ],
        });
        let status = |header: &Header| tree.get(&header.block_hash()).map(|entry| entry.status);
        assert_eq!(status(&active), Some(Status::Connected));
        assert_eq!(status(&best), Some(Status::Header));
        assert_eq!(status(&stored), Some(Status::Stored));
        assert_eq!(status(&bad), Some(Status::Invalid));
        assert_eq!(status(&on_bad), Some(Status::Invalid));
    }

    #[test]
    fn a_start_tells_how_far_the_replay_is_and_why_there_is_one() {
        let how = |unclean| Replay {
            done: 3,
            total: 40,
            unclean,
        };
        assert_eq!(
            replaying(how(true)),
            "Replaying acknowledged blocks, 3 of 40: the last shutdown was unclean…"
        );
        assert_eq!(
            replaying(how(false)),
            "Replaying acknowledged blocks, 3 of 40…"
        );
    }
}
