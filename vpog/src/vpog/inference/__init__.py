"""From crops and templates to poses."""
