"""Pictures and slides into files, from tiles that come one by one."""
