"""CORE-22: the 22 downstream tasks of DCLM's CORE, asked of a worker with miner-written code.

    tasks      the 22 tasks and both tables of chance levels
    download   the public bundle, by a pinned digest
    source     its files, from a folder or an archive that is never unpacked
    declared   what it says about its tasks, compared with ours
    items      its items, parsed
    bundle     all of this together; absent tasks are named
    prompts    the text of a question with its solved examples
    questions  the tokens of a question, and which are scored
    manifest   which items are asked, by digest
    exam       an exam and the frozen answers to it
    examinee   what a worker is asked and must return
    sitting    first phase: answers are collected and frozen
    drawing    which of them are checked, by a secret key
    audit      second phase: a fresh worker gives them again by prefix alone
    results    what the answers are worth
    examining  all of this for one model in fresh sandboxes
    guarded    the examination that the Rules name

Nothing here imports torch. At the scales of the ladder CORE ranks nothing: it guards against losses elsewhere.
"""
