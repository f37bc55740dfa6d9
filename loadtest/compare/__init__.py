"""The gateway and other routers, in turn, on one emulated fleet under one seeded load. See docs/compare.md."""
