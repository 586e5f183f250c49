"""The reproduction certificate: pull, build a slice again from manifests to scores, compare, write down."""
