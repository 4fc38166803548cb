"""From a picture of any kind to what a network can read: where the ink is, digit by digit."""
