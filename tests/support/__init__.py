"""What tests of several files share: drawn stores and tiles, damage, disks, servers, small networks and runs."""
