"""One suite a port: what every adapter of it must do. An adapter's test module subclasses it and opens the stores."""
