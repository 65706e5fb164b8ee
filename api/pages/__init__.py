"""Pages for people: the grab pages and their QR codes. They are prepared bytes, the same for everyone.

What they show comes from the API, which they ask in the browser with the user's own token. Nothing here knows a user.
"""
