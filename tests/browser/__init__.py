"""The portal in a real browser: each journey as a person walks it, with pictures of the pages."""
