"""What tests share: drawn stores and tiles, damage, servers, small networks."""
