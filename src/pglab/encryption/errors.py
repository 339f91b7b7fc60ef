"""What can go wrong with ciphertexts and keys, as one tree below ``PglabError``.

    EncryptionError (ValueError)
    ├── MalformedError                  the bytes are not of our format, or are cut short
    ├── UnknownKeyError (LookupError)   a key that is asked for is not among the keys at hand
    ├── TamperedError                   the content is not what was encrypted
    │   └── UnwrapError                 the key does not open the data key: three causes look alike
    └── KeyMaterialError                a key, or a list of keys, cannot be used
        └── KeyFileError (OSError)      … because of the file that it lies in

No message and no attribute holds a key or a plaintext: errors end up in logs.
"""

from __future__ import annotations

from pglab.errors import PglabError

__all__ = [
    "EncryptionError",
    "KeyFileError",
    "KeyMaterialError",
    "MalformedError",
    "TamperedError",
    "UnknownKeyError",
    "UnwrapError",
]


class EncryptionError(PglabError, ValueError):
    """A value cannot be encrypted or decrypted; no plaintext, not even a part of it, was given."""


class MalformedError(EncryptionError):
    """The bytes are not a ciphertext of ours, are cut short, or hold another kind of content."""


class UnknownKeyError(EncryptionError, LookupError):
    """A key-encryption key is not among the keys at hand; its backup may still have it."""


class TamperedError(EncryptionError):
    """The authentication tag does not fit: the content was changed after its encryption."""


class UnwrapError(TamperedError):
    """The key-encryption key does not open the data key.

    Either the header or the wrapped key was changed, or the value belongs to another row, or
    another key goes by this id. AES-GCM answers all three alike, with a tag that does not fit.
    """


class KeyMaterialError(EncryptionError):
    """A key has another length, is no base64, is given twice, or its id cannot be an id."""


class KeyFileError(KeyMaterialError, OSError):
    """A file of keys is missing, exists already, could be read by others, or cannot be read."""
