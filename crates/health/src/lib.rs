//! Passive verdicts on backends: a pure state machine.
