"""The development network: demo, scripted attackers, and whatever else ralph itself must not depend on."""
