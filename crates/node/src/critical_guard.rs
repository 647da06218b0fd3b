//! The guard of an actor that the node cannot run without.

use actix::Recipient;

use crate::node::messages::ActorDied;
use crate::post::post_to;

/// Notifies `Node` when its actor is dropped without having been disarmed: it
/// panicked, or its arbiter ended.
#[derive(Debug)]
pub(crate) struct CriticalGuard {
    who: &'static str,
    node: Option<Recipient<ActorDied>>,
}

impl CriticalGuard {
    pub(crate) fn new(who: &'static str, node: Recipient<ActorDied>) -> Self {
        Self {
            who,
            node: Some(node),
        }
    }

    /// The actor stops in an orderly way.
    pub(crate) fn disarm(&mut self) {
        self.node = None;
    }
}

impl Drop for CriticalGuard {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        let how = if std::thread::panicking() {
            "it panicked"
        } else {
            "its arbiter ended"
        };
        post_to(
            &node,
            ActorDied {
                who: self.who,
                how: how.into(),
            },
        );
    }
}
