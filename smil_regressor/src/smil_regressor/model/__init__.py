"""The networks: backbones, cross-view fusion, body and camera heads, and the regressors made of them."""
