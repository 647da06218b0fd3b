//! The one home of sending.
//!
//! A mailbox of actix has no useful bound of its own (`do_send` ignores the
//! capacity, and with a bounded mailbox it overtakes parked `send`s). So every
//! mailbox is unbounded and strictly FIFO, and each message says what bounds how
//! many of it can be queued, where it is declared (`posted!`). `clippy.toml`
//! bans the methods of `Addr` everywhere else.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message, Recipient};

use tokio::sync::oneshot;

use crate::view::Gone;

/// A message that is posted: the sender does not wait and learns nothing.
/// To a stopped actor it is dropped, and its permits are returned by `Drop`.
pub(crate) trait Posted: Message<Result = ()> + Send {}

/// A message whose sender waits for the answer: one in flight per caller.
pub(crate) trait Asked: Message + Send {}

/// Posts `message`; never waits. Order is preserved per receiver.
pub(crate) fn post<A, M>(to: &Addr<A>, message: M)
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Posted + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the one home of sending")]
    to.do_send(message);
}

/// Posts `message` to the actor that receives this kind of message; never waits.
pub(crate) fn post_to<M: Posted + 'static>(to: &Recipient<M>, message: M) {
    #[expect(clippy::disallowed_methods, reason = "the one home of sending")]
    to.do_send(message);
}

/// Asks and waits for the answer. Never used by a manager: managers do not wait.
///
/// # Errors
/// The actor is not there any more.
///
/// # Cancel safety
/// Dropping the future cancels the question when it was not yet handled.
pub(crate) async fn ask<A, M>(to: &Addr<A>, message: M) -> Result<M::Result, Gone>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Asked + 'static,
    M::Result: Send,
{
    #[expect(clippy::disallowed_methods, reason = "the one home of sending")]
    let answer = to.send(message);
    answer.await.map_err(|_| Gone::Stopping)
}

/// Asks the actor that receives this kind of message, as [`ask`].
///
/// # Errors
/// The actor is not there any more.
pub(crate) async fn ask_of<M>(to: &Recipient<M>, message: M) -> Result<M::Result, Gone>
where
    M: Asked + 'static,
    M::Result: Send,
{
    #[expect(clippy::disallowed_methods, reason = "the one home of sending")]
    let answer = to.send(message);
    answer.await.map_err(|_| Gone::Stopping)
}

/// A question of a caller outside the actors, as a closure over the actor's state: so a new one needs
/// no message type. The answer goes to the caller that waits.
pub(crate) struct Question<A>(Box<dyn FnOnce(&mut A) + Send>);

impl<A: 'static> Message for Question<A> {
    type Result = ();
}

impl<A: 'static> Posted for Question<A> {}

impl<A> Question<A> {
    /// Asks the actor, and answers the caller.
    pub(crate) fn put_to(self, actor: &mut A) {
        (self.0)(actor);
    }
}

/// Asks `question` of the actor and waits for the answer. One in flight per caller, and never used by
/// a manager, as [`ask`].
///
/// # Errors
/// The actor is not there any more.
///
/// # Cancel safety
/// Dropping the future cancels the question when it was not yet handled.
pub(crate) async fn ask_with<A, T>(
    to: &Addr<A>,
    question: impl FnOnce(&mut A) -> T + Send + 'static,
) -> Result<T, Gone>
where
    A: Actor + Handler<Question<A>>,
    A::Context: ToEnvelope<A, Question<A>>,
    T: Send + 'static,
{
    let (answer, wait) = oneshot::channel();
    let asked = move |actor: &mut A| {
        if !answer.is_closed() {
            let _ = answer.send(question(actor));
        }
    };
    post(to, Question(Box::new(asked)));
    wait.await.map_err(|_| Gone::Stopping)
}

/// Messages that are posted, and why a mailbox cannot grow without limit by them:
///
/// * `by queued`: at most two per slot and receiver, since each carries its place among the
///   lifecycle messages of its slot (L5);
/// * `by credit`: each carries credit of its connection and gives it back when handled;
/// * `by request`: each is caused by one message or request of the receiver, which bounds those;
/// * `rare`: a few ever, or one per caller who waits for the answer.
///
/// That a message carries what bounds it is checked by the compiler.
macro_rules! posted {
    (by queued: $($message:ty),+ $(,)?) => {
        $crate::post::posted!(rare: $($message),+);
        $(const _: fn(&$message) -> &$crate::slots::Queued = |message| &message.queued;)+
    };
    (by credit: $($message:ty),+ $(,)?) => {
        $crate::post::posted!(rare: $($message),+);
        $(const _: fn(&$message) -> &$crate::credit::Credit = |message| &message.credit;)+
    };
    (by request: $($message:ty),+ $(,)?) => {
        $crate::post::posted!(rare: $($message),+);
    };
    (rare: $($message:ty),+ $(,)?) => {
        $(impl actix::Message for $message { type Result = (); }
          impl $crate::post::Posted for $message {})+
    };
}

/// Messages that are asked, with their answers.
macro_rules! asked {
    ($($message:ty => $answer:ty),+ $(,)?) => {
        $(impl actix::Message for $message { type Result = $answer; }
          impl $crate::post::Asked for $message {})+
    };
}

pub(crate) use {asked, posted};
