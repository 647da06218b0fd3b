//! The RPC server of the running binary, byte by byte: HTTP as clients really speak it,
//! who is let in, and what is had by plain `GET`.

mod access;
mod exchange;
mod http;
mod large;
mod leaving;
mod overload;
mod pipelining;
mod queueing;
mod reads;
mod rest;
mod scheduling;
mod strangers;
mod watching;
