"""Settings of each data set (TOML); experiments write their results into runs/out/."""
