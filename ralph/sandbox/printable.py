"""Make foreign output safe to show."""


def printable(data: bytes) -> str:
    """Return foreign output as text that cannot steer a terminal: newlines kept, everything else unprintable escaped."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)
