"""A gateway to practise on."""
