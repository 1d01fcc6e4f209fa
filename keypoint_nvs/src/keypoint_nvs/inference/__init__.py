"""From pictures to keypoints and views."""
