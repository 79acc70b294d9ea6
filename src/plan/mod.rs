//! From typed instructions to a plan of steps. Pure: no I/O.
