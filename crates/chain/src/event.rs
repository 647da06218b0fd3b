//! What the kernel thread reports.

use handfast_verdict::KernelEvent;

/// One report of the kernel thread. Exactly one answer comes to each job, unless
/// [`Chain::interrupt`](crate::Chain::interrupt) or a `Fatal` event came first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The answer to a job, or [`KernelEvent::Durable`].
    Answer(KernelEvent),
    /// The kernel's warnings changed; this is the whole present list.
    Warnings(Vec<String>),
    /// Validation cannot go on (disk full, damaged files, our own panic). No
    /// further job is answered; the node has to stop.
    Fatal(String),
}
