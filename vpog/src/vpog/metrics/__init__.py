"""What the benchmarks report: pose errors, recall and precision."""
