//! Methods that Bitcoin Core lacks: sync and its audit, listening sockets.

use super::{Category, Spec};

pub(super) const ALL: &[&Spec] = &[&AUDIT, &GETLISTENERINFO, &GETPEERHISTORY, &GETSYNCSTATE];

/// `audit`.
pub static AUDIT: Spec = Spec {
    name: "audit",
    category: Category::Sync,
    params: &[],
    about: "Returns whether open sockets, peer table and sync table have the same connections, and whether the\n\
            invariants of the peers' lifecycle hold. The tables are of one moment and always equal; the sockets\n\
            may differ while a connection is being opened or closed.",
    result: "{ agrees, sockets, in_handshake, slots_taken, slots: { total, taken, home }, peer_table, sync_table, sync_peer,\n  \
             lifecycle: { queued, most, bound }, handled: { peermanager: { adds, dones }, syncmanager: { adds, dones } },\n  \
             invariants: [ { name, says, held, judged_by }, … ] }\n\
             lifecycle: queued Add and Done messages of both managers; bound: two per slot",
    example: "",
    needs_chain: true,
};

/// `getlistenerinfo`.
pub static GETLISTENERINFO: Spec = Spec {
    name: "getlistenerinfo",
    category: Category::Sync,
    params: &[],
    about: "Returns for every listening socket the accepted and the refused connections, the length of its accept\n\
            queue, and whether the self-probe, a connection to itself every 30 s, succeeds.",
    result: "{ sockets: [ { name, address, backlog: { asked, granted }, accept_queue, accepted,\n  \
             refused: { banned, no_slot, no_descriptor }, pauses, probe: { state, probes, failures, recreated,\n  \
             not_recreated, last: { at, result, took, why } } }, … ],\n  \
             listen_overflows, listen_drops }\n\
             granted: the backlog after the system's cap, see net.core.somaxconn\n\
             accept_queue: pending connections now\n\
             accepted: connections accepted since the start, without those of the self-probe; refused: those of\n\
             them that were closed at once; pauses: of accepting, for lack of descriptors or memory\n\
             state: unknown until a probe has ended, then accepting, busy (other connections were accepted, the\n\
             probe was not within 2 s) or failing; after 2 failures in a row the socket is opened again (recreated),\n\
             or cannot be (not_recreated: why)\n\
             result: accepted, overtaken, failed or not tried; took: seconds; at: Unix seconds\n\
             listen_overflows, listen_drops: connections that the system dropped since the node started because an\n\
             accept queue was full, or for any reason; counted by the system for all programs of this machine (or\n\
             network namespace) together\n\
             null: the system does not report it",
    example: "",
    needs_chain: false,
};

/// `getpeerhistory`.
pub static GETPEERHISTORY: Spec = Spec {
    name: "getpeerhistory",
    category: Category::Sync,
    params: &[],
    about: "Returns the last 1,000 closed connections, oldest first: the state that each reached, and the reason of its end.",
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
    about: "Returns the state of sync and its reason: the sync peer and why it was chosen, the requests in\n\
            flight, the next decision and its time, the blocks that are being validated, the state of\n\
            every peer, and whether the watchdog had to restart sync.",
    result: "{ phase, why, initialblockdownload, progress, missing, tip, best_header, best_shown, source, requests,\n  \
             next_deadline, next_deadline_for, window, stall_timeout, backlog, peers, source_changes,\n  \
             watchdog, manual_peers, dns_seeds }\n\
             progress: that of getblockchaininfo; missing: blocks of the best known chain that are not connected\n\
             next_deadline_for: the consequence of an unanswered request, or else the next decision\n\
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
