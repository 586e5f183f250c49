"""One module per kind of figure; each function draws plain arrays on axes that it is given."""
