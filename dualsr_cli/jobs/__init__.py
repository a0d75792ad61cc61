"""Many items through few workers, with a manifest that survives whatever happens."""
