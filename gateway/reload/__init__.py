"""What may change while the gateway runs: the fleet's members and the reloadable part of the config."""
