"""Router calldata to swaps: `routers.decode_call` is the entrance, one file per family of forms."""
