"""The validator: intake, measure, record, pay. Everything it decides is decided in ``ralph.judge``."""
