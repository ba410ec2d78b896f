"""Run code written by a paid adversary: launchers, limits, and the attack suite that proves them."""
