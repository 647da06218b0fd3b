//! Header and block sync: the SyncManager machine.
