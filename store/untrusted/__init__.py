"""What comes from outside is checked before it is used: names that become files, JSON and TOML of any origin."""
