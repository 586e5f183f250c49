"""Parts that several readers, or the modules of one, build on. Every preprocess stage depends on this folder."""
