//! Programs that must not compile are in `cases`.
