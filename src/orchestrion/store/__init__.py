"""What is remembered: one SQL database, SQLite or PostgreSQL, and nothing beside it.

``store.py`` says what a store is and how a transaction is used, ``opening.py`` which one an
address means; ``sqlite.py`` and ``postgres.py`` are the two implementations; ``statements.py``
knows every statement of ``sql/`` by name; ``migrate.py`` brings a database to this program's
schema; ``relocation.py`` moves a SQLite file, ``rebuild.py`` makes
one anew. May import ``core`` and the database drivers. Knows no use case.
"""

from orchestrion.store.migrate import Upgrade
from orchestrion.store.opening import file_of, open_store, prepare_store
from orchestrion.store.store import Origin, ProjectKey, Store, Transaction

__all__ = ["Origin", "ProjectKey", "Store", "Transaction", "Upgrade", "file_of", "open_store", "prepare_store"]
