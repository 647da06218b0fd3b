//! Turns: how a manager handles what connections sent, between mailbox and machine.
//!
//! A mailbox gives out all that it holds, oldest first, in one go: the peer that sends most is
//! served most, and everybody on the thread waits until it is empty. So a manager's
//! handlers only sort what comes from connections into a [`FairQueue`], and an item of its
//! context ([`Turns`]) handles it: one turn after the other, with all that is ready on this
//! thread in between.
//!
//! # Ordering
//!
//! Of one connection everything stays in the order in which it was posted, `Add` first
//! and `Done` last. What is no connection's (answers of the kernel, questions, orders of
//! `Node`, the clock) does not go through the queue: it is handled when it comes, before what
//! is queued. The audit is the exception: it compares two tables at the same point of the
//! lifecycle messages, so it waits for what was queued before it, and goes before the rest.
//!
//! # Shutdown
//!
//! With all slots free the queue holds no lifecycle message, since each carries or precedes
//! its slot. What is left in it when its actor stops is dropped, as in a mailbox.

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use actix::{Actor, ActorFuture, AsyncContext, Context};
use handfast_proto::fair_queue::{FairQueue, TURN};

/// A manager that handles what connections sent in turns.
pub(crate) trait TakesTurns: Actor<Context = Context<Self>> {
    /// What is queued.
    type Item;
    /// Where it is queued.
    fn queue(&mut self) -> &mut FairQueue<Self::Item>;
    /// Handles one item.
    fn handle_item(&mut self, item: Self::Item);
}

/// Starts to handle what is queued. To be called once, when the actor starts, before the
/// item that minds the clock: what has arrived counts first.
pub(crate) fn start<A: TakesTurns>(ctx: &mut Context<A>) {
    ctx.spawn(Turns);
}

/// The item of the actor's context. It is polled whenever the mailbox was, and wakes
/// the actor itself while there is more to do.
struct Turns;

impl<A: TakesTurns> ActorFuture<A> for Turns {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        _: &mut Context<A>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        let mut work = 0;
        while work < TURN {
            let Some((cost, item)) = actor.queue().pop() else {
                return Poll::Pending;
            };
            actor.handle_item(item);
            work += cost.max(1);
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::Future;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Waker;

    use actix::{Handler, Message};
    use handfast_proto::lifecycle::ConnId;

    use super::*;
    use crate::post::{Posted, post};

    /// Connection, cost, position.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Put(u64, u64, u64);

    impl Message for Put {
        type Result = ();
    }

    impl Posted for Put {}

    #[derive(Default)]
    struct Manager {
        queue: FairQueue<Put>,
        handled: Rc<RefCell<Vec<Put>>>,
    }

    impl Actor for Manager {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Self::Context) {
            start(ctx);
        }
    }

    impl Handler<Put> for Manager {
        type Result = ();
        fn handle(&mut self, put: Put, _: &mut Self::Context) {
            self.queue.push(ConnId(put.0), put.1, put);
        }
    }

    impl TakesTurns for Manager {
        type Item = Put;
        fn queue(&mut self) -> &mut FairQueue<Put> {
            &mut self.queue
        }
        fn handle_item(&mut self, item: Put) {
            self.handled.borrow_mut().push(item);
        }
    }

    #[test]
    fn a_manager_handles_one_costly_message_a_turn_and_serves_others_between_them() {
        crate::virtual_time::run(async {
            let manager = Manager::default();
            let handled = manager.handled.clone();
            let context = Context::<Manager>::new();
            let address = context.address();
            for at in 0..64 {
                post(&address, Put(0, 10 * TURN, at));
            }
            let mut life = pin!(context.into_future(manager));
            let mut poll = || {
                let polled = life.as_mut().poll(&mut Task::from_waker(Waker::noop()));
                assert!(polled.is_pending());
                std::mem::take(&mut *handled.borrow_mut())
            };
            assert_eq!(poll(), [Put(0, 10 * TURN, 0)]);
            assert_eq!(poll(), [Put(0, 10 * TURN, 1)]);
            // All that a newcomer says comes before the rest of the flood.
            for at in 0..5 {
                post(&address, Put(1, 2, at));
            }
            let turn = poll();
            let of_newcomer: Vec<Put> = (0..5).map(|at| Put(1, 2, at)).collect();
            assert_eq!(turn[..5], of_newcomer);
            assert_eq!(turn[5..], [Put(0, 10 * TURN, 2)]);
            assert_eq!(poll(), [Put(0, 10 * TURN, 3)]);
        });
    }
}
