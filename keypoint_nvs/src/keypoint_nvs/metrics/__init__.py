"""What is measured: pictures, keypoints, their consistency."""
