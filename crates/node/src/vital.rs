//! The guard of an actor that the node cannot run without.

use actix::Addr;

use crate::node::Node;
use crate::node::messages::ActorDied;
use crate::post::post;

/// Tells `Node` when its actor is dropped without having been told to stop: it
/// panicked, or its arbiter ended.
#[derive(Debug)]
pub(crate) struct Vital {
    who: &'static str,
    node: Option<Addr<Node>>,
}

impl Vital {
    pub(crate) fn new(who: &'static str, node: Addr<Node>) -> Self {
        Self {
            who,
            node: Some(node),
        }
    }

    /// The actor stops because it was told to.
    pub(crate) fn relieved(&mut self) {
        self.node = None;
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        let how = if std::thread::panicking() {
            "it panicked"
        } else {
            "its arbiter ended"
        };
        post(
            &node,
            ActorDied {
                who: self.who,
                how: how.into(),
            },
        );
    }
}
