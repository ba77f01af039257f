"""Why a message is where it is, in words for a screen: the same that the bot says in English on a phone.

A key that stands here for nothing is shown as it is, so that a gateway's new word is never swallowed.
"""

from __future__ import annotations

REASONS: dict[str, str] = {
    "stopped": "the number said STOP",
    "asked-already": "that phone is being asked about somebody else",
    "doubt": "the number may have said STOP and was asked, without an answer yet",
    "closed": "the case is closed",
    "changed": "the number or the consent changed after the preview",
    "text-blank": "its text would be empty",
    "text-too-long": "its text would be too long",
    "fault": "the system could not send it",
    "left": "the case was taken out of the group before it left",
    "no-number": "the case has no phone number",
    "same-phone": "it goes to the same phone for another case",
    "gateway-unknown": "its gateway is not set up here",
    "halted": "it was halted before it left",
    "paused": "it is paused, and waits to be resumed",
    "expired": "its time ran out before it could leave",
    "quiet-hours": "it is quiet hours there",
    "process-died": "the system stopped in the middle of sending; it may or may not have left",
    "restored": "it was open in a backup that was restored; it may have left since",
    "gateway-gone": "its gateway is not set up any more; it may or may not have left",
    "absent": "the gateway has no record of it; most likely it never left",
    "no-answer": "the gateway gave no clear answer; it may or may not have left",
    "unreachable": "the gateway could not be reached",
    "throttled": "the gateway asked us to slow down",
    "recipient": "the gateway says the number cannot be texted",
    "opted_out": "the gateway says the number opted out",
    "destination": "the gateway does not text that country",
    "sender": "our own number is not set up at the gateway",
    "gateway": "our account at the gateway was refused",
    "message": "the gateway refused the text",
    "gateway-code": "the network gave a code",
    "failover": "another gateway sends it",
    "queued": "it waits for its turn",
    "claimed": "it is about to leave",
    "sending": "it is being handed to the gateway",
    "previewed": "it is not confirmed yet",
    "scheduled": "it waits for its time",
    "replaced": "a newer preview took its place",
    "unknown": "it may or may not have been sent",
    "code-30003": "the phone was off or out of reach",
    "code-30004": "the message was blocked",
    "code-30005": "the number is not in use",
    "code-30006": "the number is a landline or cannot be reached",
    "code-30007": "the network filtered it",
    "code-30008": "the network gave no reason",
}


def said(reason: str | None, code: str | None = None) -> str:
    """A reason in words; where the gateway gave a code of its own, what that means and the code."""
    words = REASONS.get(reason or "", reason or "")
    return f"{REASONS.get(f'code-{code}', words)} (gateway {code})" if code else words
