"""What is known of items before any model: vectors and graphs."""
