//! Pure data path: validation rules, windows. No clock, no I/O.
