"""The wire: sockets, JSON-RPC, events, calls for state, signing and sending."""
