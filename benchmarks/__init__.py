"""Scripts that print quality, robustness, speed and memory, each beside a baseline in one run."""
