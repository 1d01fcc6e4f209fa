"""How runs are measured: views, keypoints, public benchmarks."""
