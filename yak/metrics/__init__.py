"""What a process tells Prometheus of itself; imported only where --metrics-port is said."""
