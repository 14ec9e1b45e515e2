//! Tests of the protocol in the simulator.
