"""Recipe trees in a content-addressed store: a listing under the tree's digest, and a blob for every file."""

from ralph.errors import UntrustedInputError
from ralph.interfaces import BundleStore
from ralph.protocol.patch import RecipeTree, parse_listing

MAX_LISTING_BYTES = 1 << 16


def store_tree(store: BundleStore, tree: RecipeTree) -> bytes:
    """Put a tree into the store; return its digest. Repeating it changes nothing."""
    for data in tree.files.values():
        store.put(data)
    return store.put(tree.to_bytes())


def load_tree(store: BundleStore, digest: bytes, *, max_file_bytes: int) -> RecipeTree:
    """Return the tree with this digest.

    Raises:
        StoreUnavailable: A part of it is not there.
        UntrustedInputError: What is there is not a tree, or larger than allowed.
    """
    listing = parse_listing(store.get(digest, limit=MAX_LISTING_BYTES))
    tree = RecipeTree(files={path: store.get(content, limit=max_file_bytes) for path, content in listing.items()})
    if tree.digest() != digest:
        raise UntrustedInputError("INT-HASH", f"tree {digest.hex()[:16]} has another digest than its name")
    return tree
