"""What a page says after a redirect. The address only names it: no link can put words into the console's mouth."""

from api.console.texts import marked

NOTICES = {
    "done": marked("Done."),
    "waits": marked("Another operator must approve this. It waits under Approvals."),
    "refused": marked("Refused. Nothing was done."),
    "approved": marked("Approved and done."),
    "saved": marked("Saved."),
    "signed_out": marked("You have signed out."),
    "set_up": marked("Your sign-in is set up. Sign in with the next code: each works once."),
    "begun": marked("It has begun. This page tells when it is done."),
    "study_under_way": marked("Another study is under way. This is it."),
    "session_ended": marked("The session has ended."),
}
