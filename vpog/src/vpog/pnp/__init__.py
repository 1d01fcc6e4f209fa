"""From weighed correspondences to poses: costs, batched solvers, RANSAC, and a loss over the pose distribution."""
