"""What one does with the repository; not part of what is installed."""
