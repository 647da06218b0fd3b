//! One timer per actor, moved to its machine's deadline.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::{Actor, ActorFuture, AsyncContext, Context as ActorContext};
use tokio::time::{Instant, Sleep};

/// Least time between two alarms. A machine whose deadline stays in the past would otherwise spin;
/// none should, and this limit keeps the mistake harmless.
const LEAST: Duration = Duration::from_millis(1);

/// An actor whose machine has a deadline.
pub(crate) trait Timed: Actor {
    /// When the machine wants its next step without an input; `None`: never.
    fn deadline(&self) -> Option<Instant>;
    /// The deadline has come.
    fn on_deadline(&mut self, ctx: &mut Self::Context);
}

/// Sets the one timer of an actor. It reads the deadline whenever the actor was polled, so no
/// handler needs to re-arm it.
pub(crate) fn start<A: Timed<Context = ActorContext<A>>>(ctx: &mut ActorContext<A>) {
    ctx.spawn(Alarm::new());
}

/// The item of the actor's context that is the timer.
pub(crate) struct Alarm {
    /// Created when the first deadline is seen.
    sleep: Option<Pin<Box<Sleep>>>,
    /// When `sleep` ends, unless it ended already.
    set_for: Option<Instant>,
    /// No alarm before this.
    not_before: Instant,
}

impl<A> ActorFuture<A> for Alarm
where
    A: Timed,
    A::Context: AsyncContext<A>,
{
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut A::Context,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let Some(deadline) = actor.deadline() else {
                return Poll::Pending;
            };
            let due = deadline.max(this.not_before);
            if this.poll_sleep(due, task).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if due <= now {
                actor.on_deadline(ctx);
                this.not_before = now + LEAST;
            }
        }
    }
}

impl Alarm {
    /// For an actor that polls it as part of another item.
    pub(crate) fn new() -> Self {
        Self {
            sleep: None,
            set_for: None,
            not_before: Instant::now(),
        }
    }

    /// Sleeps until `due` or earlier. A deadline that moved away (as each frame moves a session's)
    /// does not touch the timer: it fires early once and is set again.
    fn poll_sleep(&mut self, due: Instant, task: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if self.set_for.is_none_or(|at| due < at) {
            self.set_for = Some(due);
            sleep.as_mut().reset(due);
        }
        let ended = sleep.as_mut().poll(task);
        if ended.is_ready() {
            self.set_for = None;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes when it was called, and wants the next call `every` later, `left` times.
    struct Metronome {
        next: Option<Instant>,
        every: Duration,
        left: usize,
        rang: std::rc::Rc<std::cell::RefCell<Vec<Duration>>>,
        start: Instant,
    }

    impl Actor for Metronome {
        type Context = ActorContext<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            start(ctx);
        }
    }

    impl Timed for Metronome {
        fn deadline(&self) -> Option<Instant> {
            self.next
        }
        fn on_deadline(&mut self, _: &mut Self::Context) {
            self.rang.borrow_mut().push(self.start.elapsed());
            self.left -= 1;
            self.next = (self.left > 0).then(|| self.next.expect("it rang") + self.every);
        }
    }

    fn run(every: Duration, left: usize) -> Vec<Duration> {
        let rang = std::rc::Rc::default();
        let noted = std::rc::Rc::clone(&rang);
        crate::virtual_time::run(async move {
            let start = Instant::now();
            let _metronome = Metronome {
                next: Some(start + every),
                every,
                left,
                rang: noted,
                start,
            }
            .start();
            tokio::time::sleep(Duration::from_secs(100)).await;
        });
        rang.take()
    }

    #[test]
    fn the_alarm_fires_at_each_deadline_of_the_machine_and_not_after_the_last() {
        let seconds = |n| Duration::from_secs(n);
        assert_eq!(run(seconds(7), 3), [seconds(7), seconds(14), seconds(21)]);
    }

    #[test]
    fn a_deadline_that_stays_in_the_past_does_not_make_the_actor_spin() {
        let rang = run(Duration::ZERO, 10);
        assert_eq!(rang.len(), 10);
        assert!(
            rang.windows(2).all(|pair| pair[1] - pair[0] >= LEAST),
            "{rang:?}"
        );
    }
}
