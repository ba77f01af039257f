"""The one address of the RapidSMS peer, and its WSGI application."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from django.urls import path  # noqa: E402  Django must be set up first
from rapidsms.backends.http.views import GenericHttpBackendView  # noqa: E402

urlpatterns = [path("in/", GenericHttpBackendView.as_view(backend_name="twilio"))]
