"""The methods: which networks each one trains, on which loss terms."""
