"""Pictures of groups, labels, matches and poses."""
