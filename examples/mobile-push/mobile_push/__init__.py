"""A backend between flametree-notify and a mobile app: see ../README.md."""
