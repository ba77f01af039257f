"""What a text of a contact brings about: its supervisor gets it, by the router."""

from rapidsms.apps.base import AppBase
from rapidsms.models import Connection
from rapidsms.router import send

SUPERVISOR = "254711000001"


class Forwards(AppBase):
    """Answers everything by telling the supervisor."""

    def handle(self, msg):
        """Forward one text."""
        connection = msg.connections[0]
        if connection.contact is not None:
            supervisor = Connection.objects.get(backend__name="twilio", identity=SUPERVISOR)
            send(f'{connection.contact.name}: "{msg.text}"', [supervisor])
        return True
