"""Identity, tokenizers, pooling, backbone, readout, heads: tensors in, tensors out, no files."""
