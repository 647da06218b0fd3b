//! Header tree, low-work header sync and serving of headers.
