"""The text of a question: solved examples, then the question, as CORE's users write it.

Items are shuffled once with ``random.Random(1337)``; the number of an item is its place in that order. Item i is preceded by examples
that ``random.Random(1234 + i)`` samples from all other items of its task, so its prompt does not depend on how many items are scored.
(Where others limit the items, they draw the examples from the limited list as well: the numbers agree for whole tasks only.)

An example is question, delimiter, right answer and a blank line. Contexts of language-modelling items lose the white space at both
ends; nothing else is changed. An item that the data hold twice can be its own example, as everywhere else.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ralph.evaluate.core22.items import Item, LanguageModeling, MultipleChoice, Schema
from ralph.evaluate.core22.tasks import Task

ORDER_SEED = 1337
SHOTS_SEED = 1234
BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question as texts.

    Args:
        texts: One per option, question and answer. Of a language-modelling item there is one option.
        gold: Which option is right.
        question: The text without the answer, where the scored part begins behind it; None where options are compared.
    """

    texts: tuple[str, ...]
    gold: int
    question: str | None = None


def ordered(count: int) -> list[int]:
    """Return the places in the file of items 0, 1, 2 and so on."""
    places = list(range(count))
    random.Random(ORDER_SEED).shuffle(places)  # noqa: S311 - a public order that everybody shares
    return places


def shots(index: int, count: int, shown: int) -> list[int]:
    """Return the items that precede item ``index`` of ``count`` as examples."""
    picks = random.Random(SHOTS_SEED + index).sample(range(count - 1), shown)  # noqa: S311 - as above
    return [pick + (pick >= index) for pick in picks]


def prompt(task: Task, items: Sequence[Item], index: int) -> Prompt:
    """Write the question that item ``index`` asks.

    Args:
        task: Delimiter and number of examples.
        items: All items of the task, shuffled.
        index: Which one asks.
    """
    solved = (_solved(items[other], task.delimiter) + BETWEEN for other in shots(index, len(items), task.shots))
    before, item = "".join(solved), items[index]
    match item:
        case MultipleChoice():
            return Prompt(texts=tuple(before + item.query + task.delimiter + choice for choice in item.choices), gold=item.gold)
        case Schema():
            texts = tuple(before + context + task.delimiter + item.continuation for context in item.contexts)
            return Prompt(texts=texts, gold=item.gold)
        case LanguageModeling():
            question = before + item.context.strip() + task.delimiter
            return Prompt(texts=(question + item.continuation,), gold=0, question=question.rstrip())


def _solved(item: Item, delimiter: str) -> str:
    match item:
        case MultipleChoice():
            return item.query + delimiter + item.choices[item.gold]
        case Schema():
            return item.contexts[item.gold] + delimiter + item.continuation
        case LanguageModeling():
            return item.context.strip() + delimiter + item.continuation
