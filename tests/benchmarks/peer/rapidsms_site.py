"""The one address of the RapidSMS peer, and its WSGI application."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from django.urls import path
from rapidsms.backends.http.views import GenericHttpBackendView

urlpatterns = [path("in/", GenericHttpBackendView.as_view(backend_name="twilio"))]
