//! PeerManager's subscribers: the managers that are notified of connections, get what these
//! send, and are notified of their end.
//!
//! Such a manager implements the handlers that [`Subscriber::new`] asks for, and
//! stands in the list that `wiring` makes. What it gets follows from its [`Role`]; PeerManager
//! does not know which managers there are.
//!
//! # Ordering
//!
//! To each subscriber everything goes by one mailbox, from PeerManager alone: of a connection
//! `Add` first, its messages, `Done` last.
//!
//! # Release
//!
//! A connection's slot, and the credit of a message, are released when the last subscriber that
//! got the message has *handled* it: each has its part of the permit ([`Joint`]), and
//! drops it then. A subscriber that drops a message unhandled, or panics, drops its part too.

use std::iter::repeat_n;
use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Recipient};
use handfast_proto::lifecycle::{ConnId, Role, Roles, VersionInfo};
use handfast_wire::Message;

use crate::audit::{Handled, Inquiry};
use crate::credit::Credit;
use crate::joint::Joint;
use crate::peer_manager::messages::Served;
use crate::post::{asked, post_to, posted};
use crate::slots::{Queued, Slot};

/// PeerManager admitted a connection.
#[derive(Debug)]
pub(crate) struct SubscriberAdd {
    /// What it said of itself.
    pub(crate) version_info: VersionInfo,
    /// Counts it as queued until it was handled.
    pub(crate) queued: Queued,
}

/// An admitted connection received a message that the subscriber handles.
#[derive(Debug)]
pub(crate) struct SubscriberInput {
    /// The connection.
    pub(crate) id: ConnId,
    /// The message; others may have it too.
    pub(crate) message: Arc<Message>,
    /// Given back when all that have the message have handled it.
    pub(crate) credit: Joint<Credit>,
}

/// An admitted connection has ended; nothing about `id` follows.
#[derive(Debug)]
pub(crate) struct SubscriberDone {
    /// The connection.
    pub(crate) id: ConnId,
    /// As in [`SubscriberAdd`]. Goes before the slot.
    pub(crate) queued: Queued,
    /// Its slot: free when all that were notified of the connection have handled this.
    pub(crate) slot: Joint<Slot>,
}

/// What does the subscriber's table hold, at this point of the lifecycle messages?
#[derive(Debug)]
pub(crate) struct SubscriberAudit(pub(crate) Arc<Inquiry>);

/// Phase "managers": stop, and answer what was handled.
#[derive(Debug)]
pub(crate) struct StopSubscriber {
    /// All slots are free, so the table must be empty (L6).
    pub(crate) slots_free: bool,
}

posted!(by queued: SubscriberAdd, SubscriberDone);
posted!(by credit: SubscriberInput);
posted!(rare: SubscriberAudit);

asked! {
    StopSubscriber => Handled,
}

/// A subscriber: what it is, and the recipients of everything that it gets.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    role: Role,
    add: Recipient<SubscriberAdd>,
    input: Recipient<SubscriberInput>,
    done: Recipient<SubscriberDone>,
    audit: Recipient<SubscriberAudit>,
    stop: Recipient<StopSubscriber>,
    /// Of those that have blocks served.
    served: Option<Recipient<Served>>,
}

impl Subscriber {
    pub(crate) fn new<A>(role: Role, actor: &Addr<A>) -> Self
    where
        A: Actor
            + Handler<SubscriberAdd>
            + Handler<SubscriberInput>
            + Handler<SubscriberDone>
            + Handler<SubscriberAudit>
            + Handler<StopSubscriber>,
        A::Context: ToEnvelope<A, SubscriberAdd>
            + ToEnvelope<A, SubscriberInput>
            + ToEnvelope<A, SubscriberDone>
            + ToEnvelope<A, SubscriberAudit>
            + ToEnvelope<A, StopSubscriber>,
    {
        Self {
            role,
            add: actor.clone().recipient(),
            input: actor.clone().recipient(),
            done: actor.clone().recipient(),
            audit: actor.clone().recipient(),
            stop: actor.clone().recipient(),
            served: None,
        }
    }

    /// The same, which gets a report when a block that it ordered was served.
    pub(crate) fn with_served(mut self, served: Recipient<Served>) -> Self {
        self.served = Some(served);
        self
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// The recipient of the order to stop.
    pub(crate) fn stop(&self) -> &Recipient<StopSubscriber> {
        &self.stop
    }
}

/// All subscribers, each with a role of its own.
#[derive(Clone, Debug)]
pub(crate) struct Subscribers(Vec<Subscriber>);

impl Subscribers {
    pub(crate) fn new(all: Vec<Subscriber>) -> Self {
        let these = Self(all);
        let roles = these.roles().len();
        assert_eq!(roles, these.0.len(), "L3: a role is one subscriber's");
        these
    }

    pub(crate) fn roles(&self) -> Roles {
        self.0.iter().map(Subscriber::role).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscriber> {
        self.0.iter()
    }

    fn with(&self, roles: Roles) -> impl Iterator<Item = &Subscriber> {
        self.0.iter().filter(move |it| roles.contains(it.role))
    }

    /// Tells these of an admitted connection.
    pub(crate) fn added(&self, roles: Roles, version_info: VersionInfo, queued: Queued) {
        let introductions = repeat_n(version_info, roles.len());
        let told = self.with(roles).zip(introductions);
        for ((subscriber, version_info), queued) in told.zip(queued.among(roles.len())) {
            let add = SubscriberAdd {
                version_info,
                queued,
            };
            post_to(&subscriber.add, add);
        }
    }

    /// Forwards a connection's message to these.
    pub(crate) fn received(&self, roles: Roles, id: ConnId, message: Arc<Message>, credit: Credit) {
        let messages = repeat_n(message, roles.len());
        let credits = Joint::among(credit, roles.len());
        for ((subscriber, message), credit) in self.with(roles).zip(messages).zip(credits) {
            let input = SubscriberInput {
                id,
                message,
                credit,
            };
            post_to(&subscriber.input, input);
        }
    }

    /// Tells these that a connection has ended.
    pub(crate) fn ended(&self, roles: Roles, id: ConnId, queued: Queued, slot: Slot) {
        if roles.is_empty() {
            // No subscriber was notified of it. The count goes before the slot, as with [`SubscriberDone`].
            drop(queued);
            return drop(slot);
        }
        let slots = Joint::among(slot, roles.len());
        for ((subscriber, queued), slot) in
            self.with(roles).zip(queued.among(roles.len())).zip(slots)
        {
            post_to(&subscriber.done, SubscriberDone { id, queued, slot });
        }
    }

    /// Passes a question on, which each of them answers.
    pub(crate) fn audit(&self, inquiry: Inquiry) {
        let inquiry = Arc::new(inquiry);
        for subscriber in &self.0 {
            post_to(&subscriber.audit, SubscriberAudit(inquiry.clone()));
        }
    }

    /// Tells the one that ordered it that serving a block has ended.
    pub(crate) fn served(&self, served: Served) {
        let mut whose = self.with(served.from.into());
        if let Some(to) = whose.next().and_then(|it| it.served.as_ref()) {
            post_to(to, served);
        }
    }
}
