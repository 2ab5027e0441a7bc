"""End-to-end tests, the demo, and the equipment they share."""
