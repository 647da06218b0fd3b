//! What Handfast tells beyond Bitcoin Core: sync and its audit, listening sockets.

use super::{Category, Spec};

pub(super) const ALL: &[&Spec] = &[&AUDIT, &GETLISTENERINFO, &GETPEERHISTORY, &GETSYNCSTATE];

/// `audit`.
pub static AUDIT: Spec = Spec {
    name: "audit",
    category: Category::Sync,
    params: &[],
    about: "Tells whether open sockets, peer table and sync table show the same connections, and how the\n\
            invariants of the peers' lifecycle stand. The tables are of one moment and always equal; a\n\
            connection on its way in or out may make the sockets differ, but only while it is.",
    result: "{ agrees, sockets, in_handshake, slots_taken, slots: { total, taken, home }, peer_table, sync_table, sync_peer,\n  \
             lifecycle: { queued, most, bound }, handled: { peermanager: { adds, dones }, syncmanager: { adds, dones } },\n  \
             invariants: [ { name, says, held, judged_by }, … ] }\n\
             lifecycle: Add and Done messages on their way to both managers; bound: two per slot",
    example: "",
    needs_chain: true,
};

/// `getlistenerinfo`.
pub static GETLISTENERINFO: Spec = Spec {
    name: "getlistenerinfo",
    category: Category::Sync,
    params: &[],
    about: "Tells of every listening socket who came in by it and who was turned away, how many wait to be\n\
            accepted, and whether the node gets in when it calls itself, which it tries every 30 s.",
    result: "{ sockets: [ { name, address, backlog: { asked, granted }, accept_queue, accepted,\n  \
             refused: { banned, no_slot, no_descriptor }, pauses, probe: { state, probes, failures, recreated,\n  \
             not_recreated, last: { at, result, took, why } } }, … ],\n  \
             listen_overflows, listen_drops }\n\
             granted: what the system made of the backlog asked for, see net.core.somaxconn\n\
             accept_queue: connections that are made and wait to be accepted, now\n\
             accepted: connections taken out of the queue since start, the self-probe's not counted; refused: those\n\
             of them that were closed at once; pauses: of accepting, for want of descriptors or memory\n\
             state: unknown until a probe has ended, then accepting, busy (others get in, the probe did not within\n\
             2 s) or failing; after 2 failures in a row the socket is made anew (recreated), or cannot be\n\
             (not_recreated: why)\n\
             result: accepted, overtaken, failed or not tried; took: seconds; at: Unix seconds\n\
             listen_overflows, listen_drops: connections that the system dropped since the node started because an\n\
             accept queue was full, or for any reason; of all programs of this machine (or network namespace),\n\
             it does not count them apart\n\
             null: the system does not tell",
    example: "",
    needs_chain: false,
};

/// `getpeerhistory`.
pub static GETPEERHISTORY: Spec = Spec {
    name: "getpeerhistory",
    category: Category::Sync,
    params: &[],
    about: "Returns the last 1,000 connections that ended, oldest first: how far each came, and why it ended.",
    result: "[ { id, addr, direction, subver, reached, reason, connected, duration, ended }, … ]\n\
             subver: null when the handshake was not completed\n\
             reached: connected, version received, handshake completed or admitted\n\
             connected, ended: Unix seconds; duration: seconds",
    example: "",
    needs_chain: true,
};

/// `getsyncstate`.
pub static GETSYNCSTATE: Spec = Spec {
    name: "getsyncstate",
    category: Category::Sync,
    params: &[],
    about: "Tells what sync is doing and why: the peer that headers come from and why it was chosen,\n\
            what has been asked of whom, what is decided next and when, what is on its way into the chain,\n\
            how every peer stands, and whether the watchdog had to put sync on its feet.",
    result: "{ phase, why, initialblockdownload, progress, missing, tip, best_header, best_shown, source, requests,\n  \
             next_deadline, next_deadline_for, window, stall_timeout, backlog, peers, source_changes,\n  \
             watchdog, manual_peers, dns_seeds }\n\
             progress: that of getblockchaininfo; missing: blocks that the chain lacks of the best one known\n\
             next_deadline_for: what becomes of what is not answered, or else what is decided next\n\
             source: { peer, addr, since, age, why }; requests: [ { peer, what, age }, … ]\n\
             peers: [ { id, addr, direction, best_known, common, in_flight, oldest, eligible, why, presynced }, … ]\n\
             source_changes: the last 50, [ { at, from, to, reason }, … ]\n\
             watchdog: { checks, fired, sought_peers, last: { at, reason, action } }; fired stays 0 unless\n\
             Handfast has a bug\n\
             manual_peers: those of --connect, --add-node and addnode, [ { node, state, peer, next_attempt,\n  \
             error, failures, failed_at }, … ]; dns_seeds: { seeds: [ { host, addresses, error }, … ], next_attempt }\n\
             since, at, failed_at: Unix seconds; other times: seconds, to the millisecond",
    example: "",
    needs_chain: true,
};
