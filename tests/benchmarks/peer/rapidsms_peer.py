"""The settings of a RapidSMS with its message log: a text is logged, and the supervisor of its sender is told.

Run by the peers' own Python; as a program it makes the database and its people.
"""

import os
import sys

SECRET_KEY = "of a benchmark"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "rapidsms_site"
USE_TZ = True
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "rapidsms", "rapidsms.backends.database",
    "rapidsms.contrib.messagelog", "forwards",
]  # fmt: skip
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BENCH_DATABASE"),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_BACKENDS = {"twilio": {"ENGINE": "rapidsms.backends.database.DatabaseBackend"}}
RAPIDSMS_ROUTER = "rapidsms.router.blocking.BlockingRouter"
LOGGING_CONFIG = None


def main():
    """Make the tables and the people."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.db import transaction
    from rapidsms.models import Backend, Connection, Contact

    many, first, supervisor = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with transaction.atomic():
        backend = Backend.objects.get_or_create(name="twilio")[0]
        Connection.objects.create(backend=backend, identity=supervisor, contact=Contact.objects.create(name="Samuel"))
        contacts = Contact.objects.bulk_create([Contact(name="Ama") for _ in range(many)])
        numbers = [Connection(backend=backend, identity=str(first + n), contact=c) for n, c in enumerate(contacts)]
        Connection.objects.bulk_create(numbers)


if __name__ == "__main__":
    main()
