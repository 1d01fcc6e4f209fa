"""Public data sets to stores."""
