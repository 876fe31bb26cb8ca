"""Published weights: downloaded once, kept in a cache, held to what they were at first use."""
