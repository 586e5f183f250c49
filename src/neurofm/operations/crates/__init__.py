"""A run of the project as an RO-Crate: what it says, what it carries, how it is written."""
