//! Starts real servers and real cotton processes for tests, the demo and the benchmarks.
