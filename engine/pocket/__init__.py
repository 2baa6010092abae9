"""The pocket world: models and a generator small enough to ship, built from nothing by `make pocket`."""
