"""Labels of patch matching and flow, from depth, masks and poses."""
