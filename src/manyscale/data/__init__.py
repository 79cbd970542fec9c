"""Events on disk and in memory: schema, datasets, npz, packed batches."""
