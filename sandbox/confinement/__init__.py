"""The operating system's half of the sandbox: one file per layer, one table (`sandbox.confinement.layers`)."""
