"""What several test files share, one noun per module."""
